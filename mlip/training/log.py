"""Log of a run: metrics.jsonl (flushed after each line), TensorBoard events and, optionally, Weights & Biases; a live
table on a terminal or in a notebook, one line a minute in a log file."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from rich.console import Console

from mlip.errors import MlipError
from mlip.files.journal import Journal, keep_records, read_journal
from mlip.notebook_display import live_display
from mlip.training.live_table import RunDisplay
from mlip.training.quantity import Quantity
from mlip.training.tensorboard import EventFile
from mlip.training.weights_and_biases import WeightsAndBiases

METRICS = "metrics.jsonl"
_SECONDS_A_LINE = 60
"""Seconds between two lines about the steps if there is no live table."""


class RunLog:
    """Log of one run folder. Lines after step `resumed_from` from before an interruption are dropped, because these
    steps are repeated.

    Args:
        quantities: quantities whose errors are shown.
        wandb_project: project of Weights & Biases that also receives the records.

    Raises:
        MlipError: Weights & Biases is requested but not available; any method may raise it if the disk is full.
    """

    def __init__(
        self,
        folder: Path,
        *,
        n_steps: int,
        quantities: Sequence[Quantity],
        resumed_from: int = 0,
        quiet: bool = False,
        wandb_project: str | None = None,
    ):
        self._folder = folder
        self._wandb = WeightsAndBiases(folder, wandb_project, resumed_from) if wandb_project else None
        path = folder / METRICS
        with self._writing():
            drop_after(path, resumed_from)
            self._journal = Journal(path, durable=False)
            self._board = EventFile(folder / "tensorboard", first_step=resumed_from + 1)
        self._console = Console(quiet=quiet, highlight=False, markup=False)
        self._display = RunDisplay(n_steps, quantities, resumed_from)
        self._live = live_display(lambda: self._display, self._console, transient=True)
        self._last_line = time.monotonic()

    def __enter__(self) -> "RunLog":
        if (self._console.is_terminal or self._console.is_jupyter) and not self._console.quiet:
            self._live.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_) -> None:
        self._live.stop()
        with suppress(MlipError if error else ()):  # if there already is an error, keep it: it says what happened
            for output in (self._journal, self._board):
                with self._writing():
                    output.close()
        if self._wandb is not None:
            self._wandb.close(failed=error is not None)

    def say(self, text: str) -> None:
        """Print a line for the user; it stays above the live table."""
        self._console.print(text, soft_wrap=True)
        self._last_line = time.monotonic()

    def write(self, kind: str, step: int, values: dict) -> None:
        """Append a record of `kind` ("train", "validation", "skipped") and show it; numbers also go to TensorBoard.

        Non-finite numbers become null, because JSON has no NaN.
        """
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        with self._writing():
            self._journal.append({"kind": kind, "step": step, **values})
            for name, value in numbers.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)
        if self._wandb is not None:
            self._wandb.write(kind, step, numbers)
        self._display.update(kind, step, values)
        if kind == "train" and not self._live.is_started and self._is_line_due():
            self.say(self._display.line())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MlipError(
                f"cannot write the log: {error.strerror}",
                where=str(self._folder),
                fix="make room, then go on with --resume",
            ) from None

    def _is_line_due(self) -> bool:
        return time.monotonic() - self._last_line >= _SECONDS_A_LINE


class SilentLog(nullcontext):
    """Log of the other processes, which writes nothing; the first process logs for all."""

    def __enter__(self) -> "SilentLog":
        return self

    def say(self, text: str) -> None:
        pass

    def write(self, kind: str, step: int, values: dict) -> None:
        pass


def read_metrics(folder: Path, kind: str) -> list[dict]:
    """Records of `kind` in a run folder, in order."""
    return [record for record in read_journal(folder / METRICS) if record["kind"] == kind]


def drop_after(path: Path, last_step: int) -> None:
    """Drop the records after `last_step`, and an incomplete line left by a killed run."""
    keep_records(path, lambda record: record["step"] <= last_step)
