"""A training run that kills itself, as `kill -9` would, where it comes to a certain place; in a process of its own."""

import os
import signal
from collections.abc import Callable
from typing import Any

from mlip.potential import Potential
from mlip.training import loop
from mlip.training.checkpoint import Checkpoints
from mlip.training.recipe import Recipe

PLACES = {
    "checkpoint": (Checkpoints, "save"),
    "validation": (loop, "add_terms"),
    "export": (Potential, "save"),
}
"""Functions that a run calls there."""


def go_on(recipe: Recipe, place: str | None = None, call: int = 0) -> None:
    """Begin or resume the run; die when call number `call` of the function of `place` has returned.

    Files may then still be on their way to the disk, as those of a checkpoint are.
    """
    if place is not None:
        owner, name = PLACES[place]
        setattr(owner, name, _deadly(getattr(owner, name), call))
    loop.train(recipe, resume=True, quiet=True)


def _deadly(function: Callable, call: int) -> Callable:
    n_calls = 0

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        result = function(*args, **options)
        if n_calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return counted
