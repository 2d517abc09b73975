"""The plan of a screening recipe, read and checked before anything is predicted."""

import hashlib
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from mlip.errors import MlipError
from mlip.files.checksum import checksum_of
from mlip.functionals import check_functionals
from mlip.graph.shells import ShellGraph
from mlip.potential import open_potential
from mlip.property_model import PropertyModel
from mlip.screening.best import Best
from mlip.screening.candidates import Candidates
from mlip.screening.prototypes import PrototypeSet, ScreeningPrototype, read_prototypes
from mlip.screening.rules import Rules
from mlip.screening.screening_recipe import ScreeningRecipe
from mlip.screening.substitution import substituted

_PREDICTED = "e_above_hull"


@dataclass(frozen=True)
class Kept:
    """A candidate that stays."""

    number: int
    """Among the round's candidates."""
    prototype: ScreeningPrototype
    atoms: Atoms
    """As substituted."""
    distance: float
    """Predicted, to the hull, eV/atom."""


@dataclass(frozen=True)
class ScreeningPlan:
    """A round that can begin."""

    recipe: ScreeningRecipe
    model: PropertyModel
    prototypes: PrototypeSet
    candidates: Candidates
    rules: Rules
    functional_notes: tuple[str, ...] = ()
    """Remarks on the functionals of model, potential and prototypes, if they are not all the same."""

    @property
    def protocol(self) -> dict[str, Any]:
        """Settings that two starts must share to be one round."""
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
            "keep": self.recipe.keep.model_dump(),
        }

    def kept(self, best: Best) -> Iterator[Kept]:
        """The candidates that stay, by rising distance."""
        for number, distance in zip(best.candidates.tolist(), best.distances.tolist(), strict=True):
            place = self.candidates.prototype_of(number)
            prototype = self.candidates.prototypes[place]
            (elements,) = self.candidates.numbers(place, np.array([number]))
            yield Kept(number, prototype, substituted(prototype, elements), distance)


def plan_round(recipe: ScreeningRecipe, *, allow_functional_mismatch: bool = False) -> ScreeningPlan:
    """Read model and prototypes, and count the candidates.

    Args:
        allow_functional_mismatch: model, potential and the prototypes' store may be of several functionals.

    Raises:
        MlipError: functionals that differ; a file that is not there or is something else, elements that the model
            does not know, `smact` is asked for and not installed.
    """
    model = PropertyModel.load(recipe.model)
    if model.metadata.property != _PREDICTED:
        raise MlipError(f"predicts {model.metadata.property}, not {_PREDICTED}", where=str(recipe.model))
    _check_elements(recipe, model.elements, f"model: {recipe.model}")
    notes = []
    if recipe.relax is not None:  # not only when all has been predicted
        where = f"relax.potential: {recipe.relax.potential}"
        potential = open_potential(recipe.relax.potential)
        _check_elements(recipe, potential.elements, where)
        theirs = "the potential", {potential.metadata.functional}
        notes.append(_compared(model, *theirs, where=where, allowed=allow_functional_mismatch))
    if recipe.out.exists() and not recipe.out.is_dir():
        raise MlipError("out is a file, not a folder", where=str(recipe.out), fix="set out=FOLDER")
    inputs = model.config.inputs
    if not isinstance(inputs, ShellGraph):
        raise MlipError(
            f"the network reads {inputs.describe()}: prototypes are told apart by their shells of neighbors",
            where=f"model: {recipe.model}",
            fix="screen with a CGAT",
        )
    prototypes = read_prototypes(recipe.prototypes, inputs)
    if prototypes.functionals:
        theirs, where = ("the prototypes", prototypes.functionals), f"prototypes.source: {recipe.prototypes.source}"
        notes.append(_compared(model, *theirs, where=where, allowed=allow_functional_mismatch))
    candidates = Candidates(prototypes.prototypes, recipe.elements.symbols)
    rules = Rules(recipe.rules, candidates.elements)
    return ScreeningPlan(recipe, model, prototypes, candidates, rules, tuple(note for note in notes if note))


def _compared(model: PropertyModel, of_theirs: str, theirs: Set[str], *, where: str, allowed: bool) -> str | None:
    ours = model.metadata.functional
    return check_functionals(ours, theirs, of_ours="the model", of_theirs=of_theirs, where=where, allowed=allowed)


def _check_elements(recipe: ScreeningRecipe, known: Sequence[str], where: str) -> None:
    if unknown := [symbol for symbol in recipe.elements.symbols if symbol not in known]:
        excluded = ",".join([*recipe.elements.exclude, *unknown])
        raise MlipError(f"does not know {', '.join(unknown)}", where=where, fix=f"elements.exclude=[{excluded}]")
