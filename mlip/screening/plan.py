"""The plan of a screening round: the recipe's inputs are read and checked before anything is predicted."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from mlip.errors import MlipError
from mlip.files.checksum import checksum_of
from mlip.functionals import check_functionals
from mlip.graph.shared_graph import check_shares_graphs
from mlip.potential import open_potential
from mlip.property_model import PropertyModel
from mlip.screening.best import Best
from mlip.screening.candidates import Candidates
from mlip.screening.prototypes import PrototypeSet, ScreeningPrototype, read_prototypes
from mlip.screening.rules import Rules
from mlip.screening.screening_recipe import ScreeningRecipe
from mlip.screening.sieve import Sieve, reads_compositions
from mlip.screening.substitution import substituted

_PREDICTED = "e_above_hull"


@dataclass(frozen=True)
class Kept:
    """A candidate that passes the screening."""

    number: int
    """Index among the round's candidates."""
    prototype: ScreeningPrototype
    atoms: Atoms
    """Substituted structure, not relaxed."""
    distance: float
    """Predicted distance to the hull, eV/atom."""


@dataclass(frozen=True)
class ScreeningPlan:
    """The checked inputs of a round."""

    recipe: ScreeningRecipe
    model: PropertyModel
    prototypes: PrototypeSet
    candidates: Candidates
    rules: Rules
    sieve: Sieve | None = None
    functional_notes: tuple[str, ...] = ()
    """Notes on the functionals of model, potential and prototypes, if they are not all the same."""

    @property
    def protocol(self) -> dict[str, Any]:
        """Settings that must agree for a restart to continue a round."""
        prototypes = hashlib.sha256()
        for prototype in self.prototypes.prototypes:
            atoms = prototype.atoms
            for part in (atoms.numbers.astype("<i8"), atoms.cell.array, atoms.positions, prototype.orders):
                prototypes.update(np.ascontiguousarray(part).tobytes())
        return {
            "model": checksum_of(self.recipe.model_file),
            "prototypes": prototypes.hexdigest(),
            "elements": self.candidates.elements.tolist(),
            "rules": self.recipe.rules.model_dump(),
            "keep": self.recipe.keep.model_dump(mode="json"),
        } | self._further_settings

    @property
    def _further_settings(self) -> dict[str, Any]:
        """Settings of optional parts of a round."""
        further: dict[str, Any] = {}
        if self.recipe.sieve is not None:
            further["sieve"] = [checksum_of(self.recipe.sieve.model_file), self.recipe.sieve.below]
        if (known := self.candidates.checksum_of_known()) is not None:
            further["known candidates"] = known
        return further

    def kept(self, best: Best) -> Iterator[Kept]:
        """Candidates that pass, by ascending distance to the hull."""
        for number, distance in zip(best.candidates.tolist(), best.distances.tolist(), strict=True):
            yield self.candidate(number, distance)

    def candidate(self, number: int, distance: float) -> Kept:
        """The candidate with this index as a crystal.

        Args:
            distance: predicted distance to the hull, eV/atom.
        """
        place = self.candidates.prototype_of(number)
        prototype = self.candidates.prototypes[place]
        (elements,) = self.candidates.numbers(place, np.array([number]))
        return Kept(number, prototype, substituted(prototype, elements), distance)


def plan_round(
    recipe: ScreeningRecipe,
    *,
    allow_functional_mismatch: bool = False,
    known: Mapping[str, np.ndarray] | None = None,
) -> ScreeningPlan:
    """Read model and prototypes, and count the candidates.

    Args:
        allow_functional_mismatch: allow model, potential and the prototypes' store to be of several functionals.
        known: candidates to skip because they are known: prototype's name -> atomic numbers on its sites, shape (k,
            sites).

    Raises:
        MlipError: functionals differ, a file is missing or of another kind, the model does not know an element, or
            `smact` is required but not installed.
    """
    model = PropertyModel.load(recipe.model)
    if model.metadata.property != _PREDICTED:
        raise MlipError(f"predicts {model.metadata.property}, not {_PREDICTED}", where=str(recipe.model))
    _check_elements(recipe, model.elements, f"model: {recipe.model}")
    notes = []
    if recipe.relax is not None:  # opened now, so that errors come before any prediction
        where = f"relax.potential: {recipe.relax.potential}"
        potential = open_potential(recipe.relax.potential)
        _check_elements(recipe, potential.elements, where)
        theirs = "the potential", {potential.metadata.functional}
        notes.append(_compared(model, *theirs, where=where, allowed=allow_functional_mismatch))
    if recipe.out.exists() and not recipe.out.is_dir():
        raise MlipError("out is a file, not a folder", where=str(recipe.out), fix="set out=FOLDER")
    check_shares_graphs(model.config.inputs, where=f"model: {recipe.model}")
    sieve = None
    if recipe.sieve is not None:
        sieve_model = _open_sieve(recipe)
        where = f"sieve.model: {recipe.sieve.model}"
        theirs = "the sieve", {sieve_model.metadata.functional}
        notes.append(_compared(model, *theirs, where=where, allowed=allow_functional_mismatch))
        sieve = Sieve(sieve_model, recipe.sieve.below)
    prototypes = read_prototypes(recipe.prototypes, model.config.inputs)
    if prototypes.functionals:
        sources = ", ".join(map(str, recipe.prototypes.sources))
        theirs, where = ("the prototypes", prototypes.functionals), f"prototypes.source: {sources}"
        notes.append(_compared(model, *theirs, where=where, allowed=allow_functional_mismatch))
    candidates = Candidates(prototypes.prototypes, recipe.elements.symbols, known)
    rules = Rules(recipe.rules, candidates.elements)
    return ScreeningPlan(recipe, model, prototypes, candidates, rules, sieve, tuple(note for note in notes if note))


def _open_sieve(recipe: ScreeningRecipe) -> PropertyModel:
    """Open the sieve's model.

    Raises:
        MlipError: it predicts another property, reads structures, or lacks elements.
    """
    where = f"sieve.model: {recipe.sieve.model}"
    model = PropertyModel.load(recipe.sieve.model_file)
    if model.metadata.property != _PREDICTED:
        raise MlipError(f"predicts {model.metadata.property}, not {_PREDICTED}", where=where)
    if not reads_compositions(model):
        raise MlipError(
            f"the network reads {model.config.inputs.describe()}, and a sieve judges compositions",
            where=where,
            fix="a CrabNet; or leave sieve out",
        )
    _check_elements(recipe, model.elements, where)
    return model


def _compared(model: PropertyModel, of_theirs: str, theirs: Set[str], *, where: str, allowed: bool) -> str | None:
    ours = model.metadata.functional
    return check_functionals(ours, theirs, of_ours="the model", of_theirs=of_theirs, where=where, allowed=allowed)


def _check_elements(recipe: ScreeningRecipe, known: Sequence[str], where: str) -> None:
    if unknown := [symbol for symbol in recipe.elements.symbols if symbol not in known]:
        excluded = ",".join([*recipe.elements.exclude, *unknown])
        raise MlipError(f"does not know {', '.join(unknown)}", where=where, fix=f"elements.exclude=[{excluded}]")
