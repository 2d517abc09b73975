"""Live display in a notebook: a single output of the cell that is rewritten periodically, without widgets.

rich shows progress bars and live tables in terminals, but in notebooks needs ipywidgets. This class replaces its
`Live`.
"""

from collections.abc import Callable
from io import StringIO
from threading import Event, Lock, Thread
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live

_WIDTH = 100
"""Width of a line, in characters."""
_PAGE = (
    "<pre style=\"white-space:pre;overflow-x:auto;line-height:normal;font-family:Menlo,'DejaVu Sans Mono',consolas,"
    "'Courier New',monospace\">{code}</pre>"
)


class NotebookDisplay:
    """A rich renderable as an output of the running cell, rewritten periodically.

    It provides the part of rich's `Live` that rich's `Progress` and mlip's training log use.

    Args:
        transient: remove the display at the end; otherwise its last state stays.
    """

    auto_refresh = True

    def __init__(
        self,
        get_renderable: Callable[[], RenderableType],
        console: Console,
        *,
        transient: bool = False,
        refresh_per_second: float = 2,
    ):
        self.console = console
        self._get_renderable, self._transient, self._seconds = get_renderable, transient, 1 / refresh_per_second
        self._handle: Any = None
        self._lock, self._ended, self._thread = Lock(), Event(), None

    @property
    def is_started(self) -> bool:
        return self._thread is not None

    def start(self, refresh: bool = True) -> None:
        """Show the display and refresh it until `stop`."""
        if self.is_started:
            return
        self._ended.clear()
        self.refresh()
        self._thread = Thread(target=self._keep_fresh, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is None:
            return
        self._ended.set()
        self._thread.join()
        self._thread = None
        self._show("" if self._transient else as_html(self._get_renderable()))
        self._handle = None

    def refresh(self) -> None:
        self._show(as_html(self._get_renderable()))

    def _keep_fresh(self) -> None:
        while not self._ended.wait(self._seconds):
            self.refresh()

    def _show(self, page: str) -> None:
        from IPython.display import HTML, display

        with self._lock:
            if self._handle is None:
                self._handle = display(HTML(page), display_id=True)
            else:
                self._handle.update(HTML(page))


def live_display(
    get_renderable: Callable[[], RenderableType], console: Console, *, transient: bool
) -> Live | NotebookDisplay:
    """Live display for the console, in a terminal or a notebook."""
    if console.is_jupyter:
        return NotebookDisplay(get_renderable, console, transient=transient)
    return Live(get_renderable=get_renderable, console=console, transient=transient, refresh_per_second=2)


def as_html(renderable: RenderableType) -> str:
    """A rich renderable as HTML, with colors."""
    console = Console(
        file=StringIO(), record=True, width=_WIDTH, color_system="truecolor", force_jupyter=False, legacy_windows=False
    )
    console.print(renderable)
    return console.export_html(code_format=_PAGE, inline_styles=True)
