"""Relaxation of structures from files into files, the implementation of `mlip relax`.

The result of each relaxation is appended to results.jsonl immediately, so that a killed run can continue where it
stopped.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip.errors import MlipError
from mlip.files.whole_file import whole_file
from mlip.progress import count_bar
from mlip.relaxation.cell import HYDROSTATIC, Along, CellChoice
from mlip.relaxation.named import NamedPotential, open_named, precision_recorded
from mlip.relaxation.options import Options
from mlip.relaxation.queue import relaxations
from mlip.relaxation.reading import StructureSource, identity_of_inputs, read_sources
from mlip.relaxation.result import CERTAINTY, Reason, RelaxResult, rows_or_none
from mlip.relaxation.results_file import ResultsFile, read_results
from mlip.units import EV_PER_A3_IN_GPA

Format = Literal["extxyz", "cif", "vasp"]
USABLE = ("converged", "max_steps")
"""Reasons with which a result has a usable structure."""
_RESULTS, _RELAXED, _TRAJECTORIES = "results.jsonl", "relaxed.extxyz", "trajectories"


def relax_files(
    potential: str | PathLike,
    files: Sequence[str | PathLike],
    out: str | PathLike,
    *,
    formats: Sequence[Format] = ("extxyz",),
    force: bool = False,
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Relax every frame of every file: append records to OUT/results.jsonl as relaxations end, then write
    OUT/relaxed.extxyz.

    Structures already in OUT/results.jsonl are not relaxed again. Records are in the order in which relaxations ended
    (`structure` is the index of the input), relaxed.extxyz in that of the inputs. A structure that failed is written as
    it was at the failure, with its reason in `info` (`mlip_reason`; all our keys begin with `mlip_`). A file or frame
    that cannot be read also has a record, with the reason error.

    Args:
        formats: "cif" and "vasp" write a file for each structure that has not failed into a folder of that name.
        force: start over if OUT already has results or files with these names.
        options: fields of `Options`; with `trajectory`, the steps of each structure are written to OUT/trajectories.

    Returns:
        `potential`: name, functional and, if it was given by name, license; counts: number of structures, how many were
        relaxed now, and how many ended for each reason; and a row for each structure (`rows`): file, frame, formula,
        reason, steps, energy_change (eV/atom), volume_change (%), fmax (eV/A), stress (GPa), message. A potential with
        an uncertainty adds energy_std (eV/atom), volume_std (%) and do_not_trust, and a count of the last.

    Raises:
        MlipError: the potential does not exist, no file has a structure, an option is out of range, or OUT has results
            of another potential, other inputs or options, or files from elsewhere.
    """
    dtype = options.pop("dtype", None)
    checked = Options.of(options if dtype is None else options | {"dtype": dtype})
    named = open_named(potential)
    options |= named.precision(dtype)
    sources = read_sources(files)
    protocol = _protocol(named, files, len(sources), options)
    out, names = Path(out), file_names([(source.file, source.frame) for source in sources])
    _make_way(out, formats, checked, force)
    with ResultsFile(out / _RESULTS, protocol) as results:
        done = {record["structure"] for record in results.records}
        missing = [k for k in range(len(sources)) if k not in done]
        readable = [k for k in missing if sources[k].atoms is not None]
        for k in missing:
            if sources[k].atoms is None:
                results.append(_place(k, sources[k]) | _unreadable(sources[k]))
        with count_bar(progress) as bar:
            task = bar.add_task("relaxing", total=len(sources), completed=len(sources) - len(readable))
            for index, result in relaxations([sources[k].atoms for k in readable], named.potential, **options):
                k = readable[index]
                if result.trajectory:
                    _write(out / _TRAJECTORIES / f"{names[k]}.extxyz", result.trajectory, "extxyz")
                results.append(_place(k, sources[k]) | record_of(result) | {"potential": named.name})
                bar.advance(task)
        records = sorted(results.records, key=lambda record: record["structure"])
    relaxed = [None if s.atoms is None else _relaxed(s.atoms, r) for s, r in zip(sources, records, strict=True)]
    _write(out / _RELAXED, [atoms for atoms in relaxed if atoms is not None], "extxyz")
    usable = {k: relaxed[k] for k, record in enumerate(records) if record["reason"] in USABLE}
    reasons = Counter(record["reason"] for record in records)
    return {
        "potential": named.facts,
        "structures": len(records),
        "relaxed_now": len(missing),
        "reasons": dict(reasons.most_common()),
        **_doubtful(named, records),
        "not_written": [
            fault for kind in formats if kind != "extxyz" for fault in _write_each(out, kind, usable, names)
        ],
        "rows": [_row(source, record) for source, record in zip(sources, records, strict=True)],
    }


def _doubtful(named: NamedPotential, records: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Number of structures with `do_not_trust`, if the potential is calibrated."""
    uncertainty = getattr(named.potential, "uncertainty", None)
    if uncertainty is None or uncertainty.calibration is None:
        return {}
    return {"do_not_trust": sum(bool(record.get("do_not_trust")) for record in records)}


def _make_way(out: Path, formats: Sequence[Format], options: Options, force: bool) -> None:
    """Prepare the output folder.

    Raises:
        MlipError: existing files would be overwritten, and no results file shows that they are from such a run.
    """
    results = out / _RESULTS
    if force:
        _remove_results(out)
        return
    folders = [out / kind for kind in formats if kind != "extxyz"] + [out / _TRAJECTORIES] * options.trajectory
    in_the_way = [path for path in (out / _RELAXED, *folders) if path.exists()]
    if in_the_way and not results.exists():
        raise MlipError(f"exists, without a {_RESULTS}", where=str(in_the_way[0]), fix="another --out, or --force")


def _remove_results(out: Path) -> None:
    """Remove only the files of an earlier run, whose names follow from its records."""
    results = out / _RESULTS
    try:
        _, records = read_results(results)
        records = sorted(records, key=lambda record: record["structure"])
        names = file_names([(record["file"], record["frame"]) for record in records])
    except (MlipError, KeyError):  # no results, or not a results file
        names = []
    for kind, suffix in (("cif", "cif"), ("vasp", "vasp"), (_TRAJECTORIES, "extxyz")):
        for name in names:
            (out / kind / f"{name}.{suffix}").unlink(missing_ok=True)
    for path in (out / _RELAXED, results):
        path.unlink(missing_ok=True)


def file_names(places: Sequence[tuple[str, int]]) -> list[str]:
    """File name for each structure, given its file and frame: the stem of its file, the frame number if the file has
    several frames, and the structure's number as prefix if two names would coincide."""
    n_frames = Counter(file for file, _ in places)
    stems = [Path(file).stem + (f"-{frame:06d}" if n_frames[file] > 1 else "") for file, frame in places]
    counts = Counter(stem.lower() for stem in stems)
    return [f"{k:06d}-{stem}" if counts[stem.lower()] > 1 else stem for k, stem in enumerate(stems)]


def _protocol(named: NamedPotential, files, n_structures: int, options: dict[str, Any]) -> dict[str, Any]:
    """Settings that must be equal for records of two runs to share a file."""
    checked = Options.of(options)
    return {
        "relaxation": {**asdict(checked), "cell": _cell_as_json(checked.cell), "dtype": precision_recorded(options)},
        "potential": named.record,
        "inputs": identity_of_inputs(files, n_structures),
    }


def _cell_as_json(cell: CellChoice | Sequence[CellChoice]) -> Any:
    if isinstance(cell, Along):
        return {"along": list(map(bool, cell.directions))}
    return cell if isinstance(cell, str | bool) else np.asarray(cell).astype(int).tolist()


def _place(index: int, source: StructureSource) -> dict[str, Any]:
    return {"structure": index, "file": source.file, "frame": source.frame}


def record_of(result: RelaxResult) -> dict[str, Any]:
    """JSON-serializable record of a result with its forces and stress; the structure's index is removed from its
    message."""
    known = {} if result.atoms.calc is None else result.atoms.calc.results
    forces, stress = known.get("forces"), known.get("stress")
    return {
        **result.as_record(),
        "message": result.message and re.sub(r"^structure \d+: ", "", result.message),  # index in this run
        "forces": None if forces is None else rows_or_none(forces),
        "stress": None if stress is None else rows_or_none(stress[None])[0],
    }


def _unreadable(source: StructureSource) -> dict[str, Any]:
    """Record of an unreadable structure, as of one without atoms."""
    nan, reason = float("nan"), Reason.ERROR.name.lower()
    return record_of(RelaxResult(Atoms(), nan, False, reason, 0, nan, nan, source.message))


def _relaxed(atoms: Atoms, record: dict[str, Any]) -> Atoms:
    """The input in the final state given by its record."""
    atoms = atoms.copy()
    atoms.set_cell(np.array(record["cell"], dtype=float), apply_constraint=False)
    atoms.set_positions(np.array(record["positions"], dtype=float).reshape(-1, 3), apply_constraint=False)
    if record["forces"] is not None:
        known = {key: np.array(record[key]) for key in ("energy", "forces", "stress") if record[key] is not None}
        atoms.calc = SinglePointCalculator(atoms, **known)
    told = {"source": record["file"], **{key: record[key] for key in ("frame", "reason", "converged", "n_steps")}}
    told |= {key: record[key] for key in CERTAINTY if key in record}
    atoms.info |= {f"mlip_{key}": value for key, value in told.items()}
    return atoms


def _row(source: StructureSource, record: dict[str, Any]) -> dict[str, Any]:
    """Row of the table for a structure."""
    atoms, energy, before = source.atoms, record["energy"], record["initial_energy"]
    stress = record["max_stress"]
    has_volume = atoms is not None and atoms.cell.rank == 3 and record["reason"] != "error"
    volume = abs(np.linalg.det(np.array(record["cell"], dtype=float))) if has_volume else None
    return {
        "file": source.file,
        "frame": source.frame,
        "formula": "" if atoms is None else _formula(atoms),
        "reason": record["reason"],
        "steps": record["n_steps"],
        "energy_change": None if energy is None or before is None else (energy - before) / len(atoms),
        "volume_change": None if volume is None else 100 * (volume / abs(atoms.cell.volume) - 1),
        "fmax": record["fmax"],
        "stress": None if stress is None else stress * EV_PER_A3_IN_GPA,
        "message": record["message"],
        **_certainty(record, atoms),
    }


def _certainty(record: dict[str, Any], atoms: Atoms | None) -> dict[str, Any]:
    """Standard deviations of energy (eV/atom) and volume (%), and the flag, if the record has them."""
    if "energy_std" not in record:
        return {}
    volume_std = record.get("relative_volume_std")
    return {
        "energy_std": record["energy_std"] / len(atoms),
        "volume_std": None if volume_std is None else 100 * volume_std,
        "do_not_trust": record.get("do_not_trust"),
    }


def _formula(atoms: Atoms) -> str:
    try:
        return atoms.symbols.get_chemical_formula(mode="metal", empirical=True)
    except (IndexError, KeyError):  # invalid atomic numbers
        return "?"


def _write(path: Path, structures: Atoms | list[Atoms], kind: Format) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, durable=False) as partial:
        ase.io.write(partial, structures, format=kind)


def _write_each(out: Path, kind: Format, structures: dict[int, Atoms], names: Sequence[str]) -> list[str]:
    """Write a file for each structure. Returns messages for those that could not be written."""
    faults = []
    for k, atoms in structures.items():
        path = out / kind / f"{names[k]}.{kind}"
        try:
            _write(path, atoms, kind)
        except OSError:
            raise
        except Exception as error:  # not representable in the format, e.g. a molecule without a cell
            faults.append(f"{path}: {' '.join(str(error).split())}")
    return faults


def formats_like(files: Sequence[str | PathLike]) -> list[Format]:
    """Output formats for structures of these files: extxyz, and the formats of the files themselves."""
    names = [Path(file).name.lower() for file in files]
    is_vasp = any(name.startswith(("poscar", "contcar")) or name.endswith((".vasp", ".poscar")) for name in names)
    is_cif = any(name.endswith(".cif") for name in names)
    kinds: list[Format] = ["extxyz"]
    return kinds + (["cif"] if is_cif else []) + (["vasp"] if is_vasp else [])


def parse_cell_choice(text: str) -> CellChoice:
    """Parse a cell choice: auto, hydrostatic, all, none, or six digits 0 and 1 for xx yy zz yz xz xy.

    Raises:
        MlipError: the text is none of these.
    """
    words: dict[str, CellChoice] = {"auto": "auto", HYDROSTATIC: HYDROSTATIC, "all": True, "none": False}
    if text in words:
        return words[text]
    if len(text) == 6 and set(text) <= {"0", "1"}:
        return np.array([digit == "1" for digit in text])
    raise MlipError(
        f"unknown cell choice {text!r}", where="--cell", fix="auto, hydrostatic, all, none, or a mask such as 110001"
    )
