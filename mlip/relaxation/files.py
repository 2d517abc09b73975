"""Structures from files, relaxed, into files: the library side of `mlip relax`.

Each relaxation that ends is appended to results.jsonl at once, so that a run that was killed goes on where it stopped.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip.errors import MlipError
from mlip.potential import open_potential
from mlip.pretrained import resolve
from mlip.relaxation.cell import Along, CellChoice
from mlip.relaxation.options import Options
from mlip.relaxation.queue import progress_bar, relaxations
from mlip.relaxation.result import RelaxResult, rows_or_none
from mlip.relaxation.results_file import ResultsFile


def relax_files(
    potential: str | PathLike,
    files: Sequence[str | PathLike],
    out: str | PathLike,
    *,
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Relax every frame of every file: records to OUT/results.jsonl as they end, then all to OUT/relaxed.extxyz.

    Structures that OUT/results.jsonl has already are not relaxed again. The records are in the order in which the
    relaxations ended (`structure` counts the inputs), relaxed.extxyz is in that of the inputs. A structure that
    failed stands there as it was when it failed, with its reason in `info`.

    Args:
        options: the fields of `Options`.

    Returns:
        counts: structures, how many of them were relaxed now, and how many ended for which reason.

    Raises:
        MlipError: no such potential; a file that is absent, holds nothing, or that ASE cannot read; an option out of
            range; OUT has results of another potential, of other inputs or options.
    """
    checked = Options(**options)
    potential = resolve(potential)  # the records name the file, whatever name it was asked by
    loaded = open_potential(potential)
    sources = [(str(path), k, atoms) for path in files for k, atoms in enumerate(read_structures(path))]
    protocol = _protocol(potential, files, len(sources), checked)
    out = Path(out)
    with ResultsFile(out / "results.jsonl", protocol) as results:
        done = {record["structure"] for record in results.records}
        missing = [k for k in range(len(sources)) if k not in done]
        with progress_bar(progress) as bar:
            task = bar.add_task("relaxing", total=len(sources), completed=len(done))
            for index, result in relaxations([sources[k][2] for k in missing], loaded, **options):
                path, frame, _ = sources[missing[index]]
                results.append({"structure": missing[index], "file": path, "frame": frame, **_record(result)})
                bar.advance(task)
        records = sorted(results.records, key=lambda record: record["structure"])
    _write_relaxed(out / "relaxed.extxyz", [source[2] for source in sources], records)
    reasons = Counter(record["reason"] for record in records)
    return {"structures": len(records), "relaxed_now": len(missing), "reasons": dict(reasons.most_common())}


def _protocol(potential, files, n_structures: int, options: Options) -> dict[str, Any]:
    """What two runs must share for their records to stand in one file."""
    content = hashlib.sha256()
    for path in files:
        content.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return {
        "relaxation": {**asdict(options), "cell": _cell_as_json(options.cell)},
        "potential": {"name": Path(potential).name, "sha256": hashlib.sha256(Path(potential).read_bytes()).hexdigest()},
        "inputs": {"files": len(files), "structures": n_structures, "sha256": content.hexdigest()},
    }


def _cell_as_json(cell: CellChoice | Sequence[CellChoice]) -> Any:
    if isinstance(cell, Along):
        return {"along": list(map(bool, cell.directions))}
    return cell if isinstance(cell, str | bool) else np.asarray(cell).astype(int).tolist()


def _record(result: RelaxResult) -> dict[str, Any]:
    """With what relaxed.extxyz has beyond the usual."""
    known = {} if result.atoms.calc is None else result.atoms.calc.results
    forces, stress = known.get("forces"), known.get("stress")
    return {
        **result.as_record(),
        "forces": None if forces is None else rows_or_none(forces),
        "stress": None if stress is None else rows_or_none(stress[None])[0],
    }


def _write_relaxed(path: Path, inputs: list[Atoms], records: list[dict[str, Any]]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    ase.io.write(temporary, [_relaxed(*pair) for pair in zip(inputs, records, strict=True)], format="extxyz")
    os.replace(temporary, path)


def _relaxed(atoms: Atoms, record: dict[str, Any]) -> Atoms:
    """An input as its record says that it ended."""
    atoms = atoms.copy()
    atoms.set_cell(np.array(record["cell"], dtype=float), apply_constraint=False)
    atoms.set_positions(np.array(record["positions"], dtype=float).reshape(-1, 3), apply_constraint=False)
    if record["forces"] is not None:
        known = {key: np.array(record[key]) for key in ("energy", "forces", "stress") if record[key] is not None}
        atoms.calc = SinglePointCalculator(atoms, **known)
    atoms.info |= {"source": record["file"], **{key: record[key] for key in ("frame", "reason", "converged")}}
    return atoms


def read_structures(path: str | PathLike) -> list[Atoms]:
    """All frames of a file in any format that ASE reads.

    Raises:
        MlipError: absent, empty, or unreadable.
    """
    where = str(path)
    if not Path(path).is_file():
        raise MlipError("no such file", where=where)
    try:
        frames = ase.io.read(path, index=":")
    except Exception as error:  # every format of ASE fails in its own way
        why = ": ".join(filter(None, (type(error).__name__, str(error))))
        raise MlipError(f"ASE cannot read it ({why})", where=where) from None
    if not frames:
        raise MlipError("holds no structure", where=where)
    return frames


def parse_cell_choice(text: str) -> CellChoice:
    """auto, all, none, or six digits 0 and 1: xx yy zz yz xz xy.

    Raises:
        MlipError: anything else.
    """
    words: dict[str, CellChoice] = {"auto": "auto", "all": True, "none": False}
    if text in words:
        return words[text]
    if len(text) == 6 and set(text) <= {"0", "1"}:
        return np.array([digit == "1" for digit in text])
    raise MlipError(f"unknown cell choice {text!r}", where="--cell", fix="auto, all, none, or a mask such as 110001")
