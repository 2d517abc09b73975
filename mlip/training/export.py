"""The best state of a run as a model, whether the run has ended, was stopped, or is under way."""

from pathlib import Path
from typing import NamedTuple

from mlip.errors import MlipError
from mlip.runtime import precision_scope, set_up_jax
from mlip.training.checkpoint import Checkpoints
from mlip.training.loop import new_state, open_store, prepare
from mlip.training.provenance import provenance_of
from mlip.training.recipe_file import read_recipe
from mlip.training.run_folder import RunFolder, check_same_store, store_fingerprint
from mlip.training.tasks import task_of


class Exported(NamedTuple):
    """A model that was written."""

    path: Path
    noun: str
    """What it is, in a word."""
    step: int
    """Steps behind its parameters."""
    last_step: int
    """Steps behind the run's newest checkpoint."""
    is_best: bool
    """Whether it is that of the lowest validation loss so far; else nothing was validated, and it is the newest."""


def model_path(run: Path) -> Path:
    """Where the run itself leaves its model when it ends.

    Raises:
        MlipError: no run in the folder, or none with a checkpoint.
    """
    return run / task_of(read_recipe(_folder(run).recipe)).file_name


def export_run(run: Path, out: Path, *, store: Path | None = None) -> Exported:
    """Write the model of the run's best state so far to `out`.

    Args:
        run: the folder of the run.
        store: where the run's store is now, if not where its recipe says.

    Raises:
        MlipError: no run in the folder, or none with a checkpoint; its store is not there, or is another.
    """
    set_up_jax()
    folder = _folder(run)
    recipe = read_recipe(folder.recipe)
    if store is not None:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"store": store})})
    for path in recipe.data.stores:
        if not path.exists():
            raise MlipError("the run's store is not here", where=str(path), fix="say where it is: --store PATH")
    with (
        precision_scope(recipe.train.precision),
        open_store(recipe) as opened,
        Checkpoints(folder.checkpoints, read_only=True) as checkpoints,
    ):
        check_same_store(recipe, folder, store_fingerprint(opened))
        task, start, data = prepare(recipe, folder)
        last, best = checkpoints.last_step, checkpoints.best_step
        step = last if best is None else best
        state, _ = checkpoints.restore(new_state(task, None if start is None else start.params), step)
        provenance = provenance_of(task.recipe, opened, data, step, start, folder)
        model = task.export(state.average, data, provenance | {"exported_after_step": last})
    return Exported(model.save(out), task.noun, step, last, best is not None)


def _folder(run: Path) -> RunFolder:
    folder = RunFolder(run)
    if not folder.recipe.is_file():
        raise MlipError("holds no run", where=str(run), fix="give the folder that `mlip train` wrote (out=)")
    if not folder.has_checkpoints():
        raise MlipError("the run has no checkpoint yet", where=str(run), fix="wait for the end of its first epoch")
    return folder
