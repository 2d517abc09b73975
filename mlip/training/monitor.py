"""Monitors a run from the host without blocking the device: every report is read one step late.

It tracks speed, time waiting for data, padding, compiled shapes, and steps that were skipped because a value was not
finite.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import jax
import numpy as np

from mlip.data import Store
from mlip.errors import MlipError
from mlip.graph.batching import Shape
from mlip.graph.loader import BatchStatistics
from mlip.runtime import compilation_seconds
from mlip.training import parallel, processes
from mlip.training.hard_examples import HardExamples
from mlip.training.log import RunLog
from mlip.training.quantity import errors_of
from mlip.training.schedule import Plan
from mlip.training.step import StepReport
from mlip.training.terms import Sums, add_terms, weighted_mean

_WINDOW = 20  # number of steps averaged in a "train" record
_NAMED = 20  # largest number of frames named in a message


class SentStep(NamedTuple):
    """A step that was sent to the device."""

    step: int
    learning_rate: float
    report: StepReport
    frames: np.ndarray
    """Store indices of the step's structures, (devices, ..., g); -1 for padding."""
    batch: BatchStatistics
    waited: float
    """Seconds that the loop waited for the batch."""


@dataclass
class _Average:
    """Running totals since creation; those for the speed since `start`."""

    start: float = field(default_factory=time.perf_counter)
    steps: int = 0
    finite_steps: int = 0
    structures: int = 0
    waited: float = 0.0
    padding: float = 0.0
    gradient_norm: float = 0.0
    terms: dict[str, Sums] | None = None

    def add(self, sent: SentStep, report: StepReport) -> None:
        self.steps += 1
        self.structures += processes.count() * sent.batch.n_graphs
        self.waited += sent.waited
        padding = sent.batch.padding
        self.padding += padding.edges if sent.batch.n_edges else padding.nodes  # compositions have no edges
        if report.finite:
            self.finite_steps += 1
            self.gradient_norm += float(report.gradient_norm)
            self.terms = add_terms(self.terms, report.terms)

    def restart_clock(self) -> None:
        """Restart the measurement of speed; other totals are kept."""
        self.start, self.structures, self.waited = time.perf_counter(), 0, 0.0

    def values(self) -> dict[str, float]:
        """Means of the totals; NaN without data."""
        seconds = time.perf_counter() - self.start
        return {
            "gradient_norm": self.gradient_norm / self.finite_steps if self.finite_steps else float("nan"),
            "structures_per_second": self.structures / seconds if self.structures else float("nan"),
            "data_wait_share": self.waited / seconds,
            "padded_fraction": self.padding / self.steps,
        }


class Monitor:
    """Call `add` for every step, and `flush` before anything that depends on the reports of all steps so far."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        log: RunLog,
        hard_examples: HardExamples,
        *,
        started: float,
        state: dict | None = None,
    ):
        state = state or {"skipped": 0, "skipped_in_epoch": []}
        self.skipped: int = state["skipped"]
        """Number of steps skipped in the whole run."""
        self._plan, self._store, self._log, self._hard_examples = plan, store, log, hard_examples
        self._allowed_skips = math.ceil(plan.recipe.train.max_skipped * plan.steps_per_epoch)
        self._started: float | None = started
        self._skipped_in_epoch: list[list[int]] = state["skipped_in_epoch"]
        self._sent: SentStep | None = None
        self._last_step, self._learning_rate = 0, math.nan
        self._shapes: set[Shape] = set()
        self._recent, self._epoch = _Average(), _Average()
        self.epoch_loss = math.nan
        """Mean training loss of the last epoch, over the steps since the last (re)start."""

    def add(self, sent: SentStep) -> None:
        """Register a step that was just sent to the device, and read the report of the previous one.

        Raises:
            MlipError: too many steps of this epoch were skipped.
        """
        self._shapes.add(sent.batch.shape)
        previous, self._sent = self._sent, sent
        if previous is not None:
            self._read(previous)
        if self._started is not None:
            self._say_first_step()

    def flush(self) -> None:
        """Read the outstanding report; waits for the device."""
        if self._sent is not None:
            sent, self._sent = self._sent, None
            self._read(sent)

    def get_state(self) -> dict:
        """JSON-serializable state with which a new monitor can continue."""
        return {"skipped": self.skipped, "skipped_in_epoch": list(self._skipped_in_epoch)}

    def end_epoch(self) -> str:
        """Read all reports of the epoch, start the next one, and return a line that summarizes this one."""
        self.flush()
        self._write()
        terms, values, self._epoch = self._epoch.terms, self._epoch.values(), _Average()
        self.epoch_loss = float(weighted_mean(terms, self._weights())) if terms else math.nan
        self._skipped_in_epoch.clear()
        return (
            f"{values['structures_per_second']:,.0f} structures/s, data wait {values['data_wait_share']:.0%}, "
            f"padding {values['padded_fraction']:.0%}, {len(self._shapes)} compiled"
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Context manager for other work that interrupts the training, whose time is excluded from the speed.

        All steps so far are written first, so that the log of a checkpoint is complete.
        """
        self.flush()
        self._write()
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self._recent.start += seconds
        self._epoch.start += seconds

    def _say_first_step(self) -> None:
        self.flush()
        seconds = time.perf_counter() - self._started
        self._log.say(f"first step after {seconds:.1f} s, {compilation_seconds():.1f} s of them compilation")
        self._started = None
        self._recent.restart_clock()  # compilation does not count towards the speed
        self._epoch.restart_clock()

    def _read(self, sent: SentStep) -> None:
        shared = sent.report._replace(structure_losses=())
        report = jax.tree.map(lambda x: np.asarray(x.addressable_data(0))[0], shared)
        if not report.finite:
            self._note_skipped(sent)
        elif spike := self._look_for_spike(sent, float(report.loss)):
            self._log.say(spike)
        self._recent.add(sent, report)
        self._epoch.add(sent, report)
        self._last_step, self._learning_rate = sent.step, sent.learning_rate
        if self._recent.steps >= _WINDOW:
            self._write()

    def _write(self) -> None:
        recent, self._recent = self._recent, _Average()
        if recent.terms is None:  # no step since the last record, or none with finite values
            return
        errors, values = errors_of(recent.terms, self._weights(), self._plan.task.quantities), recent.values()
        counts = {
            "learning_rate": self._learning_rate,
            "compiled_shapes": len(self._shapes),
            "compilation_seconds": compilation_seconds(),
            "skipped_steps": self.skipped,
        }
        self._log.write("train", self._last_step, errors | values | counts)

    def _weights(self) -> dict[str, float]:
        return self._plan.weights(self._plan.epoch_of(self._last_step))

    def _look_for_spike(self, sent: SentStep, loss: float) -> str | None:
        if self._plan.first_of_stage(sent.step):
            self._hard_examples.forget()
        if not self._hard_examples.is_spike(loss):
            return None
        return self._hard_examples.record(sent.step, loss, *_structures(sent))

    def _note_skipped(self, sent: SentStep) -> None:
        frames, losses = _structures(sent)
        bad = ~np.isfinite(losses)
        # If no single loss is non-finite, the fault is in a gradient: any frame of the step may cause it.
        suspects = frames[bad] if bad.any() else frames
        self.skipped += 1
        self._skipped_in_epoch.append(suspects.tolist())
        materials = [self._material(frame) for frame in suspects]
        self._log.write("skipped", sent.step, {"frames": suspects.tolist(), "materials": materials})
        self._log.say(f"step {sent.step} skipped: not finite; suspects: {self._names(suspects)}")
        if len(self._skipped_in_epoch) > self._allowed_skips:
            frames = np.unique(np.concatenate(self._skipped_in_epoch))
            raise MlipError(
                f"{len(self._skipped_in_epoch)} steps of an epoch were not finite; suspects: {self._names(frames)}",
                where=f"step {sent.step}",
                fix="look at these frames, or lower train.learning_rate",
            )

    def _names(self, frames: np.ndarray) -> str:
        names = ", ".join(f"{k} ({self._material(k)})" for k in frames[:_NAMED])
        return f"frames {names}" + (f" and {len(frames) - _NAMED} more" if len(frames) > _NAMED else "")

    def _material(self, frame: int) -> str:
        return self._store.material(self._store.material_of(int(frame))).id


def _structures(sent: SentStep) -> tuple[np.ndarray, np.ndarray]:
    """Frames of a step and their losses, over all processes."""
    is_real = sent.frames >= 0
    mine = sent.frames[is_real].tolist(), parallel.fetch_all(sent.report.structure_losses)[is_real].tolist()
    frames, losses = zip(*processes.gather(lambda: mine), strict=True)
    return np.array([*chain.from_iterable(frames)], np.int64), np.array([*chain.from_iterable(losses)])
