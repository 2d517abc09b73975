"""Checkpoints of a run (Orbax): everything that decides what happens next.

A checkpoint is written beside the others and renamed into place, so a killed run keeps its last good one. The
last few stay, and the best one.
"""

import math
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
from jax import tree
from orbax.checkpoint import checkpoint_managers as policies

from mlip.errors import MlipError
from mlip.training.step import TrainState


class Checkpoints:
    """The checkpoints in one folder. Saving returns before the files are written; `close` waits for them."""

    def __init__(self, folder: Path, *, keep: int = 2):
        best = policies.BestN(get_metric_fn=_loss, reverse=True, n=1, keep_checkpoints_without_metrics=False)
        self.folder = Path(folder).resolve()
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
                best_fn=_loss,
                best_mode="min",
                cleanup_tmp_directories=True,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self._manager.close()

    @property
    def last_step(self) -> int | None:
        """Of the newest complete checkpoint; None where there is none."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Of the checkpoint with the lowest validation loss; None where no loss was finite."""
        self._manager.wait_until_finished()  # the losses are read from the files
        step = self._manager.best_step()
        if step is None or not math.isfinite(_loss(self._manager.metrics(step))):
            return None
        return step

    def save(self, step: int, state: TrainState, progress: dict, validation_loss: float | None) -> None:
        """
        Args:
            step: steps done.
            state: of one device, numpy arrays.
            progress: JSON: the loader's state, counters.
            validation_loss: None where this step was not validated (it cannot become the best one).
        """
        self._manager.save(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress)),
            metrics={"loss": _rankable(validation_loss)},
        )

    def restore(self, template: TrainState, step: int | None = None) -> tuple[TrainState, dict]:
        """(state of one device as numpy arrays, progress) of `step`, or of the last one.

        Args:
            template: a state of the same tree, shapes and dtypes.

        Raises:
            MlipError: the checkpoint is of another model or optimiser.
        """
        self._manager.wait_until_finished()
        step = self.last_step if step is None else step
        try:
            found = self._manager.restore(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(template), progress=ocp.args.JsonRestore()),
            )
        except (ValueError, KeyError) as error:
            raise _other_run(self.folder / str(step)) from error
        if tree.map(np.shape, found.state) != tree.map(np.shape, template):
            raise _other_run(self.folder / str(step))
        return found.state, found.progress


def _loss(metrics: dict[str, float]) -> float:
    return metrics["loss"]


def _other_run(path: Path) -> MlipError:
    return MlipError(
        "the checkpoint does not fit the recipe's model and optimiser",
        where=str(path),
        fix="resume with the recipe it was made with, or set another out=",
    )


def _rankable(loss: float | None) -> float:
    """Without a validation, or with one that is not a number, a checkpoint is the worst, not the best."""
    return loss if loss is not None and math.isfinite(loss) else math.inf
