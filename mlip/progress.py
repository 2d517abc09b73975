"""Progress bars on stderr, so that scripts can read a command's answer on stdout; in notebooks an output of the
cell."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from mlip.notebook_display import NotebookDisplay


def count_bar(shown: bool = True, *more: ProgressColumn) -> Progress:
    """Progress bar that counts items: "relaxing ---- 12/100 0:01:05". It stays visible at the end."""
    columns = _name(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), *more
    return _bar(columns, shown=shown)


def bytes_bar(shown: bool = True, *, speed: bool = True) -> Progress:
    """Progress bar in bytes that disappears at the end; print lines above it with `bar.console`.

    Args:
        speed: whether to show bytes per second.
    """
    columns = (
        _name(),
        BarColumn(),
        DownloadColumn(),
        *([TransferSpeedColumn()] * speed),
        TimeRemainingColumn(),
    )
    return _bar(columns, shown=shown, transient=True)


def _name() -> TextColumn:
    return TextColumn("{task.description}", markup=False)


def _bar(columns: Sequence[ProgressColumn], *, shown: bool, transient: bool = False) -> Progress:
    bar = Progress(
        *columns, console=Console(stderr=True, markup=False, emoji=False), disable=not shown, transient=transient
    )
    if bar.console.is_jupyter:
        bar.live = NotebookDisplay(bar.get_renderable, bar.console, transient=transient)  # type: ignore[assignment]
    return bar
