"""What a run says while it lasts: metrics.jsonl (flushed by line), TensorBoard events, if wished Weights & Biases; on
a terminal a live table, in a log file a line a minute.
"""

import json
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.live import Live
from tensorboardX import SummaryWriter

from mlip.training.live_table import RunDisplay
from mlip.training.quantity import Quantity
from mlip.training.weights_and_biases import WeightsAndBiases

METRICS = "metrics.jsonl"
_SECONDS_A_LINE = 60
"""Between two lines about the steps where there is no live table."""


class RunLog:
    """The log of one run folder. Lines after step `resumed_from` of an earlier life of the run are dropped:
    these steps will be done again.

    Args:
        quantities: whose errors are shown.
        wandb_project: records go to this project of Weights & Biases as well.

    Raises:
        MlipError: Weights & Biases is asked for and not there.
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
        logging.getLogger("tensorboardX").setLevel(logging.ERROR)
        self._wandb = WeightsAndBiases(folder, wandb_project, resumed_from) if wandb_project else None
        path = folder / METRICS
        drop_after(path, resumed_from)
        self._file = path.open("a")
        # A full queue would wait for ever for a thread that a full disk has ended: it has no limit.
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_from + 1, max_queue=0)
        self._console = Console(quiet=quiet, highlight=False, markup=False)
        self._display = RunDisplay(n_steps, quantities, resumed_from)
        self._live = Live(self._display, console=self._console, transient=True, refresh_per_second=2)
        self._last_line = time.monotonic()

    def __enter__(self) -> "RunLog":
        if self._console.is_terminal and not self._console.quiet:
            self._live.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_) -> None:
        self._live.stop()
        self._file.close()
        self._board.close()
        if self._wandb is not None:
            self._wandb.close(failed=error is not None)

    def say(self, text: str) -> None:
        """A line for whoever watches; it stays above the live table."""
        self._console.print(text, soft_wrap=True)
        self._last_line = time.monotonic()

    def write(self, kind: str, step: int, values: dict) -> None:
        """Append a record of `kind` ("train", "validation", "skipped"), and show it; numbers go to TensorBoard as well.

        A value that is not a finite number becomes null: NaN is no JSON.
        """
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self._file.write(json.dumps({"kind": kind, "step": step, **values}, allow_nan=False) + "\n")
        self._file.flush()
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        for name, value in numbers.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)
        if self._wandb is not None:
            self._wandb.write(kind, step, numbers)
        self._display.update(kind, step, values)
        if kind == "train" and not self._live.is_started and self._is_line_due():
            self.say(self._display.line())

    def _is_line_due(self) -> bool:
        return time.monotonic() - self._last_line >= _SECONDS_A_LINE


class SilentLog(nullcontext):
    """The log of a process that is not the first one, which speaks for all."""

    def __enter__(self) -> "SilentLog":
        return self

    def say(self, text: str) -> None:
        pass

    def write(self, kind: str, step: int, values: dict) -> None:
        pass


def read_metrics(folder: Path, kind: str) -> list[dict]:
    """The records of `kind` in a run folder, in order."""
    return [record for record, _ in whole_lines(folder / METRICS) if record["kind"] == kind]


def drop_after(path: Path, last_step: int) -> None:
    """Drop the records after `last_step`, and a line that a kill cut short."""
    if not path.exists():
        return
    kept = [line for record, line in whole_lines(path) if record["step"] <= last_step]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(kept))
    os.replace(temporary, path)


def whole_lines(path: Path) -> Iterator[tuple[dict, str]]:
    """Records and their lines, up to a line that a kill, or a writer at work, cut short: only the last one can be."""
    with path.open() as lines:
        for line in lines:
            try:
                yield json.loads(line), line
            except json.JSONDecodeError:
                return
