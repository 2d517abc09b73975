"""table.csv: the structures that were handed over, in order, and the settings requested for each.

Outcomes are collected by this table, because folders of runs may be edited, moved or lost.
"""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from mlip.dft.records import Proposal
from mlip.errors import MlipError
from mlip.files.whole_file import whole_file

TABLE = "table.csv"


@dataclass(frozen=True)
class Row:
    """A line of the table: one structure that was handed over."""

    id: str
    folder: str
    """Folder relative to that of the hand-over; empty with a surrogate."""
    formula: str
    atoms: int
    dimensionality: int
    functional: str
    hubbard: str
    """Hubbard U in eV, such as "Fe=5.3 Mn=3.9"."""
    kpoints: str
    """k-point grid, such as "8x8x8"."""
    encut: str
    potcars: str
    """Titles of the pseudopotentials, such as "Fe_pv O"."""
    vacuum: str
    """Lengths of the cell vectors across the vacuum of layers and chains, A."""
    refused: str
    """Reason why no inputs were written; empty if they were."""
    sha256: str
    """Checksum of the structure, `Proposal.checksum`."""

    @property
    def hubbard_values(self) -> dict[str, float]:
        """Element -> Hubbard U, eV."""
        return {element: float(u) for element, _, u in (part.partition("=") for part in self.hubbard.split())}

    @property
    def grid(self) -> tuple[int, ...]:
        """Divisions of the k-point grid; empty without inputs."""
        return tuple(map(int, self.kpoints.split("x"))) if self.kpoints else ()

    @property
    def vacuum_lengths(self) -> tuple[float, ...]:
        return tuple(map(float, self.vacuum.split()))


def formula_of(proposal: Proposal) -> str:
    """Formula of the cell in Hill order, equal for equal amounts of the elements."""
    return proposal.atoms.get_chemical_formula()


def read_table(folder: Path) -> list[Row]:
    """Read the table of a hand-over.

    Raises:
        MlipError: there is no table, or a line is damaged.
    """
    path = folder / TABLE
    if not path.is_file():
        raise MlipError(f"holds no {TABLE}: nothing was handed over here", where=str(folder))
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            return [_row(record, f"{path}:{reader.line_num}") for record in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise MlipError(f"is no table of a hand-over ({error})", where=str(path)) from None


def write_table(folder: Path, rows: Sequence[Row]) -> None:
    """Write the table, replacing an existing one as a whole."""
    with whole_file(folder / TABLE) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(map(asdict, rows))


def _row(record: dict[str, str], where: str) -> Row:
    try:
        values = {field.name: record[field.name] for field in fields(Row)}
        row = Row(**{**values, "atoms": int(values["atoms"]), "dimensionality": int(values["dimensionality"])})
        _ = row.hubbard_values, row.vacuum_lengths, row.grid
    except (KeyError, TypeError, ValueError):
        raise MlipError("is no line of a hand-over's table", where=where, fix="restore the file") from None
    return row
