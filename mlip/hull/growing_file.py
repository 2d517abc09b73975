"""The file of a growing hull: its entries as columns in an .npz file without pickled objects."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mlip.errors import MlipError
from mlip.files.output_paths import writing_to
from mlip.files.whole_file import whole_file
from mlip.hull.convex_hull import MAX_ELEMENTS, Phases

_FORMAT = 1


class Columns(NamedTuple):
    """The contents of the file; fields as in `GrowingHull`."""

    ids: list[str]
    phases: Phases
    distances: Float[np.ndarray, " n"]
    potentials: Float[np.ndarray, "n 9"]
    are_formation_energies: bool


def write_columns(path: Path, hull: Columns) -> None:
    """Write a hull to an .npz file, whole or not at all.

    Raises:
        MlipError: the file cannot be written there.
    """
    width = max(1, int((hull.phases.numbers > 0).sum(1).max(initial=0)))
    columns = {
        "format": _FORMAT,
        "are_formation_energies": hull.are_formation_energies,
        "ids": np.frombuffer("".join(hull.ids).encode(), np.uint8),
        "id_lengths": np.array([len(name) for name in hull.ids], np.int32),
        "numbers": hull.phases.numbers[:, :width],
        "fractions": hull.phases.fractions[:, :width],
        "energies": hull.phases.energies,
        "distances": hull.distances,
        "potentials": hull.potentials[:, :width],
    }
    with writing_to(path), whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, **columns)


def read_columns(path: Path) -> Columns:
    """Read a hull from a file that `write_columns` wrote.

    Raises:
        MlipError: there is no such file, it is damaged, or it is not a growing hull.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if int(file["format"]) != _FORMAT:
                raise MlipError(f"is a hull of format {int(file['format'])}, not {_FORMAT}", where=str(path))
            ends = np.cumsum(file["id_lengths"], dtype=np.int64).tolist()
            text = file["ids"].tobytes().decode()
            numbers, fractions, potentials = (_widened(file[name]) for name in ("numbers", "fractions", "potentials"))
            phases = Phases(numbers, fractions, file["energies"])
            distances, are_formation_energies = file["distances"], bool(file["are_formation_energies"])
    except FileNotFoundError:
        raise MlipError("no such file", where=str(path)) from None
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile):
        raise MlipError("is no growing hull, or a damaged one", where=str(path), fix="make it anew") from None
    if len({len(each) for each in (ends, numbers, fractions, phases, distances, potentials)}) != 1:
        raise MlipError("is a damaged hull: its columns are of several lengths", where=str(path), fix="make it anew")
    ids = [text[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []
    return Columns(ids, phases, distances, potentials, are_formation_energies)


def _widened(column: np.ndarray) -> np.ndarray:
    return np.pad(column, ((0, 0), (0, MAX_ELEMENTS - column.shape[1])))
