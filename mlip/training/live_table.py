"""What a run shows while it lasts: on a terminal a table below all lines, elsewhere a plain line now and then.

Both say the same of the records that `RunLog.write` is given: loss and its parts, mean absolute errors in meV/atom,
meV/A and GPa, speed, waiting for data, padding, compiled shapes, and when the run will be over.
"""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

Record = Mapping[str, Any]

_MISSING = "-"
_KINDS = {"train": "training", "validation": "validation"}
_LOSSES = ("loss", "loss_energy", "loss_forces", "loss_stress")
_COLUMNS = (
    *(("loss", 8), ("of E", 8), ("of F", 8), ("of S", 8)),
    *(("E meV/atom", 10), ("F meV/Å", 7), ("S GPa", 6), ("at step", 7)),
)
"""Heading and width; 80 columns in all."""


class RunDisplay:
    """How far a run of `n_steps` is, and its last record of each kind."""

    def __init__(self, n_steps: int, resumed_from: int = 0):
        self._n_steps, self._step = n_steps, resumed_from
        self._records: dict[str, Record] = {}
        self._first: tuple[float, int] | None = None
        """Time and step of the first record: compilation, before it, says nothing about the rest."""

    def update(self, kind: str, step: int, values: Record) -> None:
        """Take note of a record; those of other kinds than training and validation are not shown."""
        if kind not in _KINDS:
            return
        self._records[kind] = {"step": step, **values}
        self._step = max(self._step, step)
        if self._first is None:
            self._first = time.perf_counter(), step

    def line(self) -> str:
        """The last training record in one line, for a log file."""
        train = self._records.get("train", {})
        total, *parts = (_number(train, key, ".3g") for key in _LOSSES)
        loss = "loss {} (E {}, F {}, S {})".format(total, *parts)
        errors = "E {} meV/atom  F {} meV/Å  S {} GPa".format(*_errors(train))
        return "  ".join((self._progress(), loss, errors, _health(train), self._time_left()))

    def __rich__(self) -> RenderableType:
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(total=self._n_steps, completed=self._step, width=24), self._progress(), self._time_left()
        )
        if "train" not in self._records:
            return bar
        return Group(self._table(), Text(_health(self._records["train"]), style="dim"), bar)

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
        table.add_column("", min_width=10)
        for heading, width in _COLUMNS:  # that do not jump when a number grows
            table.add_column(heading, justify="right", min_width=width, no_wrap=True)
        for kind, name in _KINDS.items():
            if record := self._records.get(kind):
                losses = (_number(record, key, ".3g") for key in _LOSSES)
                table.add_row(name, *losses, *_errors(record), f"{record['step']:,}")
        return table

    def _progress(self) -> str:
        return f"step {self._step:,}/{self._n_steps:,}"

    def _time_left(self) -> str:
        """By the mean time of a step so far, validation and checkpoints included."""
        if self._first is None or self._step <= self._first[1]:
            return "time left: not known yet"
        seconds = time.perf_counter() - self._first[0]
        return f"{_duration(seconds / (self._step - self._first[1]) * (self._n_steps - self._step))} left"


def _errors(record: Record) -> tuple[str, str, str]:
    """MAEs in meV/atom, meV/A and GPa."""
    return (
        _number(record, "energy_mae", ".1f"),
        _number(record, "forces_mae", ".1f", 1000),
        _number(record, "stress_mae", ".2f"),
    )


def _health(train: Record) -> str:
    words = [
        f"{_number(train, 'structures_per_second', ',.0f')} structures/s",
        f"data wait {_number(train, 'data_wait_share', '.0%')}",
        f"padding {_number(train, 'padded_fraction', '.0%')}",
        f"{_number(train, 'compiled_shapes', 'd')} compiled",
    ]
    if train.get("skipped_steps"):
        words.append(f"{train['skipped_steps']} steps skipped")
    return ", ".join(words)


def _number(record: Record, key: str, form: str, scale: float = 1) -> str:
    value = record.get(key)
    return _MISSING if value is None else format(value * scale, form)


def _duration(seconds: float) -> str:
    """E.g. 0:00:41, 13:05:00, 2 days 01:00:00."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} day{'s' if days > 1 else ''} {hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}"
