"""What a run leaves behind: the potential and its pictures."""

from itertools import islice
from typing import Any

from mlip.data import Store
from mlip.errors import MlipError
from mlip.evaluation.evaluate import evaluate, store_frames
from mlip.evaluation.frame_errors import Errors
from mlip.potential import Potential, PotentialMetadata
from mlip.property_model import PropertyMetadata, PropertyModel
from mlip.training.dataset import Dataset, store_fingerprint
from mlip.training.log import RunLog
from mlip.training.property_dataset import PropertyDataset
from mlip.training.property_loss import ROBUST
from mlip.training.recipe import Recipe
from mlip.training.report.plots import plot_learning_curves, plot_parity
from mlip.training.run_folder import RunFolder
from mlip.training.step import TrainState

_PARITY_FRAMES = 2000


def export(
    recipe: Recipe, store: Store, data: Dataset, state: TrainState, step: int, origin: Potential | None = None
) -> Potential:
    """The potential with the averaged parameters of `state`.

    Args:
        origin: what training started from.
    """
    provenance = _provenance(recipe, store, data, step, origin)
    metadata = PotentialMetadata.of_heads(data.heads, provenance=provenance, precision=recipe.train.precision)
    return Potential(recipe.model, state.average, metadata)


def export_property_model(
    recipe: Recipe,
    store: Store,
    data: PropertyDataset,
    state: TrainState,
    step: int,
    origin: PropertyModel | None = None,
) -> PropertyModel:
    """The property model with the averaged parameters of `state`. Arguments as of `export`."""
    metadata = PropertyMetadata(
        property=data.property,
        mean=data.mean,
        std=data.std,
        elements=data.elements,
        functional=data.functional,
        knows_uncertainty=recipe.property.loss in ROBUST,
        provenance=_provenance(recipe, store, data, step, origin),
    )
    return PropertyModel(recipe.model, state.average, metadata)


def _provenance(recipe: Recipe, store: Store, data, step: int, origin) -> dict[str, Any]:
    """Where parameters and data came from."""
    provenance = {
        "recipe": recipe.model_dump(mode="json", exclude={"out"}),
        "recipe_fingerprint": recipe.fingerprint(),
        "store_fingerprint": store_fingerprint(store),
        "training_frames": len(data.train),
        "step": step,
    }
    if origin is not None:
        provenance["init_from"] = origin.metadata.provenance
    if "surrogate" in data.functional.lower():
        provenance["note"] = "trained on surrogate labels (a learned potential-energy surface), not on DFT"
    return provenance


def draw(folder: RunFolder, potential: Potential, store: Store, log: RunLog) -> None:
    """Learning curves, and the parity of the exported potential on the first validation frames, if any."""
    plot_learning_curves(folder.path)
    errors = Errors()
    try:
        for head in potential.heads:
            frames = store_frames(store, "val", functional=head if len(potential.heads) > 1 else None)
            evaluate(potential.of_head(head), islice(frames, _PARITY_FRAMES), errors=errors)
    except MlipError as error:  # the potential is made: a missing picture does not fail the run
        log.say(f"no parity plot of the validation frames: {error.what}")
        return
    plot_parity(errors, folder.path, title=f"validation: {folder.path}")
