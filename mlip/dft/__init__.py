"""Hand-over of structures to DFT, or to a surrogate, and collection of the results."""

from mlip.dft.handover import calculated_functional, collect, hand_over
from mlip.dft.recipe import DftRecipe, SurrogateRecipe, VaspRecipe
from mlip.dft.records import FINISHED, NOT_STARTED, UNFINISHED, Outcome, Proposal

__all__ = [
    "FINISHED",
    "NOT_STARTED",
    "UNFINISHED",
    "DftRecipe",
    "Outcome",
    "Proposal",
    "SurrogateRecipe",
    "VaspRecipe",
    "calculated_functional",
    "collect",
    "hand_over",
]
