"""Checkpoints of a run (Orbax), which contain everything that determines its continuation.

A checkpoint is written next to the others and then renamed, so that a killed run keeps its last valid one. The last few
and the best one are kept. Only the first of several processes accesses the files; it broadcasts what it reads.
"""

import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from jax import tree
from orbax.checkpoint import checkpoint_managers as policies

from mlip.errors import MlipError
from mlip.training import parallel, processes
from mlip.training.step import TrainState


class Checkpoints:
    """The checkpoints in one folder. Saving returns before the files are written; `close` waits for them.

    Args:
        keep: number of the latest checkpoints that are kept.
        read_only: for a run that may be active elsewhere: write nothing, and do not remove incomplete checkpoints.
    """

    def __init__(self, folder: Path, *, keep: int = 2, read_only: bool = False):
        best = policies.BestN(get_metric_fn=_loss, reverse=True, n=1, keep_checkpoints_without_metrics=False)
        self.folder = Path(folder).resolve()
        self._manager = None
        if not processes.is_first():
            return
        logging.getLogger("absl").addFilter(_is_not_of_orbax)
        logging.getLogger("asyncio").addFilter(_is_not_of_a_write)
        self._hook, sys.unraisablehook = sys.unraisablehook, _without_late_writes(sys.unraisablehook)
        self._has_failed = False
        if not read_only:
            self.folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
                best_fn=_loss,
                best_mode="min",
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
                create=False,  # Orbax cannot create the folder from a subset of the processes
                multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes={0}),
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, error: type[BaseException] | None, *_) -> None:
        with suppress(MlipError if error else ()):  # if there already is an error, keep it: it says what happened
            self.close()

    def close(self) -> None:
        """Wait until everything is written.

        Raises:
            MlipError: writing failed.
        """
        if self._manager is not None:
            with self._writing():
                self._manager.wait_until_finished()
            self._manager.close()
            if not self._has_failed:
                sys.unraisablehook = self._hook

    @property
    def last_step(self) -> int | None:
        """Step of the newest complete checkpoint; None if there is none."""
        return processes.from_first(lambda: self._manager.latest_step())

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint with the lowest validation loss; None if no loss was finite."""
        return processes.from_first(self._find_best_step)

    def _find_best_step(self) -> int | None:
        with self._writing():
            self._manager.wait_until_finished()  # the losses are read from the files
        step = self._manager.best_step()
        if step is None or not math.isfinite(_loss(self._manager.metrics(step))):
            return None
        return step

    def save(self, step: int, state: TrainState, progress: dict, loss: float | None, stage: int = 1) -> None:
        """Save a checkpoint asynchronously.

        Args:
            step: number of completed steps.
            state: state of one device, as NumPy arrays.
            progress: JSON-serializable state of the loader and counters.
            loss: validation loss; None if this step was not validated, which excludes it from being the best.
            stage: stage of the training. Losses of different stages are not comparable: any of a later stage counts as
                better.

        Raises:
            MlipError: this checkpoint or the previous one cannot be written.
        """
        if self._manager is None:
            return
        with self._writing():
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress)),
                metrics={"loss": _rankable(loss, stage)},
            )

    def restore(self, template: TrainState, step: int | None = None) -> tuple[TrainState, dict]:
        """State of one device (NumPy arrays) and progress, at `step` or at the last checkpoint.

        Args:
            template: a state with the same tree structure, shapes and dtypes.

        Raises:
            MlipError: the checkpoint belongs to another model or optimizer.
        """
        state = template

        def read() -> dict:
            nonlocal state
            state, progress = self._read(template, step)
            return progress

        progress = processes.from_first(read)
        return parallel.copy_of_first(state), progress

    def _read(self, template: TrainState, step: int | None) -> tuple[TrainState, dict]:
        with self._writing():
            self._manager.wait_until_finished()
        step = self._manager.latest_step() if step is None else step
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

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Context manager that converts errors of writing into `MlipError`, including those of background threads."""
        try:
            yield
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) and "os_error_code" not in str(error):
                raise
            # TensorStore raises ValueErrors that end in the system's message: "...: No space left on device
            # [os_error...".
            self._has_failed = True
            reason = str(error).rpartition(": ")[2].partition(" [")[0]
            step = self._manager.latest_step()
            raise MlipError(
                f"cannot write a checkpoint: {reason}",
                where=str(self.folder),
                fix="make room, then go on with --resume" + (f" after step {step}" if step is not None else ""),
            ) from error


def _loss(metrics: dict[str, float]) -> float:
    return metrics["loss"]


def _other_run(path: Path) -> MlipError:
    return MlipError(
        "the checkpoint does not fit the recipe's model and optimizer",
        where=str(path),
        fix="resume with the recipe it was made with, or set another out=",
    )


def _rankable(loss: float | None, stage: int) -> float:
    """Number that is lower for the better of two checkpoints. Within a stage it increases with the loss, which may be
    negative, from -stage to 1 - stage; infinite without a validation or for a loss that is not finite."""
    return 0.5 + math.atan(loss) / math.pi - stage if loss is not None and math.isfinite(loss) else math.inf


def _without_late_writes(hook: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wrapper of `sys.unraisablehook` that suppresses errors of other pending writes after one has failed: they return
    to an event loop that Orbax has closed, and TensorStore prints a traceback for each."""

    def print_others(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            hook(unraisable)

    return print_others


def _is_not_of_a_write(record: logging.LogRecord) -> bool:
    """Filter that drops records of failed writes: Orbax raises the error of the first one, and asyncio logs all
    others."""
    return "orbax" not in record.getMessage()


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    """Filter that drops Orbax's records: it logs errors of its threads with hundreds of lines before raising them."""
    return "orbax" not in record.pathname
