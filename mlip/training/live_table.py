"""Display of a running training: a live table below the output on a terminal, otherwise an occasional line.

Both show the records given to `RunLog.write`: loss and its parts, mean absolute errors, speed, time waiting for data,
padding, compiled shapes, and the estimated time left.
"""

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mlip.training.quantity import Quantity, Record, told

_MISSING = "-"
_KINDS = {"train": "training", "validation": "validation"}
_LOSS_WIDTH, _ERROR_WIDTH = 8, 6  # 80 columns in total with a potential's three quantities


class RunDisplay:
    """Progress of a run of `n_steps`, and its last record of each kind with the errors of `quantities`."""

    def __init__(self, n_steps: int, quantities: Sequence[Quantity], resumed_from: int = 0):
        self._n_steps, self._step = n_steps, resumed_from
        self._quantities = quantities
        self._parts = quantities if len(quantities) > 1 else ()
        """Quantities whose losses are shown; none if there is only one, whose loss is the total."""
        self._records: dict[str, Record] = {}
        self._first: tuple[float, int] | None = None
        """Time and step of the first record; excludes compilation from the estimate of the remaining time."""

    def update(self, kind: str, step: int, values: Record) -> None:
        """Store a record; only training and validation records are shown."""
        if kind not in _KINDS:
            return
        self._records[kind] = {"step": step, **values}
        self._step = max(self._step, step)
        if self._first is None:
            self._first = time.perf_counter(), step

    def line(self) -> str:
        """The last training record as one line, for a log file."""
        train = self._records.get("train", {})
        loss = f"loss {_number(train, 'loss', '.3g')}"
        if self._parts:
            loss += f" ({', '.join(f'{part.symbol} {_loss(train, part)}' for part in self._parts)})"
        errors = (told(train, quantity) for quantity in self._quantities)
        return "  ".join((self._progress(), loss, *errors, _health(train), self._time_left()))

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
        losses = ("loss", *(f"of {part.symbol}" for part in self._parts))
        errors = tuple(quantity.heading for quantity in self._quantities)
        widths = [_LOSS_WIDTH] * len(losses) + [_ERROR_WIDTH] * len(errors) + [0]
        for heading, width in zip((*losses, *errors, "at step"), widths, strict=True):
            # Fixed widths keep columns from jumping when a number grows.
            table.add_column(heading, justify="right", min_width=max(width, len(heading)), no_wrap=True)
        for kind, name in _KINDS.items():
            if record := self._records.get(kind):
                numbers = [_number(record, "loss", ".3g"), *(_loss(record, part) for part in self._parts)]
                numbers += [quantity.text(record) for quantity in self._quantities]
                table.add_row(name, *numbers, f"{record['step']:,}")
        return table

    def _progress(self) -> str:
        return f"step {self._step:,}/{self._n_steps:,}"

    def _time_left(self) -> str:
        """Remaining time from the mean time per step so far, including validation and checkpoints."""
        if self._first is None or self._step <= self._first[1]:
            return "time left: not known yet"
        seconds = time.perf_counter() - self._first[0]
        return f"{_duration(seconds / (self._step - self._first[1]) * (self._n_steps - self._step))} left"


def _loss(record: Record, part: Quantity) -> str:
    return _number(record, part.loss_key, ".3g")


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


def _number(record: Record, key: str, form: str) -> str:
    value = record.get(key)
    return _MISSING if value is None else format(value, form)


def _duration(seconds: float) -> str:
    """Duration in a form such as 0:00:41, 13:05:00, 2 days 01:00:00."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} day{'s' if days > 1 else ''} {hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}"
