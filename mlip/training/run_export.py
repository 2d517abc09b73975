"""Export of the best state of a run as a model, whether the run has ended, was stopped, or is active."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mlip.errors import MlipError
from mlip.runtime import precision_scope, set_up_jax
from mlip.training.checkpoint import Checkpoints
from mlip.training.loop import new_state, open_store, prepare
from mlip.training.provenance import provenance_of
from mlip.training.recipe_file import read_recipe
from mlip.training.run_folder import RunFolder, check_same_store, store_fingerprint
from mlip.training.step import TrainState
from mlip.training.task_of_recipe import task_of

_TRIES = 5
"""Number of attempts to read a checkpoint of an active run."""


class Exported(NamedTuple):
    """Result of an export."""

    path: Path
    noun: str
    """Word for the kind of model."""
    step: int
    """Number of steps after which its parameters were saved."""
    last_step: int
    """Number of steps at the run's newest checkpoint."""
    is_best: bool
    """Whether this state has the lowest validation loss so far; otherwise nothing was validated, and it is the newest
    one."""


def model_path(run: Path) -> Path:
    """Path at which the run itself exports its model when it ends.

    Raises:
        MlipError: the folder holds no run with a checkpoint.
    """
    return run / task_of(read_recipe(_folder(run).recipe)).file_name


def export_run(run: Path, out: Path, *, store: Path | None = None) -> Exported:
    """Export the best state of the run so far to `out`.

    Args:
        run: the run folder.
        store: current location of the run's store, if it differs from the recipe.

    Raises:
        MlipError: the folder holds no run with a checkpoint, or the store does not exist or has other content.
    """
    set_up_jax()
    folder = _folder(run)
    recipe = read_recipe(folder.recipe)
    if store is not None:
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"store": store})})
    for path in recipe.data.stores:
        if not path.exists():
            raise MlipError("the run's store is not here", where=str(path), fix="say where it is: --store PATH")
    with precision_scope(recipe.train.precision), open_store(recipe) as opened:
        check_same_store(recipe, folder, store_fingerprint(opened))
        task, start, data = prepare(recipe, folder)
        found = _best_state(folder, new_state(task, None if start is None else start.params))
        provenance = provenance_of(task.recipe, opened, data, found.step, start, folder)
        model = task.export(found.state.average, data, provenance | {"exported_after_step": found.last_step})
    return Exported(model.save(out), task.noun, found.step, found.last_step, found.is_best)


class _Found(NamedTuple):
    state: TrainState
    step: int
    last_step: int
    is_best: bool


def _best_state(folder: RunFolder, template: TrainState) -> _Found:
    """Best state among the current checkpoints. An active run may replace the best checkpoint while it is being read;
    then the new one is read."""
    for _ in range(_TRIES):
        with Checkpoints(folder.checkpoints, read_only=True) as checkpoints, suppress(FileNotFoundError):
            last, best = checkpoints.last_step, checkpoints.best_step
            step = last if best is None else best
            return _Found(checkpoints.restore(template, step)[0], step, last, best is not None)
    raise MlipError(
        "the run replaces its checkpoints faster than they can be read", where=str(folder.path), fix="try again"
    )


def _folder(run: Path) -> RunFolder:
    folder = RunFolder(run)
    if not folder.recipe.is_file():
        raise MlipError("holds no run", where=str(run), fix="give the folder that `mlip train` wrote (out=)")
    if not folder.has_checkpoints():
        raise MlipError("the run has no checkpoint yet", where=str(run), fix="wait for the end of its first epoch")
    return folder
