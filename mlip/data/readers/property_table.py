"""Reader of CSV tables of formulas and properties, as entries of which only the composition is known.

    formula,target            id,formula,band_gap,split
    Fe2O3,2.1                 m1,Ga0.5In0.5As,1.2,train

The column of formulas is called formula or composition; a table without a header has two columns, formula and target.
Every other column is a property of that name, except an id, a functional and a split ('train', 'val', 'test'), which
is kept. An unusable row is `Skipped` with the kind of its fault.

Without ids, the composition alone identifies a material: rows with one composition (and one stated split) form one
material, with the mean of each property, as the authors of CrabNet merge them. Such a material gets a remark, which
says whether the rows contradict one another.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlip.data.formula import FormulaError, composition_frame, composition_key, parse_formula
from mlip.data.readers.naming import functional_by_file_name, settled_functional
from mlip.data.readers.streams import OnBytes, read_lines
from mlip.data.records import Entry, Frame, MalformedError, Skipped
from mlip.data.schema import NO_STRUCTURE, SPLITS
from mlip.errors import MlipError
from mlip.functionals import UNKNOWN

ENDINGS = (".csv", ".csv.gz", ".csv.bz2")

REPEATED = "the composition is in several rows: they are one material, with the mean of each property"
CONTRADICTING = "rows of one composition contradict one another: the mean is taken"
IN_SEVERAL_SPLITS = "the composition is in several stated splits"

_FORMULA_COLUMNS = ("formula", "composition", "reduced_formula", "pretty_formula")
_ID_COLUMNS = ("id", "material_id", "mat_id")
_FUNCTIONAL_COLUMN, _SPLIT_COLUMN = "functional", "split"
_MISSING = ("", "nan", "none", "null", "na", "n/a")
_SPLIT_WORDS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def is_property_table(path: Path) -> bool:
    """Whether a file is read as a table of formulas and properties."""
    return path.name.lower().endswith(ENDINGS)


def read(
    path: Path,
    *,
    functional: str | None = None,
    on_bytes: OnBytes | None = None,
) -> Iterator[Entry | Skipped]:
    """Materials of a table in the order of their first rows, after the unusable rows.

    Args:
        functional: functional of rows that state none; unknown by default, as for experiments.

    Raises:
        MlipError: the file cannot be read, or is not a table with a column of formulas.
    """
    layout, rows = _table(path, on_bytes)
    materials: dict[tuple[str, ...], list[_Row]] = {}
    for number, cells in rows:
        try:
            row = _row(cells, layout, number)
        except MalformedError as fault:
            yield fault.as_skipped(layout.cell(cells, layout.formula) or f"line {number}", str(path))
            continue
        key = (row.material_id,) if row.material_id else (row.composition, row.split or "")
        materials.setdefault(key, []).append(row)
    splits_of: dict[str, set[str | None]] = {}
    for rows_of_one in materials.values():
        splits_of.setdefault(rows_of_one[0].composition, set()).add(rows_of_one[0].split)
    for rows_of_one in materials.values():
        n_splits = len(splits_of[rows_of_one[0].composition])
        try:
            yield _entry(rows_of_one, n_splits, path, functional)
        except MalformedError as fault:
            yield fault.as_skipped(rows_of_one[0].formula, str(path))


@dataclass(frozen=True)
class _Layout:
    """Indices of a table's columns; None if there is no such column."""

    formula: int
    own_id: int | None
    functional: int | None
    split: int | None
    numbers: Mapping[str, int]
    """Index of each property that is a number, by name."""
    texts: Mapping[str, int]

    def cell(self, cells: Sequence[str], place: int | None) -> str:
        """Text of a cell without surrounding blanks; "" if it is missing."""
        text = cells[place].strip() if place is not None and place < len(cells) else ""
        return "" if text.lower() in _MISSING else text


@dataclass(frozen=True)
class _Row:
    number: int
    """Line number in the file, from 1."""
    formula: str
    frame: Frame
    composition: str
    material_id: str
    functional: str
    split: str | None
    numbers: Mapping[str, float]
    texts: Mapping[str, str]


def _table(path: Path, on_bytes: OnBytes | None) -> tuple[_Layout, list[tuple[int, list[str]]]]:
    try:
        table = csv.reader(read_lines(path, on_bytes))
        lines = [(table.line_num, cells) for cells in table if any(cells)]
    except csv.Error as error:
        raise MlipError(f"no CSV: {error}", where=str(path)) from None
    if not lines:
        raise MlipError("the table is empty", where=str(path))
    header = [name.strip() for name in lines[0][1]]
    if any(name.lower() in _FORMULA_COLUMNS for name in header):
        return _layout(header, lines[1:], path), lines[1:]
    if len(header) == 2 and _is_number(header[1]):
        return _layout(["formula", "target"], lines, path), lines
    raise MlipError(
        f"no column of formulas; its first line is {','.join(header)[:60]!r}",
        where=str(path),
        fix="name the column formula; a table without a header has two columns, formula and target",
    )


def _layout(header: list[str], rows: list[tuple[int, list[str]]], path: Path) -> _Layout:
    names = [name.lower() for name in header]
    if repeated := {name for name in names if name and names.count(name) > 1}:
        raise MlipError(f"two columns are called {sorted(repeated)[0]!r}", where=str(path), fix="rename one of them")

    def place(*wanted: str) -> int | None:
        return next((names.index(name) for name in wanted if name in names), None)

    formula = place(*_FORMULA_COLUMNS)
    own_id, functional, split = place(*_ID_COLUMNS), place(_FUNCTIONAL_COLUMN), place(_SPLIT_COLUMN)
    layout = _Layout(formula, own_id, functional, split, {}, {})
    taken = {formula, own_id, functional, split}
    numbers, texts = {}, {}
    for k, name in enumerate(header):
        if k in taken or not name:
            continue
        cells = [text for _, row in rows if (text := layout.cell(row, k))]
        is_of_numbers = 2 * sum(map(_is_number, cells)) > len(cells)
        (numbers if is_of_numbers else texts)[name.replace("/", "_")] = k  # "/" separates groups in HDF5
    return _Layout(formula, own_id, functional, split, numbers, texts)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _row(cells: list[str], layout: _Layout, number: int) -> _Row:
    """Parsed cells of a row.

    Raises:
        MalformedError: the formula is not one of a compound, a value is not a finite number, there is no value at all,
            or the split is unknown.
    """
    formula = layout.cell(cells, layout.formula) or cells[layout.formula].strip() if layout.formula < len(cells) else ""
    try:
        frame = composition_frame(parse_formula(formula))
    except FormulaError as error:
        raise MalformedError(f"formula: {error.kind}", f"line {number}: {error}") from None
    numbers = {}
    for name, place in layout.numbers.items():
        if text := layout.cell(cells, place):
            if not _is_number(text) or not math.isfinite(float(text)):
                raise MalformedError("a property is no finite number", f"line {number}: {name} is {text!r}")
            numbers[name] = float(text)
    if layout.numbers and not numbers:
        raise MalformedError("no property is known", f"line {number}: {', '.join(layout.numbers)}: no value")
    stated = layout.cell(cells, layout.split)
    if stated and stated.lower() not in _SPLIT_WORDS:
        raise MalformedError("unknown split", f"line {number}: {stated!r} is none of {', '.join(SPLITS)}")
    return _Row(
        number,
        formula,
        frame,
        composition_key(frame),
        layout.cell(cells, layout.own_id),
        layout.cell(cells, layout.functional),
        _SPLIT_WORDS[stated.lower()] if stated else None,
        numbers,
        {name: text for name, place in layout.texts.items() if (text := layout.cell(cells, place))},
    )


def _entry(rows: Sequence[_Row], n_splits: int, path: Path, functional: str | None) -> Entry:
    """Entry of one material from its rows.

    Raises:
        MalformedError: the rows state another functional than the given one, or rows with one id differ in composition.
    """
    first = rows[0]
    if len({row.composition for row in rows}) > 1:
        raise MalformedError("one id, several compositions", f"lines {_numbers(rows)}: {first.material_id!r}")
    if first.functional:
        functional = settled_functional(functional, first.functional, path, functional_by_file_name)
    material_id = first.material_id or first.formula
    if n_splits > 1 and not first.material_id:
        material_id = f"{material_id} ({first.split or 'no split'})"
    remarks = {}
    if len(rows) > 1:
        remarks[CONTRADICTING if _contradict(rows) else REPEATED] = [f"line {row.number}" for row in rows]
    if n_splits > 1:
        remarks[IN_SEVERAL_SPLITS] = [f"line {first.number}"]
    properties = {"formula": first.formula, **first.texts, **_means(rows)}
    return Entry(material_id, first.frame, functional or UNKNOWN, NO_STRUCTURE, properties, remarks, first.split)


def _contradict(rows: Sequence[_Row]) -> bool:
    """Whether a property has different values in different rows."""
    values: dict[str, set[float]] = {}
    for row in rows:
        for name, value in row.numbers.items():
            values.setdefault(name, set()).add(value)
    return any(len(found) > 1 for found in values.values())


def _means(rows: Sequence[_Row]) -> dict[str, float]:
    names = dict.fromkeys(name for row in rows for name in row.numbers)
    return {name: float(np.mean([row.numbers[name] for row in rows if name in row.numbers])) for name in names}


def _numbers(rows: Sequence[_Row]) -> str:
    return ", ".join(str(row.number) for row in rows)
