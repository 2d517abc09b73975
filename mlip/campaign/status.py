"""The status of a campaign, read from its folder."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from mlip.campaign.calculating import OPEN
from mlip.campaign.campaign_recipe import CampaignRecipe
from mlip.campaign.folder import CampaignFolder, RoundFolder, StageFolder, read_json
from mlip.campaign.report.statistics import hit_rate
from mlip.data.workers import n_cores
from mlip.dft.handover import collect
from mlip.errors import MlipError
from mlip.recipe_reading import read_recipe

_STEPS = (
    ("entries", "entries"),
    ("model_record", "model"),
    ("chosen", "screening"),
    ("proposals", "relaxation"),
    ("outcomes", "calculation"),
    ("summary", "hull"),
)
"""Files of a round in order of creation, and the step that writes each."""


def campaign_status(path: Path) -> dict[str, Any]:
    """The status of a campaign: number of finished rounds, the next step, and the calculations it waits for.

    Raises:
        MlipError: there is no campaign.
    """
    folder = CampaignFolder(path)
    if not folder.recipe.exists():
        raise MlipError("holds no campaign: there is no recipe.yaml", where=str(path), fix="mlip campaign RECIPE")
    recipe = read_recipe(folder.recipe, CampaignRecipe)
    rounds = folder.rounds
    done = [one for one in rounds if one.is_done]
    status: dict[str, Any] = {
        "campaign": str(path),
        "rounds_done": len(done),
        "rounds_asked_for": recipe.rounds,
        "stage": "done",
        "step": None,
        "waiting_for": None,
    }
    stage: StageFolder | None = None
    if not rounds and folder.references.proposals.exists():
        stage, status["stage"], status["step"] = folder.references, "references", "calculation"
    elif len(done) < recipe.rounds:
        stage = next((one for one in rounds if not one.is_done), None)
        status["stage"] = f"round {len(done) + 1}"
        status["step"] = _next_step(stage) if stage else "entries"
    if stage is not None and (stage.dft / "handover.json").exists() and not stage.outcomes.exists():
        reasons = Counter(one.reason for one in collect(recipe.dft, stage.dft, workers=n_cores()))
        status["calculations"] = dict(reasons.most_common())
        n_open = sum(status["calculations"].get(reason, 0) for reason in OPEN)
        if n_open and not stage.closed.exists():
            status["waiting_for"] = f"{n_open} calculations in {stage.dft}"
    if done:
        last = read_json(done[-1].summary)
        status["hull"] = last["hull"]
        status["note"] = last["note"]
    status["rounds"] = [_line(read_json(one.summary)) for one in done]
    return status


def _next_step(folder: RoundFolder) -> str:
    return next(step for name, step in _STEPS if not getattr(folder, name).exists())


def _line(summary: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of rounds."""
    found = {}
    for name, way in (("by_model", "proposed"), ("by_chance", "random")):
        distances = np.array(summary["distances"][way], float)
        found[name] = {
            "finished": len(distances),
            "on_hull": hit_rate(distances).hits,
            "median": float(np.median(distances)) if len(distances) else None,
        }
    return {
        "round": summary["round"],
        "candidates": summary["candidates"],
        "proposals": summary["proposed"],
        **found,
        "new_vertices": summary["hull"]["new_vertices"],
        "test_mae": summary["model"]["test_mae"],
        "seconds": round(sum(summary["seconds"].values()), 1),
    }
