"""Comparison of a relaxed crystal with DFT's: corrected formation energy, distance from DFT's structure, both
symmetries.

The prediction is the DFT formation energy of the material plus the difference of the two total energies, each with the
correction of the Materials Project's scheme of 2020; the energies of the elements cancel. The DFT correction is the
source's where it is given; that of the potential is pymatgen's for the relaxed structure, whose bonds decide between an
oxide and a peroxide.

This module does not import JAX, because it runs in worker processes beside the one that owns the device.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mlip.benchmark.wbm.geometry import SYMPRECS, distance, space_group
from mlip.data.records import Frame
from mlip.data.schema import CORRECTION
from mlip.data.structures import to_pymatgen
from mlip.data.wbm_files import UNIQUE_PROTOTYPE
from mlip.data.workers import process_pool
from mlip.errors import MlipError
from mlip.hull.mp2020 import mp2020_correction

_AT_ONCE = 16
"""Number of materials in a chunk for a process."""


class Task(NamedTuple):
    """A relaxation and the DFT data it is compared with."""

    record: dict[str, Any]
    """Record of the results file."""
    dft: Frame
    """Structure relaxed by DFT, with its energy, eV."""
    properties: Mapping[str, float | str]
    """Properties of the material in the store: corrected formation energy and distance to the hull, eV/atom;
    correction, eV per cell; whether its prototype is unique."""


class Judged(NamedTuple):
    """Result of a comparison: a row of the tables, and a line of the submission if there is a relaxed structure."""

    row: dict[str, Any]
    """JSON-serializable row; None where a value is unknown."""
    submitted: dict[str, Any] | None


def judge_all(tasks: Sequence[Task], workers: int) -> Iterator[Judged]:
    """Results in the order of the tasks, computed by this many processes; with one, in this process."""
    if workers == 1 or len(tasks) <= _AT_ONCE:
        yield from map(judge, tasks)
        return
    with process_pool(workers) as pool:
        yield from pool.map(judge, tasks, chunksize=_AT_ONCE)


def labels_of(properties: Mapping[str, float | str]) -> dict[str, float | None]:
    """DFT labels of a material under their names in a row; None where unknown."""
    names = {"dft_e_form": "e_form", "dft_e_above_hull": "e_above_hull", UNIQUE_PROTOTYPE: UNIQUE_PROTOTYPE}
    return {name: _known(float(properties.get(key, np.nan))) for name, key in names.items()}


def judge(task: Task) -> Judged:
    """Compare a relaxation with DFT. A failed relaxation has neither structure nor prediction."""
    record = task.record
    row = {
        "material_id": record["id"],
        "formula": record["formula"],
        "n_atoms": len(task.dft),
        "reason": record["reason"],
        "message": record["message"],
        "converged": record["converged"],
        "n_steps": record["n_steps"],
        "seconds": record["seconds"],
        "energy": record["energy"],
        "dft_energy": _known(task.dft.energy),
        **labels_of(task.properties),
    }
    found = _relaxed(record)
    if found is None:
        return Judged(row, None)
    try:
        correction = mp2020_correction(found)
        stated = task.properties.get(CORRECTION)
        on_dft = mp2020_correction(task.dft) if stated is None else float(stated)
    except Exception as error:  # pymatgen's on one crystal must not end a run on 257 thousand
        return Judged(row | {"message": f"no correction: {_in_words(error)}"}, None)
    error = (found.energy + correction - task.dft.energy - on_dft) / len(task.dft)
    row |= {
        "correction": correction,
        "dft_correction": on_dft,
        "energy_error": _known(error),
        "e_form": None if row["dft_e_form"] is None else _known(row["dft_e_form"] + error),
        **_distances(found, task.dft),
        "symmetry": _symmetries(found, task.dft),
    }
    return Judged(row, _line(record, found))


def _relaxed(record: dict[str, Any]) -> Frame | None:
    """The relaxed structure; None where the relaxation failed."""
    if record["volume"] is None or record["energy"] is None:
        return None
    return Frame(
        np.array(record["numbers"], np.int16),
        np.array(record["positions"], float).reshape(-1, 3),
        np.array(record["cell"], float),
        np.ones(3, bool),
        energy=record["energy"],
    )


def _distances(found: Frame, dft: Frame) -> dict[str, Any]:
    try:
        matched = distance(found, dft)
    except Exception as error:  # an exception of the matcher on one crystal must not end a run on 257 thousand
        return {"rmsd": None, "max_distance": None, "message": f"pymatgen's matcher failed ({_in_words(error)})"}
    return {
        "rmsd": None if matched is None else matched.rms,
        "max_distance": None if matched is None else matched.largest,
    }


def _in_words(error: Exception) -> str:
    return str(error) if isinstance(error, MlipError) else " ".join(f"{type(error).__name__}: {error}".split())


def _symmetries(found: Frame, dft: Frame) -> dict[str, dict[str, list[int] | None]]:
    """By symprec: space group number and number of operations of the relaxed and the DFT structure."""
    return {
        name: {
            side: None if (group := space_group(frame, symprec)) is None else list(group)
            for side, frame in (("relaxed", found), ("dft", dft))
        }
        for name, symprec in SYMPRECS.items()
    }


def _line(record: dict[str, Any], found: Frame) -> dict[str, Any]:
    return {
        "material_id": record["id"],
        "structure": to_pymatgen(found).as_dict(),
        "energy": record["energy"],
        "converged": record["converged"],
        "n_steps": record["n_steps"],
    }


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
