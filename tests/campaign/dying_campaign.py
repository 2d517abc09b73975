"""A campaign that kills itself, as `kill -9` would; in a process of its own.

    python -m tests.campaign.dying_campaign RECIPE PLACE CALL

dies when call number CALL of the function of PLACE has returned.
"""

import sys

from mlip.campaign import choosing, folder
from mlip.campaign.campaign import run_campaign
from mlip.campaign.campaign_recipe import CampaignRecipe
from mlip.data.writer import StoreWriter
from mlip.hull.growing import GrowingHull
from mlip.recipe_reading import read_recipe
from mlip.relaxation.results_file import ResultsFile
from mlip.training.checkpoint import Checkpoints
from tests.dying import die_at_call

PLACES = {
    "screening": (choosing, "screen_candidates"),
    "result": (ResultsFile, "append"),
    "entry": (StoreWriter, "add"),
    "hull": (GrowingHull, "save"),
    "checkpoint": (Checkpoints, "save"),
    "time": (folder.StageFolder, "seconds"),
}


if __name__ == "__main__":
    recipe, place, call = sys.argv[1:]
    die_at_call(*PLACES[place], int(call))
    run_campaign(read_recipe(recipe, CampaignRecipe), progress=False)
