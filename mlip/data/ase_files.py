"""extxyz, ASE databases and whatever else `ase.io.iread` reads, as trajectories.

Consecutive frames with the same material id and composition are one trajectory. The id is the first of
`ID_KEYS` that `atoms.info` (a database row's key-value pairs) has, else the file's name and the frame's index.

Energies: the label is ASE's `energy`, in VASP's files the energy at sigma -> 0 that ALEXANDRIA and the
Materials Project publish. Forces and stress differentiate `free_energy`; in metals the two differ by some
meV/atom. A frame that has a free energy only is not used, lest the two be mixed. Other labels that are missing
stay missing.
"""

import math
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
from mlip.data.naming import dimensionality_by_name, functional_by_name
from mlip.data.records import Frame, MalformedError, Skipped, Trajectory
from mlip.data.streams import OnBytes, read_lines
from mlip.errors import MlipError

ID_KEYS = ("material_id", "mat_id", "alexandria_id", "mptrj_traj_id", "run_id")

_EXTXYZ = (".extxyz", ".xyz", ".extxyz.gz", ".xyz.gz", ".extxyz.bz2", ".xyz.bz2")
_PROPERTIES = ("e_form", "e_above_hull", "band_gap_ind", "band_gap_dir", "total_mag", "dos_ef", "spg")


class _Located(NamedTuple):
    """A structure and where it is."""

    material_id: str
    atoms: Atoms
    index: int


def read(
    path: Path,
    *,
    functional: str | None = None,
    dimensionality: int | None = None,
    on_bytes: OnBytes | None = None,
) -> Iterator[Trajectory | Skipped]:
    """The materials of a file in its order; extxyz (.gz, .bz2) and databases are streamed.

    Args:
        functional: of all materials; None = `info["functional"]`, else as the file's or folder's name says.
        dimensionality: 1, 2 or 3 of all; None = `info["dimensionality"]`, else by the number of periodic
            directions, else, if there are three, as id or name say.

    Raises:
        MlipError: unreadable or truncated file (with the frame), or a functional that nothing tells.
    """
    located = (
        _Located(_material_id(atoms, path, index), atoms, index)
        for index, atoms in enumerate(_structures(path, on_bytes))
    )
    for (material_id, _), group in groupby(located, key=lambda one: (one.material_id, _composition(one.atoms))):
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
            atoms.info |= row.key_value_pairs
            yield atoms
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


def _material_id(atoms: Atoms, path: Path, index: int) -> str:
    for key in ID_KEYS:
        if key in atoms.info:
            return str(atoms.info[key])
    return f"{path.name.split('.')[0]}-{index:06d}"


def _composition(atoms: Atoms) -> bytes:
    return np.sort(atoms.numbers).tobytes()


def _trajectory(
    material_id: str,
    members: list[_Located],
    path: Path,
    functional: str | None,
    dimensionality: int | None,
) -> Trajectory:
    info = members[0].atoms.info
    return Trajectory(
        material_id,
        [_frame(one.atoms, step, f"frame {one.index}") for step, one in enumerate(members)],
        functional or str(info.get("functional") or functional_by_name(path)),
        dimensionality or _dimensionality(material_id, members[0].atoms, path),
        scalar_properties({key: info[key] for key in _PROPERTIES if key in info}),
    )


def _dimensionality(material_id: str, atoms: Atoms, path: Path) -> int:
    given = str(atoms.info.get("dimensionality", "")).upper().removesuffix("D")
    if given in ("1", "2", "3"):
        return int(given)
    n_periodic = int(atoms.pbc.sum())
    if n_periodic == 0:
        raise MalformedError("no periodic direction", "its dimensionality is not told: pass --dimensionality")
    return dimensionality_by_name(material_id, path) if n_periodic == 3 else n_periodic


def _frame(atoms: Atoms, step: int, where: str) -> Frame:
    labels = dict(atoms.calc.results) if atoms.calc is not None else {}
    if "energy" not in labels and "free_energy" in labels:
        raise MalformedError("free energy without energy", where)
    n = len(atoms)
    if n == 0:
        raise MalformedError("no sites", where)
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        raise MalformedError("bad coordinates", f"{where}: not finite")
    if atoms.numbers.min() < 1:
        raise MalformedError("unknown element", where)
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
        raise MalformedError("no energy", f"{where}: energy is {value}")
    return float(value)


def _label(values: Any, shape: tuple[int, ...], name: str, where: str) -> np.ndarray | None:
    if values is None:
        return None
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise MalformedError(f"{name} of a wrong shape", f"{where}: {array.shape}, not {shape}")
    return array
