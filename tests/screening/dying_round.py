"""A round of screening that kills itself, as `kill -9` would; in a process of its own.

python dying_round.py RECIPE PLACE CALL: dies when call number CALL of the function of PLACE has returned.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from mlip.recipe_reading import read_recipe
from mlip.relaxation.results_file import ResultsFile
from mlip.screening import candidates, round
from mlip.screening.checkpoint import RoundState
from mlip.screening.recipe import ScreeningRecipe

PLACES = {
    "block": (RoundState, "add"),  # after the checkpoint of the one before
    "relaxation": (ResultsFile, "append"),
}
BLOCK = 50


def deadly(function: Callable, call: int) -> Callable:
    n_calls = 0

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        result = function(*args, **options)
        if n_calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return counted


if __name__ == "__main__":
    recipe, place, call = sys.argv[1:]
    candidates.BLOCK = BLOCK
    owner, name = PLACES[place]
    setattr(owner, name, deadly(getattr(owner, name), int(call)))
    round.run_round(read_recipe(recipe, ScreeningRecipe), progress=False, checkpoint_seconds=0)
