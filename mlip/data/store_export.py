"""Export of a store for other trainers: extended XYZ, an ASE database, or the Open MatSci ML Toolkit's LMDB.

    OUT.extxyz(.gz)   ASE, MACE, matgl, NequIP, ...; `mlip data build` reads it back
    OUT.db, .aselmdb  ASE databases (the latter is fairchem's: extra `lmdb`)
    OUT.lmdb          matsciml's AlexandriaDataset, which takes the folder of such files (extra `lmdb`)

Units are the store's and ASE's: eV, A, eV/A, eV/A^3 with tension positive. A missing label is not written, except for
magnetic moments in the LMDB, whose reader requires them: they are NaN. The file appears when it is complete.
"""

import errno
import gzip
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from ase.db import connect
from ase.geometry import complete_cell
from ase.io.extxyz import write_extxyz

from mlip.data.records import Frame
from mlip.data.store import Material, Store
from mlip.errors import MlipError
from mlip.files.output_paths import cannot_write
from mlip.files.whole_file import partial_path, put_in_place
from mlip.units import tensor_from_voigt

OnFrame = Callable[[int], None]
"""Function that receives the number of frames written."""

_LARGEST_LMDB = 1 << 41
"""Address space in bytes; the file is only as large as its content."""
_FRAMES_PER_COMMIT = 1000


def export(store: Store, out: Path, split: str | None = None, on_frame: OnFrame | None = None) -> int:
    """Write the frames of a split (None: all) in the order of the store; returns their number. Compositions without a
    structure are left out.

    Raises:
        MlipError: the format is unknown, its package is not installed, there is no frame to write, or the file cannot
            be written (no such place, a full disk).
    """
    write = _writer_of(out)
    partial = partial_path(out)
    n_frames = 0

    def counted() -> Iterator[tuple[Material, Frame]]:
        nonlocal n_frames
        for material in store.materials():
            if not material.has_structure or (split is not None and material.split != split):
                continue
            for k in material.frames:
                yield material, store.frame(k)
                n_frames += 1
                if on_frame:
                    on_frame(n_frames)

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write(counted(), partial, out.name)
        if not n_frames:
            what = "holds compositions and no structure" if split is None else f"no frame in the split {split!r}"
            raise MlipError(what, where=str(store.path))
        put_in_place(partial, out)
    except OSError as error:
        raise cannot_write(out, error) from None
    finally:
        _remove(partial)
    return n_frames


def _remove(partial: Path) -> None:
    """Remove what a failed export has left, including the databases' own files."""
    for end in ("", "-lock", "-journal", ".lock"):
        with suppress(OSError):  # nothing is there if the place could not be made
            partial.with_name(f"{partial.name}{end}").unlink()


@contextmanager
def _errors_of(package: str) -> Iterator[None]:
    """Context that turns errors of a database package into the OSError behind them: with a file that was just created,
    the disk is the only cause of trouble."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != package:
            raise
        raise OSError(errno.EIO, str(error)) from None


_Frames = Iterator[tuple[Material, Frame]]


def _writer_of(out: Path) -> Callable[[_Frames, Path, str], None]:
    name = out.name.lower()
    if name.endswith((".extxyz", ".xyz", ".extxyz.gz", ".xyz.gz")):
        return _write_extxyz
    if name.endswith((".db", ".aselmdb")):
        return _write_database
    if name.endswith(".lmdb"):
        return _write_matsciml
    raise MlipError("no format of this name", where=str(out), fix="*.extxyz, *.extxyz.gz, *.db, *.aselmdb or *.lmdb")


def as_atoms(frame: Frame, info: dict[str, Any]) -> Atoms:
    """The frame as ASE Atoms, with the labels that are known."""
    atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc, info=info)
    labels = {"forces": frame.forces, "stress": frame.stress, "magmoms": frame.magmoms}
    known = {name: values for name, values in labels.items() if values is not None}
    if np.isfinite(frame.energy):
        known["energy"] = frame.energy
    atoms.calc = SinglePointCalculator(atoms, **known)
    return atoms


def _write_extxyz(frames: _Frames, path: Path, name: str) -> None:
    with gzip.open(path, "wt") if name.lower().endswith(".gz") else path.open("w", encoding="utf-8") as stream:
        for material, frame in frames:
            write_extxyz(stream, [as_atoms(frame, _where_from(material, frame) | dict(material.properties))])


def _write_database(frames: _Frames, path: Path, name: str) -> None:
    try:
        database = connect(path, type=name.rpartition(".")[2].lower(), append=False)
    except ImportError as error:
        raise _not_installed(error) from None
    with _errors_of("lmdb" if name.lower().endswith(".aselmdb") else "sqlite3"), database:
        for material, frame in frames:
            pairs = _where_from(material, frame)
            # ids may look like numbers, which ASE's key-value pairs must not
            data = {"material_id": pairs.pop("material_id"), **material.properties}
            database.write(as_atoms(frame, {}), key_value_pairs=pairs, data=data)


def _write_matsciml(frames: _Frames, path: Path, name: str) -> None:
    """Write an LMDB with keys "0", "1", ... and pickled dictionaries of plain numbers, texts and lists."""
    try:
        import lmdb
    except ImportError as error:
        raise _not_installed(error) from None
    with _errors_of("lmdb"), lmdb.open(str(path), map_size=_LARGEST_LMDB, subdir=False, meminit=False) as environment:
        transaction = environment.begin(write=True)
        for k, (material, frame) in enumerate(frames):
            transaction.put(str(k).encode("ascii"), pickle.dumps(_matsciml_sample(material, frame), protocol=4))
            if k % _FRAMES_PER_COMMIT == _FRAMES_PER_COMMIT - 1:
                transaction.commit()
                transaction = environment.begin(write=True)
        transaction.commit()


def _matsciml_sample(material: Material, frame: Frame) -> dict[str, Any]:
    n = len(frame)
    unknown = np.full((n, 3), np.nan)
    numbers = {name: value for name, value in material.properties.items() if isinstance(value, float)}
    sample = {
        "entry_id": f"{material.id}/{frame.calculation}/{frame.ionic_step}",
        "structure": _pymatgen_structure(frame),
        "force": (unknown if frame.forces is None else frame.forces).tolist(),
        "magmoms": (unknown[:, 0] if frame.magmoms is None else frame.magmoms).tolist(),
        "targets": {"regression": {"energy_total": frame.energy, **numbers}},
        **_where_from(material, frame),
    }
    if frame.stress is not None:
        sample["stress"] = tensor_from_voigt(frame.stress).tolist()
    return sample


def _pymatgen_structure(frame: Frame) -> dict[str, Any]:
    """pymatgen's Structure dict of a frame, with unit vectors for lattice vectors that it lacks."""
    cell = complete_cell(frame.cell)
    fractions = np.linalg.solve(cell.T, frame.positions.T).T
    sites = [
        {
            "species": [{"element": chemical_symbols[z], "occu": 1}],
            "abc": abc,
            "xyz": xyz,
            "properties": {},
            "label": "",
        }
        for z, abc, xyz in zip(frame.numbers, fractions.tolist(), frame.positions.tolist(), strict=True)
    ]
    return {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "charge": 0,
        "lattice": {"matrix": cell.tolist(), "pbc": frame.pbc.tolist()},
        "sites": sites,
    }


def _where_from(material: Material, frame: Frame) -> dict[str, Any]:
    """Origin of a frame, under the names that `mlip data build` reads back."""
    return {
        "material_id": material.id,
        "functional": material.functional,
        "dimensionality": material.dimensionality,
        "calculation": frame.calculation,
        "ionic_step": frame.ionic_step,
        "split": material.split,
    }


def _not_installed(error: ImportError) -> MlipError:
    return MlipError(f"another package is needed ({error})", fix="pip install 'alexandria-mlip[lmdb]'")
