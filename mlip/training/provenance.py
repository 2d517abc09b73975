"""Provenance in a trained model's file: recipe, data and starting model."""

from typing import Any

from mlip.data import Store
from mlip.runtime import jax_facts
from mlip.training.log import read_metrics
from mlip.training.recipe import Recipe
from mlip.training.run_folder import RunFolder, store_fingerprint
from mlip.training.task import TrainedModel, TrainingData


def provenance_of(
    recipe: Recipe, store: Store, data: TrainingData, step: int, start: TrainedModel | None, folder: RunFolder
) -> dict[str, Any]:
    """JSON-serializable provenance of the model after `step`.

    Args:
        folder: the run folder.
    """
    provenance = {
        "recipe": recipe.model_dump(mode="json", exclude={"out"}),
        "recipe_fingerprint": recipe.fingerprint(),
        "store_fingerprint": store_fingerprint(store),
        "training_frames": len(data.train),
        "step": step,
        "jax": jax_facts(),
    }
    if recipe.data.replay is not None:
        provenance["replayed_from_frames"] = len(data.replayed)
    if changed := read_metrics(folder.path, "epochs"):
        provenance["epochs_changed"] = [[record["step"], record["before"], record["now"]] for record in changed]
    if start is not None:
        provenance["init_from"] = start.metadata.provenance
    if "surrogate" in data.functional.lower():
        provenance["note"] = "trained on surrogate labels (a learned potential-energy surface), not on DFT"
    return provenance
