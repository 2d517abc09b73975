"""A table of text and estimates, with output for the terminal, Markdown, CSV, LaTeX and HTML."""

import csv
import html
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from mlip.benchmark.intervals import Interval
from mlip.report.pieces import table as html_table
from mlip.terminal import terminal_table

_TEXT_COLUMNS = ("", "potential", "not converged")


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, printed with `digits` decimals."""

    value: float
    digits: int
    interval: Interval | None = None

    @property
    def text(self) -> str:
        return "-" if np.isnan(self.value) else f"{self.value:.{self.digits}f}"

    @property
    def bounds(self) -> tuple[str, str] | None:
        """The ends of the interval as text; None without an interval."""
        if self.interval is None or np.isnan(self.interval.low):
            return None
        return f"{self.interval.low:.{self.digits}f}", f"{self.interval.high:.{self.digits}f}"

    def with_interval(self, between: str, opening: str, closing: str) -> str:
        return self.text + (opening + between.join(self.bounds) + closing if self.bounds else "")


Cell = str | Estimate


@dataclass(frozen=True)
class Table:
    """A table; `notes` are printed below it."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def to_rich(self, width: int) -> RenderableType:
        """The table for a terminal: intervals below estimates; columns that exceed `width` go to a further table."""
        rows = [[_rich(cell) for cell in row] for row in self.rows]
        tables = []
        for columns in self._folded(rows, width):
            tables.append(
                terminal_table(
                    [self.columns[k] for k in columns],
                    [[row[k] for k in columns] for row in rows],
                    _TEXT_COLUMNS,
                    title=None if tables else Text(self.title, style="italic"),
                    title_justify="left",
                )
            )
        return Group(*tables, *map(Text, self.notes))

    def _folded(self, rows: list[list[Text]], width: int) -> list[list[int]]:
        """Column indices of partial tables that fit `width`; each begins with the columns that identify the row."""
        texts = [[Text(self.columns[k]), *(row[k] for row in rows)] for k in self._all]
        widths = [3 + max(measure.cell_len for text in column for measure in text.split("\n")) for column in texts]
        leading = [k for k in self._all if self.columns[k] in ("", "potential")]
        groups = [list(leading)]
        for k in self._all[len(leading) :]:
            if len(groups[-1]) > len(leading) and sum(widths[c] for c in [*groups[-1], k]) + 1 > width:
                groups.append(list(leading))
            groups[-1].append(k)
        return groups

    @property
    def _all(self) -> range:
        return range(len(self.columns))

    def to_markdown(self) -> str:
        rule = ["---" if column in _TEXT_COLUMNS else "---:" for column in self.columns]
        rows = self._as_text(lambda cell: cell.with_interval(" to ", " (", ")"))
        lines = ["| " + " | ".join(row) + " |" for row in (self.columns, rule, *rows)]
        notes = "".join(f"\n{note}\n" for note in self.notes)
        return f"**{self.title}**\n\n" + "\n".join(lines) + "\n" + notes

    def to_csv(self) -> str:
        """The table as CSV. Two columns with the interval's ends follow its column; unknown values are empty."""
        with_bounds = [
            any(isinstance(row[k], Estimate) and row[k].interval for row in self.rows) for k in range(len(self.columns))
        ]
        header = [
            name
            for column, has_bounds in zip(self.columns, with_bounds, strict=True)
            for name in ((column, f"{column} low", f"{column} high") if has_bounds else (column,))
        ]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *(_flat(row, with_bounds) for row in self.rows)])
        return text.getvalue()

    def to_latex(self) -> str:
        rows = self._as_text(lambda cell: cell.with_interval("--", " (", ")"))
        lines = [" & ".join(map(_latex, row)) + r" \\" for row in (self.columns, *rows)]
        alignment = "".join("l" if column in _TEXT_COLUMNS else "r" for column in self.columns)
        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{_latex(' '.join([self.title + '.', *self.notes]))}}}",
                rf"\begin{{tabular}}{{{alignment}}}",
                r"\hline",
                lines[0],
                r"\hline",
                *lines[1:],
                r"\hline",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    def to_html(self) -> str:
        def interval(cell: Estimate) -> str:
            return cell.with_interval(" to ", "<br><small>", "</small>")

        rows = [[interval(c) if isinstance(c, Estimate) else html.escape(c) for c in row] for row in self.rows]
        return html_table(self.title, self.columns, rows, text_columns=_TEXT_COLUMNS, notes=self.notes)

    def as_records(self) -> list[dict[str, Any]]:
        """JSON-serializable rows, column -> value; an estimate is a number, or {"value", "low", "high"}."""
        return [{column: _as_json(cell) for column, cell in zip(self.columns, row, strict=True)} for row in self.rows]

    def save(self, folder: Path) -> list[Path]:
        """Write NAME.md, NAME.csv and NAME.tex to `folder`, and return their paths."""
        paths = []
        for suffix, text in (("md", self.to_markdown()), ("csv", self.to_csv()), ("tex", self.to_latex())):
            paths.append(folder / f"{self.name}.{suffix}")
            paths[-1].write_text(text, encoding="utf-8")
        return paths

    def _as_text(self, show: Callable[[Estimate], str]) -> list[list[str]]:
        return [[show(cell) if isinstance(cell, Estimate) else cell for cell in row] for row in self.rows]


def _rich(cell: Cell) -> Text:
    if isinstance(cell, str):
        return Text(cell)
    text = Text(cell.text)
    return text.append("\n" + "…".join(cell.bounds), style="dim") if cell.bounds else text


def _flat(row: tuple[Cell, ...], with_bounds: list[bool]) -> list[str]:
    texts = []
    for cell, has_bounds in zip(row, with_bounds, strict=True):
        text = cell.text if isinstance(cell, Estimate) else cell
        texts.append("" if text == "-" else text)
        if has_bounds:
            texts += (cell.bounds if isinstance(cell, Estimate) else None) or ("", "")
    return texts


def _as_json(cell: Cell) -> Any:
    if isinstance(cell, str):
        return cell
    value = None if np.isnan(cell.value) else cell.value
    if cell.bounds is None:
        return value
    return {"value": value, "low": cell.interval.low, "high": cell.interval.high}


def _latex(text: str) -> str:
    signs = ("%", r"\%"), ("_", r"\_"), ("Å", r"\AA{}"), ("³", "$^3$"), ("&", r"\&"), ("#", r"\#")
    for plain, command in (*signs, ("|", "$|$"), ("<", "$<$"), (">", "$>$")):  # text fonts misprint these
        text = text.replace(plain, command)
    return text
