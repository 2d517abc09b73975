"""How well a potential reproduces labelled frames, by dimensionality, beside predictors that know nothing.

Public sets are often relaxed structures, where F = 0 beats good models: a mean error says little without its
trivial baseline. These are the sum of reference energies (E0), no forces, no stress.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from mlip.data import Store
from mlip.data.records import Entry, Skipped
from mlip.data.sources import read_source, source_files
from mlip.errors import MlipError
from mlip.evaluation.comparison import Comparison, LabelledFrame, compare
from mlip.evaluation.frame_errors import Errors
from mlip.graph.radius_graph import crystal_graph
from mlip.potential import Potential
from mlip.runtime import precision_scope

_CHUNK = 1024  # frames held in memory at once
_REASONS = 3  # for leaving frames out, in an error


def evaluate(
    potential: Potential,
    frames: Iterable[LabelledFrame],
    *,
    dtype: str = "float32",
    errors: Errors | None = None,
    where: str | None = None,
) -> Errors:
    """Errors of `potential` on `frames`, which are gone through once and never held together.

    Args:
        errors: to be added to; otherwise new ones.
        where: the frames come from, for an error to name.

    Raises:
        MlipError: no frame is left to compare; another dtype than float32 or float64.
    """
    errors = Errors() if errors is None else errors
    with precision_scope(dtype):  # refuses another dtype before anything is read
        for _, comparison in compared(potential, frames, errors=errors, dtype=dtype):
            errors.add(comparison)
    if not errors.n_frames:
        fix = "check the file, --split, or the potential's elements"
        raise MlipError(f"no labelled frame to compare with{_why_left_out(errors)}", where=where, fix=fix)
    return errors


def _why_left_out(errors: Errors) -> str:
    """The most frequent reasons: each frame may have its own."""
    reasons = sorted(errors.left_out.items(), key=lambda reason: -reason[1])
    rest = sum(count for _, count in reasons[_REASONS:])
    told = [f"; {count} left out: {why}" for why, count in reasons[:_REASONS]]
    return "".join([*told, f"; {rest} more for other reasons" if rest else ""])


def compared(
    potential: Potential, frames: Iterable[LabelledFrame], *, errors: Errors, dtype: str = "float32"
) -> Iterator[tuple[list[LabelledFrame], Comparison]]:
    """Frames with their labels and predictions, a chunk at a time; those that no prediction can be made for are left
    out and counted in `errors`. Within a chunk they are sorted by size."""
    frames = iter(frames)
    while chunk := list(islice(frames, _CHUNK)):
        known = [item for item in chunk if _is_known(potential, item, errors)]
        # Neighbours in size share a batch: less padding.
        known.sort(key=lambda item: len(item.frame))
        items, predictions = _predictions(potential, known, dtype, errors)
        if items:
            yield items, compare(items, predictions, potential.reference_energies_by_z)


def _predictions(
    potential: Potential, items: list[LabelledFrame], dtype: str, errors: Errors
) -> tuple[list[LabelledFrame], list[dict[str, Any]]]:
    """Frames and their predictions; frames that no graph can be made of are left out by material id."""
    try:
        predictions = potential.predict([item.frame for item in items], dtype=dtype)
    except MlipError:  # names a frame by its place in the list, which nobody knows here: look for it
        sound = [item for item in items if _has_graph(potential, item, errors)]
        if len(sound) == len(items):
            raise
        return _predictions(potential, sound, dtype, errors)
    return items, predictions


def _has_graph(potential: Potential, item: LabelledFrame, errors: Errors) -> bool:
    try:
        crystal_graph(item.frame, potential.cutoff)
    except MlipError as error:
        errors.leave_out(f"{item.material_id}: {error.what}")
        return False
    return True


def _is_known(potential: Potential, item: LabelledFrame, errors: Errors) -> bool:
    try:
        potential.check_elements(item.frame.numbers)
    except MlipError as error:
        errors.leave_out(error.what)
        return False
    return True


def store_frames(store: Store, split: str | None, functional: str | None = None) -> Iterator[LabelledFrame]:
    """The frames of a split and of a functional (None: of all), in order."""
    for material in store.materials():
        if split in (None, material.split) and functional in (None, material.functional):
            for k in material.frames:
                yield LabelledFrame(store.frame(k), material.id, material.dimensionality, material.functional)


def evaluate_path(
    potential: Potential,
    data: Path,
    *,
    split: str | None = None,
    functional: str | None = None,
    dtype: str = "float32",
) -> Errors:
    """Errors on a store (or one split of it), or on any file or folder that the readers take.

    Args:
        functional: of a file that does not tell it.

    Raises:
        MlipError: nothing there, not readable, no frame left, or a split of what is not a store.
    """
    if is_store(data):
        with Store(data) as store:
            return evaluate(potential, store_frames(store, split), dtype=dtype, where=str(data))
    if split is not None:
        raise MlipError("only a store has splits", where=str(data), fix="leave out --split")
    errors = Errors()
    return evaluate(potential, source_frames(data, functional, errors), dtype=dtype, errors=errors, where=str(data))


def is_store(path: Path) -> bool:
    """Whether `path` is what `mlip data build` writes rather than a source of it."""
    if path.is_dir():
        return any(path.glob("*.h5"))
    return path.suffix in (".h5", ".hdf5")


def source_frames(path: Path, functional: str | None, errors: Errors) -> Iterator[LabelledFrame]:
    """The frames of a file or folder, streaming; materials that cannot be used are counted in `errors`."""
    for file in source_files([path]):
        for material in read_source(file, functional=functional):
            if isinstance(material, Skipped):
                errors.leave_out(material.reason)
                continue
            if isinstance(material, Entry):
                material = material.as_trajectory()
            for frame in material.frames:
                yield LabelledFrame(frame, material.material_id, material.dimensionality, material.functional)
