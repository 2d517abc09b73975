"""The volume and the energy table, on the terminal and as Markdown, CSV and LaTeX."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table as RichTable

from mlip.benchmark.metrics import ErrorSummary
from mlip.benchmark.relaxation import BenchmarkRun, DimensionalityRow, summarise


@dataclass(frozen=True)
class Table:
    """Cells as they are printed."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_rich(self) -> RichTable:
        table = RichTable(title=self.title, title_justify="left")
        for column in self.columns:
            table.add_column(column, justify="left" if column == self.columns[0] else "right")
        for row in self.rows:
            table.add_row(*row)
        return table

    def to_markdown(self) -> str:
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = ["| " + " | ".join(row) + " |" for row in (self.columns, rule, *self.rows)]
        return f"**{self.title}**\n\n" + "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()

    def to_latex(self) -> str:
        lines = [" & ".join(map(_latex, row)) + r" \\" for row in (self.columns, *self.rows)]
        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{_latex(self.title)}}}",
                rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
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

    def save(self, folder: Path) -> None:
        """NAME.md, NAME.csv and NAME.tex in `folder`."""
        for suffix, text in (("md", self.to_markdown()), ("csv", self.to_csv()), ("tex", self.to_latex())):
            (folder / f"{self.name}.{suffix}").write_text(text, encoding="utf-8")


def relaxation_tables(run: BenchmarkRun) -> tuple[Table, Table]:
    """The volume and the energy table of a benchmark, a row for each dimensionality."""
    rows = summarise(run.records)
    source = _source_of_reference(run)
    name = run.header["potential"]["name"]
    return _volume_table(rows, name, source), _energy_table(rows, name, source)


def _volume_table(rows: list[DimensionalityRow], name: str, source: str) -> Table:
    return Table(
        "volume",
        f"Effective volume relaxed with {name}, against {source}",
        ("", "materials", "Failed %", "Outliers %", "MPE %", "MAPE %", "MAE Å³/atom"),
        tuple(
            (*_leading_cells(row, row.volume), *_numbers(row.volume.mpe, row.volume.mape), _number(row.volume.mae, 3))
            for row in rows
        ),
    )


def _energy_table(rows: list[DimensionalityRow], name: str, source: str) -> Table:
    """The paper's column MPE holds mean signed errors in eV/atom, DFT minus potential (here ME); both are given."""
    return Table(
        "energy",
        f"Energy relaxed with {name}, against {source} (ME: reference minus potential)",
        ("", "materials", "Failed %", "Outliers %", "ME eV/atom", "MPE %", "MAPE %", "MAE eV/atom"),
        tuple(
            (
                *_leading_cells(row, row.energy),
                _number(row.energy.mean_error, 4),
                *_numbers(row.energy.mpe, row.energy.mape),
                _number(row.energy.mae, 4),
            )
            for row in rows
        ),
    )


def _source_of_reference(run: BenchmarkRun) -> str:
    """The functionals of the reference; a learned stand-in for DFT has the word 'surrogate' in its name."""
    functionals = ", ".join(sorted({record["functional"] for record in run.records}))
    return functionals if "surrogate" in functionals.lower() else f"DFT ({functionals})"


def _leading_cells(row: DimensionalityRow, errors: ErrorSummary) -> tuple[str, ...]:
    return (
        f"{row.dimensionality}D",
        str(errors.n),
        *_numbers(errors.failed_percent, errors.outlier_percent),
    )


def _numbers(*values: float) -> tuple[str, ...]:
    return tuple(_number(value, 2) for value in values)


def _number(value: float, digits: int) -> str:
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


def _latex(text: str) -> str:
    for plain, command in (("%", r"\%"), ("_", r"\_"), ("Å", r"\AA"), ("³", "$^3$"), ("&", r"\&")):
        text = text.replace(plain, command)
    return text
