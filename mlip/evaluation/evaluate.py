"""Errors of a potential on labeled frames by dimensionality, compared with trivial predictors.

Public data sets often consist of relaxed structures, for which F = 0 beats good models, so that a mean error says
little without its trivial baseline. The baselines are the sum of reference energies (E0), zero forces and zero stress.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mlip.data import Store
from mlip.data.readers.naming import CONTRADICTION
from mlip.data.readers.sources import NO_MATERIAL, NOT_READ, read_past_faults, read_source, source_files
from mlip.data.records import Entry, Skipped
from mlip.data.shard import is_store
from mlip.data.store import Material
from mlip.errors import MlipError
from mlip.evaluation.comparison import Comparison, LabeledFrame, compare
from mlip.evaluation.frame_errors import Errors
from mlip.foreign import ForeignPotential, check_no_precision
from mlip.functionals import check_functionals
from mlip.potential import Potential
from mlip.runtime import precision_scope

UNLABELED = "neither energy nor forces nor stress is known"
"""Reason for leaving out a frame without any label."""
Evaluator = Potential | ForeignPotential
"""A potential, or any ASE calculator, which predicts one structure at a time."""
_CHUNK = 1024  # frames held in memory at once
_REASONS = 3  # largest number of reasons in an error


def evaluate(
    potential: Evaluator,
    frames: Iterable[LabeledFrame],
    *,
    dtype: str | None = None,
    errors: Errors | None = None,
    where: str | None = None,
) -> Errors:
    """Errors of `potential` on `frames`, in a single pass without holding all frames in memory.

    Args:
        dtype: "float32" (default) or "float64"; an ASE calculator has its own precision.
        errors: errors to extend; by default new ones.
        where: origin of the frames, for error messages.

    Raises:
        MlipError: no frame is left to compare, or the dtype is unknown.
    """
    errors = Errors() if errors is None else errors
    if isinstance(potential, ForeignPotential):
        errors.knows_reference_energies = False
        check_no_precision(dtype)
    with precision_scope(dtype or "float32"):  # rejects an unknown dtype before anything is read
        for _, comparison in compared(potential, frames, errors=errors, dtype=dtype):
            errors.add(comparison)
    if not errors.n_frames:
        is_bare = set(errors.left_out) == {UNLABELED}
        fix = "label the frames first" if is_bare else "check the file, --split, or the potential's elements"
        raise MlipError(f"no labeled frame to compare with{_why_left_out(errors)}", where=where, fix=fix)
    return errors


def _why_left_out(errors: Errors) -> str:
    """The most frequent reasons, as text; each frame may have its own."""
    reasons = sorted(errors.left_out.items(), key=lambda reason: -reason[1])
    rest = sum(count for _, count in reasons[_REASONS:])
    told = [f"; {count} left out: {why}" for why, count in reasons[:_REASONS]]
    return "".join([*told, f"; {rest} more for other reasons" if rest else ""])


def compared(
    potential: Evaluator, frames: Iterable[LabeledFrame], *, errors: Errors, dtype: str | None = None
) -> Iterator[tuple[list[LabeledFrame], Comparison]]:
    """Frames with their labels and predictions, in chunks sorted by size. Frames without a prediction or a label are
    left out and counted in `errors`."""
    frames = iter(frames)
    while chunk := list(islice(frames, _CHUNK)):
        known = [item for item in chunk if _is_labeled(item, errors) and _is_known(potential, item, errors)]
        # Sorted by size, so that batches need less padding.
        known.sort(key=lambda item: len(item.frame))
        items, predictions = _predictions(potential, known, dtype, errors)
        if items:
            yield items, compare(items, predictions, potential.reference_energies_by_z)


def _predictions(
    potential: Evaluator, items: list[LabeledFrame], dtype: str, errors: Errors
) -> tuple[list[LabeledFrame], list[dict[str, Any]]]:
    """Frames and their predictions; frames without a graph are left out, with their material id as reason."""
    sound, predictions = [], []
    for item, result in zip(items, _tried(potential, items, dtype), strict=True):
        if isinstance(result, MlipError):
            errors.leave_out(f"{item.material_id}: {result.what}")
        else:
            sound.append(item)
            predictions.append(result)
    return sound, predictions


def _tried(potential: Evaluator, items: list[LabeledFrame], dtype: str | None) -> list[dict[str, Any] | MlipError]:
    frames = [item.frame for item in items]
    if isinstance(potential, ForeignPotential):
        return potential.try_predict(frames)
    return potential.try_predict(frames, dtype=dtype or "float32")


def _is_labeled(item: LabeledFrame, errors: Errors) -> bool:
    frame = item.frame
    is_labeled = not np.isnan(frame.energy) or frame.forces is not None or frame.stress is not None
    if not is_labeled:
        errors.leave_out(UNLABELED)
    return is_labeled


def _is_known(potential: Evaluator, item: LabeledFrame, errors: Errors) -> bool:
    try:
        potential.check_elements(item.frame.numbers)
    except MlipError as error:
        errors.leave_out(error.what)
        return False
    return True


def store_frames(store: Store, split: str | None, functional: str | None = None) -> Iterator[LabeledFrame]:
    """Frames of a split and a functional (None for all), in order."""
    for material in chosen_materials(store, split, functional):
        for k in material.frames:
            yield LabeledFrame(store.frame(k), material.id, material.dimensionality, material.functional)


def chosen_materials(store: Store, split: str | None, functional: str | None = None) -> Iterator[Material]:
    """Materials of a split and a functional (None for all), in order."""
    for material in store.materials():
        if split in (None, material.split) and functional in (None, material.functional):
            yield material


def evaluate_path(
    potential: Evaluator,
    data: Path,
    *,
    split: str | None = None,
    functional: str | None = None,
    keys: Mapping[str, str] | None = None,
    dtype: str | None = None,
    allow_functional_mismatch: bool = False,
) -> Errors:
    """Errors on a store (or one of its splits), or on any file or folder that the readers support.

    Args:
        functional: functional of a file that does not state it; for a store, selects the frames of this functional.
        keys: for a file, names of labels that differ from ASE's (`mlip.data.readers.labels`).
        allow_functional_mismatch: allow labels from another functional than the potential's.

    Raises:
        MlipError: the path does not exist or is not readable, no frame is left, the labels are from another functional,
            or a split is given for something other than a store.
    """
    options = {"where": str(data), "allowed": allow_functional_mismatch}
    errors = Errors()
    if is_store(data):
        with Store(data) as store:
            frames = store_frames(store, split, functional)
            chosen = {material.functional for material in chosen_materials(store, split, functional)}
            if not chosen:
                raise _nothing_chosen(store, split, functional, where=str(data))
            errors.functional_note = _functional_note(potential, chosen, **options)
            return evaluate(potential, frames, dtype=dtype, errors=errors, where=str(data))
    if split is not None:
        raise MlipError("only a store has splits", where=str(data), fix="leave out --split")
    frames = _of_known_functional(potential, source_frames(data, functional, errors, keys), errors, **options)
    return evaluate(potential, frames, dtype=dtype, errors=errors, where=str(data))


def _nothing_chosen(store: Store, split: str | None, functional: str | None, where: str) -> MlipError:
    """Says which splits and functionals the store has."""
    sizes = Counter(f"{material.split} ({material.functional})" for material in store.materials())
    asked = "".join([f" in the split {split}" if split else "", f" of {functional}" if functional else ""])
    had = ", ".join(f"{count} in {name}" for name, count in sizes.items()) or "none at all"
    return MlipError(f"no material{asked}: the store has {had}", where=where)


def _of_known_functional(
    potential: Evaluator, frames: Iterable[LabeledFrame], errors: Errors, **options: Any
) -> Iterator[LabeledFrame]:
    """The frames; compares each new functional with the potential's."""
    seen: set[str] = set()
    for item in frames:
        if item.functional not in seen:
            seen.add(item.functional)
            errors.functional_note = _functional_note(potential, seen, **options)
        yield item


def _functional_note(potential: Evaluator, functionals: set[str], *, where: str, allowed: bool) -> str | None:
    return check_functionals(
        potential.functional,
        functionals,
        of_ours="the potential",
        of_theirs="the labels",
        where=where,
        allowed=allowed,
    )


def source_frames(
    path: Path, functional: str | None, errors: Errors, keys: Mapping[str, str] | None = None
) -> Iterator[LabeledFrame]:
    """Frames of a file or folder, streamed; unusable materials, and unusable files of a folder, are counted in
    `errors`.

    Raises:
        MlipError: a material states another functional than the one given, or `path` is a file that cannot be read.
    """
    for file in source_files([path]):
        materials = read_source(file, functional=functional, keys=keys)
        if path.is_dir():
            materials = read_past_faults(materials, file, file.name, lambda skipped: skipped)
        for material in materials:
            if isinstance(material, Skipped):
                if material.reason in (NOT_READ, NO_MATERIAL):
                    errors.leave_out(f"{file.name}: {material.reason}: {material.detail}")
                    continue
                if material.reason.startswith(CONTRADICTION):
                    raise MlipError(material.reason, where=f"{file}: {material.material_id}", fix="leave it out")
                errors.leave_out(material.reason)
                continue
            if isinstance(material, Entry):
                material = material.as_trajectory()
            for frame in material.frames:
                yield LabeledFrame(frame, material.material_id, material.dimensionality, material.functional)
