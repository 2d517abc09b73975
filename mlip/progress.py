"""Progress bars, on stderr, so that a command's answer on stdout can be read by a script; in notebooks an output of the
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

_NAME = "{task.description}"


def count_bar(shown: bool = True, *more: ProgressColumn) -> Progress:
    """A bar of things that are counted: "relaxing ---- 12/100 0:01:05"; it stays when it is full."""
    columns = TextColumn(_NAME), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), *more
    return _bar(columns, shown=shown)


def bytes_bar(shown: bool = True, *, speed: bool = True) -> Progress:
    """A bar of bytes, gone when it is full; lines can be printed above it (`bar.console`).

    Args:
        speed: bytes a second are shown, too.
    """
    columns = (
        TextColumn(_NAME),
        BarColumn(),
        DownloadColumn(),
        *([TransferSpeedColumn()] * speed),
        TimeRemainingColumn(),
    )
    return _bar(columns, shown=shown, transient=True)


def _bar(columns: Sequence[ProgressColumn], *, shown: bool, transient: bool = False) -> Progress:
    bar = Progress(*columns, console=Console(stderr=True), disable=not shown, transient=transient)
    if bar.console.is_jupyter:
        bar.live = NotebookDisplay(bar.get_renderable, bar.console, transient=transient)  # type: ignore[assignment]
    return bar
