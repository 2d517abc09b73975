"""Reader of extxyz, ASE databases and any other format of `ase.io.iread`, as trajectories.

Frames with the same material id, functional and composition form one trajectory, wherever they are in the file. Frames
of a shuffled file stay in memory until the last frame of their material has been read. The id is the first of `ID_KEYS`
in `atoms.info` (for a database: in the row's key-value pairs). If an id has several compositions, those after the first
have the formula appended to the id. Consecutive frames without an id form one trajectory as long as they have the same
elements in the same order: they are steps of a relaxation or of MD, which must not be split between training and test
data. Its id is the source's name, followed by a number from the second such material of the file on: `run1/OUTCAR`,
`run1/OUTCAR-000001`.

The energy label is ASE's `energy`, which for VASP is the energy at sigma -> 0 that ALEXANDRIA and the Materials Project
publish. Forces and stress are derivatives of `free_energy`; in metals the two energies differ by some meV/atom. A frame
that has only a free energy is not used, so that the two are not mixed. `labels` decides which labels are usable. An
unusable frame is dropped and counted, and the material is `Skipped` if no frame is left.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.db import connect
from ase.io import iread

from mlip.data.quality import check_structure, check_structures
from mlip.data.readers.alexandria import scalar_properties
from mlip.data.readers.extxyz import EXTXYZ, frame_blocks, ids_of_blocks
from mlip.data.readers.labels import Keys, labels_of, unread_labels, why_without_energy
from mlip.data.readers.naming import dimensionality_by_id, functional_by_file_name, settled_functional
from mlip.data.readers.streams import OnBytes
from mlip.data.records import Frame, MalformedError, Skipped, Trajectory
from mlip.data.schema import end_mark
from mlip.data.structures import DEUTERIUM, check_occupancies, has_heavy_hydrogen
from mlip.errors import MlipError

ID_KEYS = ("material_id", "mat_id", "alexandria_id", "mptrj_traj_id", "run_id", "sid")
"""Keys of `atoms.info` that hold the material id; OMat24's and sAlex's databases use `sid`."""

FUNCTIONAL_KEYS = ("functional", "xc_functional", "xc")
"""Keys of `atoms.info` that state the functional."""

_PROPERTIES = ("e_form", "e_above_hull", "band_gap_ind", "band_gap_dir", "total_mag", "dos_ef", "spg")

_SUFFIXES = re.compile(r"(\.[a-z]\w*)?(\.gz|\.bz2)?$", re.IGNORECASE)
"""Suffixes of a file's name for its format and its compression."""

ENDINGS = (
    *(f"{ending}{packed}" for ending in (".extxyz", ".xyz") for packed in ("", ".gz", ".bz2")),
    *(".db", ".aselmdb", ".traj", ".cif", ".vasp"),
)
"""Endings of the files that are read from a folder."""

_MOST_STEPS = 2**31
"""Exclusive upper limit of run and step numbers, which are stored as int32."""


class _Located(NamedTuple):
    """A structure (or the fault in its place) and its position in the file."""

    atoms: Atoms | MalformedError
    index: int
    last: int
    """Index of the last frame with the same id."""


class _Group(NamedTuple):
    """Traits that all frames of a material share."""

    own_id: str | None
    functional: str
    numbers: bytes
    """Bytes of the atomic numbers; sorted if there is an id, else in their order."""


def has_ending(path: Path) -> bool:
    """Whether a file has one of `ENDINGS`."""
    return path.name.lower().endswith(ENDINGS)


def stem_of(name: str) -> str:
    """File name without format and compression, which names materials that have no id."""
    return _SUFFIXES.sub("", name)


def read(
    path: Path,
    *,
    functional: str | None = None,
    dimensionality: int | None = None,
    on_bytes: OnBytes | None = None,
    name: str | None = None,
    stem: str | None = None,
    keys: Keys | None = None,
) -> Iterator[Trajectory | Skipped]:
    """Materials of a file, in the order of their last frames; extxyz (.gz, .bz2) and databases are streamed.

    Args:
        functional: functional of materials whose frames state none; None: as the file's name states.
        dimensionality: 1, 2 or 3 for all materials; None: `info["dimensionality"]`, else the number of periodic
            directions if it is 1 or 2, else as the frame's id states, else 3.
        name: name of the file among the sources, used in the ids of materials that have none; None: the file's name.
        stem: `name` without its format; None: `stem_of` the name.
        keys: keys of labels that the file has under other names than ASE's (`mlip.data.readers.labels`).

    Raises:
        MlipError: the file is unreadable, or nothing states the functional.
    """
    stem, n_nameless = stem or stem_of(name or path.name), 0
    compositions: dict[tuple[str, str], int] = {}
    for members in _materials(_located(path, on_bytes)):
        first = members[0].atoms
        if isinstance(first, MalformedError):
            yield first.as_skipped(f"{stem}: frame {members[0].index}", str(path))
            continue
        group = _group(first)
        if group.own_id is None:
            material_id = f"{stem}-{n_nameless:06d}" if n_nameless else stem
            n_nameless += 1
        elif compositions.setdefault((group.own_id, group.functional), hash(group.numbers)) == hash(group.numbers):
            material_id = group.own_id
        else:
            material_id = f"{group.own_id}-{first.symbols.get_chemical_formula()}"
        try:
            yield _trajectory(material_id, members, path, functional, dimensionality, keys or {})
        except MalformedError as fault:
            yield fault.as_skipped(material_id, str(path))


def _materials(located: Iterable[_Located]) -> Iterator[list[_Located]]:
    """Frames grouped by material. Frames with an id wait for the last frame of that id; a fault is a group of its
    own."""
    waiting: defaultdict[str, list[_Located]] = defaultdict(list)
    nameless: list[_Located] = []
    for one in located:
        if isinstance(one.atoms, MalformedError):
            yield [one]
            continue
        group = _group(one.atoms)
        if nameless and (group.own_id is not None or group != _group(nameless[-1].atoms)):
            yield nameless
            nameless = []
        if group.own_id is None:
            nameless.append(one)
            continue
        waiting[group.own_id].append(one)
        if one.index >= one.last:
            yield from _gathered(waiting.pop(group.own_id))
    if nameless:
        yield nameless
    for members in waiting.values():
        yield from _gathered(members)


def _gathered(members: list[_Located]) -> Iterator[list[_Located]]:
    """Frames of an id, grouped by functional and composition. If frames of other materials lie between them, steps are
    sorted by their numbers, provided that all have one."""
    parts: defaultdict[_Group, list[_Located]] = defaultdict(list)
    for one in members:
        parts[_group(one.atoms)].append(one)
    is_torn = members[-1].index - members[0].index >= len(members)
    for part in parts.values():
        if is_torn and all("ionic_step" in one.atoms.info for one in part):
            part.sort(key=lambda one: (_count(one.atoms, "calculation", 0), _count(one.atoms, "ionic_step", one.index)))
        yield part


def _located(path: Path, on_bytes: OnBytes | None) -> Iterator[_Located]:
    if path.name.lower().endswith(EXTXYZ):
        yield from _extxyz(path, on_bytes)
        return
    read_all = _database if path.suffix.lower() in (".db", ".aselmdb") else _any_format
    last = _last_of_ids(read_all(path))
    for index, atoms in enumerate(read_all(path)):
        yield _Located(atoms, index, last.get(_id_of(atoms), index))


def _last_of_ids(structures: Iterator[Atoms | MalformedError]) -> dict[str | None, int]:
    """Index of the last frame of each id; empty if the first frame has no id, as such files need no second reading."""
    last: dict[str | None, int] = {}
    for index, atoms in enumerate(structures):
        if (own_id := _id_of(atoms)) is None and not last:
            break
        last[own_id] = index
    structures.close()
    return last


def _extxyz(path: Path, on_bytes: OnBytes | None) -> Iterator[_Located]:
    last = {own_id: index for index, own_id in ids_of_blocks(path, ID_KEYS)}
    fault: MalformedError | None = None
    n_sound = 0
    for block in frame_blocks(path, on_bytes):
        atoms = block.atoms()
        if isinstance(atoms, MalformedError):
            fault = fault or atoms
        else:
            n_sound += 1
        yield _Located(atoms, block.index, last.get(block.own_id(ID_KEYS), block.index))
    if fault and not n_sound:
        raise MlipError(fault.reason, where=f"{path}: {fault.detail}", fix="an extended XYZ file?")


def _database(path: Path) -> Iterator[Atoms | MalformedError]:
    try:
        for row in connect(path).select():
            yield _of_row(row)
    except ImportError as error:  # .aselmdb
        raise MlipError(
            f"ASE needs another package for this database ({error})",
            where=str(path),
            fix="pip install 'alexandria-mlip[lmdb]'",
        ) from None
    except Exception as error:  # sqlite, lmdb and json back ends each have their own
        raise MlipError(f"not an ASE database ({error})", where=str(path)) from None


def _of_row(row: Any) -> Atoms | MalformedError:
    try:
        atoms = row.toatoms()
        kept = (*ID_KEYS, *FUNCTIONAL_KEYS, *_PROPERTIES)
        atoms.info |= {key: row.data[key] for key in kept if key in row.data} | row.key_value_pairs
    except Exception as error:  # whatever ASE stumbles on
        return MalformedError("unreadable row of the database", f"row {row.get('id')}: {error}")
    return atoms


def _any_format(path: Path) -> Iterator[Atoms]:
    try:
        # ASE would read an @ in the name as a slice; `path` is always the exact name of a file.
        yield from iread(path, index=":", do_not_split_by_at_sign=True)
    except Exception as error:  # each of ASE's readers fails in its own way
        raise MlipError(
            f"ASE cannot read it ({str(error) or type(error).__name__})",
            where=str(path),
            fix="convert it to extxyz",
        ) from None


def _own_id(atoms: Atoms) -> str | None:
    return next((str(atoms.info[key]) for key in ID_KEYS if _is_told(atoms.info.get(key))), None)


def _id_of(atoms: Atoms | MalformedError) -> str | None:
    return _own_id(atoms) if isinstance(atoms, Atoms) else None


def _is_told(value: Any) -> bool:
    """Whether a key of `info` has a value. ASE reads a key without a value as True."""
    return value is not None and not isinstance(value, bool | np.bool_) and str(value).strip() not in ("", "None")


def _stated_functional(atoms: Atoms) -> str:
    found = (str(atoms.info[key]) for key in FUNCTIONAL_KEYS if _is_told(atoms.info.get(key)))
    return next(found, "")


def _group(atoms: Atoms) -> _Group:
    own_id = _own_id(atoms)
    numbers = atoms.numbers if own_id is None else np.sort(atoms.numbers)
    return _Group(own_id, _stated_functional(atoms), numbers.tobytes())


def _trajectory(
    material_id: str,
    members: list[_Located],
    path: Path,
    functional: str | None,
    dimensionality: int | None,
    keys: Keys,
) -> Trajectory:
    first = members[0].atoms
    settled = settled_functional(functional, _stated_functional(first), path, functional_by_file_name)
    remarks: defaultdict[str, list[str]] = defaultdict(list)
    frames, faults = [], []
    last = None
    for step, one in enumerate(members):
        try:
            last = _frame(one.atoms, step, f"frame {one.index}", keys, remarks)
            frames.append(last)
        except MalformedError as fault:
            faults.append(fault)
            last = None
    frames, unsound = _sound(frames)
    faults += unsound
    if not frames:
        raise faults[0]
    if all(np.isnan(frame.energy) for frame in frames) and (why := why_without_energy(first, keys)):
        raise MalformedError(why, f"frame {members[0].index}")
    return Trajectory(
        material_id,
        frames,
        settled,
        dimensionality or _dimensionality(first),
        scalar_properties({key: first.info[key] for key in _PROPERTIES if key in first.info})
        | end_mark(all(frame is not last for frame in frames)),
        Counter(fault.reason for fault in faults),
        dict(remarks),
    )


def _sound(frames: list[Frame]) -> tuple[list[Frame], list[MalformedError]]:
    """Frames from which neighbor lists can be built, and the faults of the others. The build checks single frames."""
    if len(frames) == 1:
        return frames, []
    try:
        check_structures(frames)
        return frames, []
    except MalformedError:
        pass
    sound, faults = [], []
    for frame in frames:
        try:
            check_structure(frame)
            sound.append(frame)
        except MalformedError as fault:
            faults.append(fault)
    return sound, faults


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


def _frame(atoms: Atoms, step: int, where: str, keys: Keys, remarks: defaultdict[str, list[str]]) -> Frame:
    check_sites(atoms, where)
    labels = labels_of(atoms, keys, where)
    frame = Frame(
        numbers=atoms.numbers.astype(np.int16),
        positions=labels.length * np.array(atoms.positions, dtype=np.float64),
        cell=labels.length * np.array(atoms.cell.array, dtype=np.float64),
        pbc=np.array(atoms.pbc, dtype=bool),
        energy=labels.energy,
        forces=labels.forces,
        stress=labels.stress,
        magmoms=labels.magmoms,
        calculation=_count(atoms, "calculation", 0),
        ionic_step=_count(atoms, "ionic_step", step),
    )
    told = list(labels.lost)
    if labels.forces is None or labels.stress is None:
        told += unread_labels(atoms, keys)
    if has_heavy_hydrogen(atoms):
        told.append(DEUTERIUM)
    for remark in told:
        remarks[remark].append(frame.name)
    return frame


def check_sites(atoms: Atoms, where: str) -> None:
    """Check that `atoms` is a valid structure.

    Raises:
        MalformedError: no sites, coordinates that are not finite, an unknown element, or a partly occupied site.
    """
    if len(atoms) == 0:
        raise MalformedError("no sites", where)
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        raise MalformedError("bad coordinates", f"{where}: not finite")
    if atoms.numbers.min() < 1:
        raise MalformedError("unknown element", where)
    try:
        check_occupancies(atoms)
    except MlipError as error:
        raise MalformedError("partly occupied site", f"{where}: {error}") from None


def _count(atoms: Atoms, key: str, default: int) -> int:
    """Number of a run or step from `info`. Other values, such as `calculation=PBE`, are the user's own and give the
    default."""
    value = np.asarray(atoms.info.get(key, default))
    if value.size != 1 or value.dtype.kind not in "iuf":
        return default
    number = float(value.item())
    return int(number) if number.is_integer() and 0 <= number < _MOST_STEPS else default
