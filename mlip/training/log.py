"""What a run says while it lasts: metrics.jsonl (flushed by line); TensorBoard events; a progress line."""

import json
import logging
import math
import os
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

METRICS = "metrics.jsonl"


class RunLog:
    """The log of one run folder. Lines after step `resumed_from` of an earlier life of the run are dropped:
    these steps will be done again."""

    def __init__(self, folder: Path, *, n_steps: int, resumed_from: int = 0, quiet: bool = False):
        logging.getLogger("tensorboardX").setLevel(logging.ERROR)
        path = folder / METRICS
        _keep_until(path, resumed_from)
        self._file = path.open("a")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_from + 1)
        self._console = Console(quiet=quiet, highlight=False)
        self._progress = _progress_line(self._console)
        self._task = self._progress.add_task("", total=n_steps, completed=resumed_from, speed="", losses="")

    def __enter__(self) -> "RunLog":
        self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()
        self._file.close()
        self._board.close()

    def say(self, text: str) -> None:
        """A line for whoever watches; it stays above the progress line."""
        self._console.print(text, soft_wrap=True)

    def write(self, kind: str, step: int, values: dict) -> None:
        """Append a record of `kind` ("train", "validation", "skipped"); numbers go to TensorBoard as well.

        A value that is not a finite number becomes null: NaN is no JSON.
        """
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self._file.write(json.dumps({"kind": kind, "step": step, **values}, allow_nan=False) + "\n")
        self._file.flush()
        for name, value in values.items():
            if isinstance(value, int | float):
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def show(self, step: int, *, speed: float, losses: str) -> None:
        """Move the progress line to `step`."""
        self._progress.update(self._task, completed=step, speed=f"{speed:,.0f} structures/s", losses=losses)


def read_metrics(folder: Path, kind: str) -> list[dict]:
    """The records of `kind` in a run folder, in order."""
    with (folder / METRICS).open() as lines:
        return [record for record in map(json.loads, lines) if record["kind"] == kind]


def _progress_line(console: Console) -> Progress:
    return Progress(
        BarColumn(bar_width=24),
        TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[losses]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def _keep_until(path: Path, last_step: int) -> None:
    """Drop the records after `last_step`, and a line that a kill cut short."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= last_step:
                kept.append(line)
        except json.JSONDecodeError:
            break  # only the last line can be cut
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(kept))
    os.replace(temporary, path)
