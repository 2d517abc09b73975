"""Data of a potential: the frames and the energy scale.

A model learns interaction energies: total energies minus reference energies fitted to the training split. The unit of
its output is the root mean square force component of that split, because forces determine the curvature that a
potential must reproduce. Frames with absurd forces are excluded from this mean and reported. Without force labels the
unit is the root mean square energy per atom. A model with several heads learns several functionals at once, each on its
own energy scale.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Float, Int

from mlip.data import Store
from mlip.data.label_statistics import LabelStatistics, compute_statistics
from mlip.errors import MlipError
from mlip.potential import Head, energies_by_z
from mlip.training.recipe import EnergyScaleRecipe, LossRecipe, StatisticsRecipe, TermFactors

_NOTHING_GIVEN = StatisticsRecipe()
_NAMED_FRAMES = 5


@dataclass(frozen=True, eq=False)
class Dataset:
    """Frames of a run, as indices of its store."""

    statistics: dict[str, LabelStatistics]
    """Statistics of the training split for each head of the model, without replayed frames."""
    heads: dict[str, Head]
    """Energy scale of each head, in the form used by a potential."""
    head_of_material: Int[np.ndarray, " m"] | None
    """Index of each material's head; None if there is only one head."""
    train: Int[np.ndarray, " k"]
    validation: Int[np.ndarray, " v"]
    """Validation frames; may be empty."""
    n_left_out: int
    """Number of validation frames with an element that the training split lacks."""
    functionals: dict[str, int]
    """Number of materials by functional, in the whole store."""
    replayed: Int[np.ndarray, " r"] = field(default_factory=lambda: np.empty(0, np.int64))
    """Frames of a further store, indexed after the first, that are replayed so that the potential forgets less."""
    notes: tuple[str, ...] = ()
    """Lines for the user about the origin of the energy scales."""

    @property
    def elements(self) -> list[str]:
        """Symbols of the elements, sorted by atomic number."""
        found = set().union(*(head.reference_energies for head in self.heads.values()))
        return sorted(found, key=atomic_numbers.__getitem__)

    @property
    def scale(self) -> Float[np.ndarray, "*h"]:
        """Energy per unit of the model's output, eV: a scalar, or one value per head."""
        return np.array([head.scale for head in self.heads.values()]).squeeze()

    @property
    def reference_energies_by_z(self) -> Float[np.ndarray, "*h 119"]:
        """Reference energies by atomic number, eV, including shifts; NaN for unknown elements. One row per head if
        there are several."""
        rows = [energies_by_z(head.reference_energies) + head.shift for head in self.heads.values()]
        return rows[0] if len(rows) == 1 else np.array(rows)

    @property
    def functional(self) -> str:
        """Name of the functional; several are joined by '+'."""
        return "+".join(sorted(self.functionals))

    def describe(self) -> str:
        """Lines for the user about the data at the start of a run."""
        n_atoms = sum(known.n_atoms for known in self.statistics.values())
        lines = [
            f"train {len(self.train):,} frames ({n_atoms:,} atoms, {len(self.elements)} elements), "
            f"validation {len(self.validation):,} frames, functional {self.functional}"
        ]
        is_mixture = self.head_of_material is None and len(self.functionals) > 1
        for name, known in self.statistics.items():
            of_head = "" if self.head_of_material is None else f"{name}, {known.n_frames:,} frames: "
            lines.append(
                f"{of_head}energies without E0: rms {known.energy_rms_per_atom:.3f} eV/atom; forces: rms "
                f"{known.force_rms:.3f} eV/Å; model output in units of {self.heads[name].scale:.3f} eV"
            )
        if self.n_left_out:
            lines.append(f"{self.n_left_out} validation frames left out: elements that the training set lacks")
        if is_mixture:
            mixture = ", ".join(f"{name} ({count} materials)" for name, count in self.functionals.items())
            lines.append(f"warning: energies of several functionals are mixed: {mixture}")
        return "\n".join([*lines, *self.notes])


def energy_scale(known: LabelStatistics) -> float:
    """Energy per unit of the model's output, eV."""
    for scale in (known.robust_force_rms, known.force_rms, known.energy_rms_per_atom):
        if np.isfinite(scale) and scale > 0:
            return scale
    return 1.0


def open_dataset(
    store: Store,
    heads: Sequence[str] = ("default",),
    remembered: Path | None = None,
    given: StatisticsRecipe = _NOTHING_GIVEN,
) -> Dataset:
    """Training and validation frames of a store.

    Args:
        heads: heads of the model. A single head uses all frames; each of several uses the frames of the functional with
            its name.
        remembered: file that stores the statistics, so that a resumed run uses exactly the same reference energies.
        given: values that replace measured reference energies and scales.

    Raises:
        MlipError: a head has no training frames or no energy among them, a functional has no head, or given reference
            energies lack an element.
    """
    functionals = Counter(material.functional for material in store.materials())
    if strangers := sorted(set(given.of_functional) - set(heads)):
        raise MlipError(
            f"data.statistics.of_functional names {', '.join(strangers)}, the model has the heads {', '.join(heads)}"
        )
    if len(heads) == 1:
        functional_of, head_of_material = {heads[0]: None}, None
    else:
        functional_of = {head: head for head in heads}
        head_of_material = head_of_each_material(store, heads, functionals)
    statistics = _statistics(store, functional_of, remembered)
    for name, known in statistics.items():
        if not all(np.isfinite(list(known.reference_energies.values()))):
            of_head = "" if head_of_material is None else f" of {name}"
            raise MlipError(f"no energy{of_head} is known in the training split", where=str(store.path))
    validation = [
        frames_of_elements(store, "val", functional, statistics[name].elements)
        for name, functional in functional_of.items()
    ]
    validation = np.sort(np.concatenate(validation))
    functional = "+".join(sorted(functionals))
    return Dataset(
        statistics=statistics,
        heads={
            name: Head(
                reference_energies=_reference_energies(known, given.of_head(name), store),
                scale=given.of_head(name).scale or energy_scale(known),
                functional=functional if head_of_material is None else name,
            )
            for name, known in statistics.items()
        },
        head_of_material=head_of_material,
        train=store.indices("train"),
        validation=validation,
        n_left_out=len(store.indices("val")) - len(validation),
        functionals=dict(functionals),
        notes=tuple(_notes(statistics, given, store)),
    )


def _notes(statistics: dict[str, LabelStatistics], given: StatisticsRecipe, store: Store) -> Iterator[str]:
    if given.is_given:
        yield "energy scale: as data.statistics gives it"
    for name, known in statistics.items():
        if known.n_absurd_forces:
            of_head = f"{name}: " if len(statistics) > 1 else ""
            yield f"warning: {of_head}{absurd_forces(known, store)}"
        if known.n_absurd_energies:
            of_head = f"{name}: " if len(statistics) > 1 else ""
            yield f"warning: {of_head}{absurd_energies(known, store)}"


def absurd_forces(known: LabelStatistics, store: Store) -> str:
    """Warning about training frames excluded from the energy scale because of their forces, with advice."""
    return (
        f"absurd forces in {_named(known.absurd_frames, known.n_absurd_forces, 'eV/Å', store)}: left out of the energy "
        f"scale, which would be {known.force_rms:.3g} instead of {known.robust_force_rms:.3g} eV; they are still "
        "trained on (mlip data build --outliers pbesol leaves out forces above 50 eV/Å)"
    )


def absurd_energies(known: LabelStatistics, store: Store) -> str:
    """Warning about training frames excluded from the fit of reference energies, with advice."""
    return (
        f"absurd energies in {_named(known.absurd_energies, known.n_absurd_energies, 'eV/atom off', store)}: left out "
        "of the reference energies; they are still trained on (take them out of the source and build again)"
    )


def _named(frames: Sequence[tuple[int, float]], count: int, unit: str, store: Store) -> str:
    told = [
        f"frame {frame} ({store.material(store.material_of(frame)).id}, {size:,.0f} {unit})"
        for frame, size in frames[:_NAMED_FRAMES]
    ]
    return ", ".join(told) + (f" and {count - len(told)} more" if count > len(told) else "")


def _reference_energies(known: LabelStatistics, given: EnergyScaleRecipe, store: Store) -> dict[str, float]:
    """Reference energies of the elements in the training frames, eV, by symbol."""
    if given.reference_energies is None:
        return known.reference_energies
    if lacking := [symbol for symbol in known.elements if symbol not in given.reference_energies]:
        raise MlipError(
            f"data.statistics.reference_energies lacks {', '.join(lacking)} of the training frames",
            where=str(store.path),
        )
    return {symbol: given.reference_energies[symbol] for symbol in known.elements}


def head_of_each_material(store: Store, heads: Sequence[str], functionals: Iterable[str]) -> Int[np.ndarray, " m"]:
    """Index of the head named after the functional of each material.

    Raises:
        MlipError: a functional has no head.
    """
    if strangers := sorted(set(functionals) - set(heads)):
        raise MlipError(
            f"the store has materials of {', '.join(strangers)}, the model the heads {', '.join(heads)}",
            where=str(store.path),
            fix="name a head of the model after each functional: model.heads=[PBE,PBEsol]",
        )
    places = {head: place for place, head in enumerate(heads)}
    return np.array([places[material.functional] for material in store.materials()], np.int32)


def _statistics(
    store: Store, functional_of: dict[str, str | None], remembered: Path | None
) -> dict[str, LabelStatistics]:
    """Statistics of the training frames for each head; the file has one line per head."""
    if remembered is not None and remembered.exists():
        lines = remembered.read_text().splitlines()
        return {head: LabelStatistics.from_json(line) for head, line in zip(functional_of, lines, strict=True)}
    found = {head: compute_statistics(store, "train", functional) for head, functional in functional_of.items()}
    if remembered is not None:
        remembered.write_text("\n".join(statistics.to_json() for statistics in found.values()))
    return found


def factors_of_materials(recipe: LossRecipe, store: Store) -> Float[np.ndarray, "m 3"] | None:
    """Factors on the energy, forces and stress of each material's frames; None if all are one.

    Raises:
        MlipError: the recipe names a functional that the store lacks.
    """
    if not recipe.of_functional:
        return None
    functionals = [material.functional for material in store.materials()]
    if strangers := sorted(set(recipe.of_functional) - set(functionals)):
        raise MlipError(
            f"loss.of_functional names {', '.join(strangers)}, the store has {', '.join(sorted(set(functionals)))}",
            where=str(store.path),
        )
    alike = TermFactors()
    factors = [recipe.of_functional.get(functional, alike) for functional in functionals]
    return np.array([(of.energy, of.forces, of.stress) for of in factors], np.float32)


def frames_of_elements(
    store: Store, split: str, functional: str | None, elements: Sequence[str]
) -> Int[np.ndarray, " k"]:
    """Frames of the split and functional that contain only these elements."""
    is_known = np.zeros(len(chemical_symbols), bool)
    is_known[[atomic_numbers[symbol] for symbol in elements]] = True
    flags = [np.zeros(0, bool)]
    for block in store.blocks(("atoms/number",), split, functional):
        starts = np.cumsum(block["size"]) - block["size"]
        flags.append(np.logical_and.reduceat(is_known[block["number"]], starts))
    return store.indices(split, functional)[np.concatenate(flags)]
