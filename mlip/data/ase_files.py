"""extxyz, ASE databases and whatever else `ase.io.iread` reads, as trajectories.

Consecutive frames with the same material id and composition are one trajectory. The id is the first of
`ID_KEYS` that `atoms.info` (a database row's key-value pairs) has. Consecutive frames without an id are one
trajectory as long as they have the same elements in the same order: steps of a relaxation or of MD, which must
not be torn apart between training and test data. Its id is the source's name, and from the second such material
of the file on a number: `run1/OUTCAR`, `run1/OUTCAR-000001`.

Energies: the label is ASE's `energy`, in VASP's files the energy at sigma -> 0 that ALEXANDRIA and the
Materials Project publish. Forces and stress differentiate `free_energy`; in metals the two differ by some
meV/atom. A frame that has a free energy only is not used, lest the two be mixed. Other labels that are missing,
or NaN, stay missing. Frames with labels that cannot be (a wrong shape, infinities) are dropped and counted, and
the material is `Skipped` if no frame is left; a fault of a structure skips the material.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.db import connect
from ase.io import iread
from ase.io.extxyz import read_xyz

from mlip.data.alexandria import scalar_properties
from mlip.data.naming import dimensionality_by_id, functional_by_file_name
from mlip.data.records import Frame, MalformedError, Skipped, Trajectory
from mlip.data.streams import OnBytes, read_lines
from mlip.errors import MlipError

ID_KEYS = ("material_id", "mat_id", "alexandria_id", "mptrj_traj_id", "run_id", "sid")
"""`sid` is that of OMat24's and sAlex's databases."""

_EXTXYZ = (".extxyz", ".xyz", ".extxyz.gz", ".xyz.gz", ".extxyz.bz2", ".xyz.bz2")
_PROPERTIES = ("e_form", "e_above_hull", "band_gap_ind", "band_gap_dir", "total_mag", "dos_ef", "spg")


_SUFFIXES = re.compile(r"(\.[a-z]\w*)?(\.gz|\.bz2)?$", re.IGNORECASE)
"""Of a file's name: its format and how it is packed."""


class _Located(NamedTuple):
    """A structure and where it is in the file."""

    atoms: Atoms
    index: int


class _BadLabelError(MalformedError):
    """The structure is sound, and what was computed for it is not."""


def read(
    path: Path,
    *,
    functional: str | None = None,
    dimensionality: int | None = None,
    on_bytes: OnBytes | None = None,
    name: str | None = None,
) -> Iterator[Trajectory | Skipped]:
    """The materials of a file in its order; extxyz (.gz, .bz2) and databases are streamed.

    Args:
        functional: of all materials; None = `info["functional"]`, else as the file's name says.
        dimensionality: 1, 2 or 3 of all; None = `info["dimensionality"]`, else by the number of periodic
            directions, else, if there are three, as the frame's id says, else 3.
        name: what the file is called among the sources, for the ids of materials that have none; None = its name.

    Raises:
        MlipError: unreadable or truncated file (with the frame), or a functional that nothing tells.
    """
    located = (_Located(atoms, index) for index, atoms in enumerate(_structures(path, on_bytes)))
    name, n_nameless = _SUFFIXES.sub("", name or path.name), 0
    for (own_id, _), group in groupby(located, key=lambda one: _identity(one.atoms)):
        material_id = own_id or (f"{name}-{n_nameless:06d}" if n_nameless else name)
        n_nameless += own_id is None
        members = list(group)
        try:
            yield _trajectory(material_id, members, path, functional, dimensionality)
        except MalformedError as fault:
            yield fault.as_skipped(material_id, str(path))


def _structures(path: Path, on_bytes: OnBytes | None) -> Iterator[Atoms]:
    if path.name.lower().endswith(_EXTXYZ):
        return _extxyz(path, on_bytes)
    if path.suffix.lower() in (".db", ".aselmdb"):
        return _database(path)
    return _any_format(path)


def _extxyz(path: Path, on_bytes: OnBytes | None) -> Iterator[Atoms]:
    """Frame by frame. ASE's own reader seeks to each frame, which in a .gz means to decompress from the start
    (20 to 300 times slower), so it is given one frame's text at a time."""
    lines = read_lines(path, on_bytes)
    for index, header in enumerate(line for line in lines if line.strip()):
        where = f"{path}: frame {index}"
        if not header.strip().isdigit():
            raise MlipError(f"a number of atoms expected, found {header.strip()[:40]!r}", where=where)
        text = [header, *(next(lines, "") for _ in range(1 + int(header)))]
        if not text[-1].strip():
            raise MlipError("the file ends within this frame", where=where, fix="a truncated file?")
        try:
            yield next(read_xyz(StringIO("".join(text)), 0))
        except Exception as error:  # ASE's parser lets through whatever numpy and it stumble on
            raise MlipError(f"not extended XYZ ({error})", where=where) from None


def _database(path: Path) -> Iterator[Atoms]:
    try:
        for row in connect(path).select():
            atoms = row.toatoms()
            atoms.info |= {
                key: row.data[key] for key in (*ID_KEYS, *_PROPERTIES) if key in row.data
            } | row.key_value_pairs
            yield atoms
    except ImportError as error:  # .aselmdb
        raise MlipError(
            f"ASE needs another package for this database ({error})",
            where=str(path),
            fix="pip install 'alexandria-mlip[lmdb]'",
        ) from None
    except Exception as error:  # sqlite, lmdb and json back ends each have their own
        raise MlipError(f"not an ASE database ({error})", where=str(path)) from None


def _any_format(path: Path) -> Iterator[Atoms]:
    try:
        yield from iread(path, index=":")
    except Exception as error:  # each of ASE's readers fails in its own way
        raise MlipError(
            f"ASE cannot read it ({str(error) or type(error).__name__})",
            where=str(path),
            fix="convert it to extxyz",
        ) from None


def _own_id(atoms: Atoms) -> str | None:
    return next((str(atoms.info[key]) for key in ID_KEYS if key in atoms.info), None)


def _identity(atoms: Atoms) -> tuple[str | None, bytes]:
    """What all frames of a material have in common: id and composition, or the elements in their order."""
    own_id = _own_id(atoms)
    numbers = atoms.numbers if own_id is None else np.sort(atoms.numbers)
    return own_id, numbers.tobytes()


def _trajectory(
    material_id: str,
    members: list[_Located],
    path: Path,
    functional: str | None,
    dimensionality: int | None,
) -> Trajectory:
    info = members[0].atoms.info
    frames, faults = [], []
    for step, one in enumerate(members):
        try:
            frames.append(_frame(one.atoms, step, f"frame {one.index}"))
        except _BadLabelError as fault:
            faults.append(fault)
    if not frames:
        raise faults[0]
    return Trajectory(
        material_id,
        frames,
        functional or str(info.get("functional") or functional_by_file_name(path)),
        dimensionality or _dimensionality(members[0].atoms),
        scalar_properties({key: info[key] for key in _PROPERTIES if key in info}),
        Counter(fault.reason for fault in faults),
    )


def _dimensionality(atoms: Atoms) -> int:
    given = str(atoms.info.get("dimensionality", "")).upper().removesuffix("D")
    if given in ("1", "2", "3"):
        return int(given)
    n_periodic = int(atoms.pbc.sum())
    if n_periodic == 0:
        raise MalformedError("no periodic direction", "its dimensionality is not told: pass --dimensionality")
    if n_periodic < 3:
        return n_periodic
    return dimensionality_by_id(_own_id(atoms) or "") or 3


def _frame(atoms: Atoms, step: int, where: str) -> Frame:
    n = len(atoms)
    if n == 0:
        raise MalformedError("no sites", where)
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        raise MalformedError("bad coordinates", f"{where}: not finite")
    if atoms.numbers.min() < 1:
        raise MalformedError("unknown element", where)
    labels = dict(atoms.calc.results) if atoms.calc is not None else {}
    if "energy" not in labels and "free_energy" in labels:
        raise _BadLabelError("free energy without energy", where)
    return Frame(
        numbers=atoms.numbers.astype(np.int16),
        positions=np.array(atoms.positions, dtype=np.float64),
        cell=np.array(atoms.cell.array, dtype=np.float64),
        pbc=np.array(atoms.pbc, dtype=bool),
        energy=_energy(labels.get("energy"), where),
        forces=_label(labels.get("forces"), (n, 3), "forces", where),
        stress=_label(labels.get("stress"), (6,), "stress", where),
        magmoms=_label(labels.get("magmoms"), (n,), "magmoms", where),
        calculation=int(atoms.info.get("calculation", 0)),
        ionic_step=int(atoms.info.get("ionic_step", step)),
    )


def _energy(value: Any, where: str) -> float:
    """NaN where there is none; an energy that is given, but not a finite number, is a fault."""
    if value is None:
        return float("nan")
    if not math.isfinite(value):
        raise _BadLabelError("no energy", f"{where}: energy is {value}")
    return float(value)


def _label(values: Any, shape: tuple[int, ...], name: str, where: str) -> np.ndarray | None:
    """float64, NaN where missing."""
    if values is None:
        return None
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise _BadLabelError(f"{name} of a wrong shape", f"{where}: {array.shape}, not {shape}")
    if np.isinf(array).any():
        raise _BadLabelError(f"infinite {name}", where)
    return array
