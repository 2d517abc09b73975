"""A training run that kills itself, as `kill -9` would, where it comes to a certain place; in a process of its own."""

from mlip.potential import Potential
from mlip.training import loop
from mlip.training.checkpoint import Checkpoints
from mlip.training.recipe import Recipe
from tests.dying import die_at_call

PLACES = {
    "checkpoint": (Checkpoints, "save"),
    "validation": (loop, "add_terms"),
    "export": (Potential, "save"),
}
"""Functions that a run calls there."""


def go_on(recipe: Recipe, place: str | None = None, call: int = 0) -> None:
    """Begin or resume the run; die when call number `call` of the function of `place` has returned."""
    if place is not None:
        die_at_call(*PLACES[place], call)
    loop.train(recipe, resume=True, quiet=True)
