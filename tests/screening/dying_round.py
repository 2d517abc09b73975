"""A round of screening that kills itself, as `kill -9` would; in a process of its own.

    python -m tests.screening.dying_round RECIPE PLACE CALL

dies when call number CALL of the function of PLACE has returned.
"""

import sys

from mlip.recipe_reading import read_recipe
from mlip.relaxation.results_file import ResultsFile
from mlip.screening import candidates, round
from mlip.screening.round_state import RoundState
from mlip.screening.screening_recipe import ScreeningRecipe
from tests.dying import die_at_call

PLACES = {
    "block": (RoundState, "add"),  # after the checkpoint of the one before
    "relaxation": (ResultsFile, "append"),
}
BLOCK = 50


if __name__ == "__main__":
    recipe, place, call = sys.argv[1:]
    candidates.BLOCK = BLOCK
    die_at_call(*PLACES[place], int(call))
    round.run_round(read_recipe(recipe, ScreeningRecipe), progress=False, checkpoint_seconds=0)
