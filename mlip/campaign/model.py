"""The property model of a round: the start's, that of the last round, or one trained on all entries so far."""

from pathlib import Path
from typing import Any

from mlip.campaign.campaign_recipe import CampaignRecipe
from mlip.campaign.entries import DISTANCE
from mlip.campaign.folder import RoundFolder, read_json, write_json
from mlip.data import Store
from mlip.errors import MlipError
from mlip.evaluation.property_errors import evaluate_property
from mlip.files.checksum import checksum_of
from mlip.pretrained import resolve
from mlip.property_model import PropertyModel
from mlip.recipe_reading import dotted
from mlip.training.loop import train
from mlip.training.recipe_file import load_recipe


def settle_model(recipe: CampaignRecipe, folder: RoundFolder, last: RoundFolder | None, *, quiet: bool) -> Path:
    """File of the round's model; `folder.model_record` records which model it is, and its error on the test split.

    Args:
        last: the previous round; None in the first one.
    """
    if folder.model_record.exists():
        return Path(read_json(folder.model_record)["path"])
    n_entries = _n_entries(folder)
    path, n_train = _without_training(recipe, last, n_entries)
    is_trained = path is None
    if path is None:
        path, n_train = _trained(recipe, folder, last, quiet), n_entries
    record = {
        "path": str(path),
        "checksum": checksum_of(path),
        "retrained": is_trained,
        "n_train": n_train,
        "test_mae": _test_error(recipe, path, folder),
    }
    write_json(folder.model_record, record)
    return path


def _n_entries(folder: RoundFolder) -> int:
    with Store(folder.entries) as store:
        return store.n_materials


def _without_training(
    recipe: CampaignRecipe, last: RoundFolder | None, n_entries: int
) -> tuple[Path | None, int | None]:
    """A model that can be used without training, and the number of entries it was trained on if known; (None, None) if
    one must be trained."""
    if last is None:
        start = recipe.model.start
        return (None, None) if start is None else (resolve(start).absolute(), None)
    record = read_json(last.model_record)
    learned = record["n_train"] if record["n_train"] is not None else _n_entries_of_first(last)
    if n_entries - learned >= recipe.model.retrain_after:
        return None, None
    return Path(record["path"]), record["n_train"]


def _n_entries_of_first(folder: RoundFolder) -> int:
    """Number of entries of the start, which an external model is assumed to have been trained on."""
    return _n_entries(RoundFolder(folder.path.with_name("001")))


def _trained(recipe: CampaignRecipe, folder: RoundFolder, last: RoundFolder | None, quiet: bool) -> Path:
    values: dict[str, Any] = dict(recipe.model.values)
    values["data"] = {**values.get("data", {}), "store": str(folder.entries)}
    values["out"] = str(folder.training)
    if last is not None and recipe.model.from_last:
        # Distances of unlikely crystals, which the last model may not have seen, need the scale of the current entries.
        values["init_from"] = {"potential": read_json(last.model_record)["path"], "scale": "refit"}
    training = load_recipe(recipe.model.recipe, dotted(values))
    if training.property is None or training.property.name != DISTANCE:
        raise MlipError(f"trains no model of {DISTANCE}", where=f"model.recipe: {recipe.model.recipe}")
    return Path(train(training, resume=folder.training.exists(), quiet=quiet)).absolute()


def _test_error(recipe: CampaignRecipe, path: Path, folder: RoundFolder) -> float | None:
    """Mean absolute error on the entries' test split, eV/atom; None if the model can read none of its materials."""
    with Store(folder.entries) as store:
        errors = evaluate_property(
            PropertyModel.load(path),
            store,
            "test",
            at_most=recipe.model.test_at_most,
            allow_functional_mismatch=True,
        )
    return round(errors.mae, 6) if len(errors.ids) else None
