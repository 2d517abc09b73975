"""Vectors that describe elements, from a file: matscholar's for published CGATs, mat2vec's for CrabNet, and similar
ones."""

import csv
import gzip
import json
import math
from os import PathLike
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Float

from mlip.errors import MlipError


def read_element_vectors(path: str | PathLike) -> dict[str, Float[np.ndarray, " v"]]:
    """Vectors by element symbol, all of one length, from a JSON object {symbol: [numbers]} or a table with a header and
    rows "symbol,number,..." (.csv, .csv.gz). Atomic numbers may stand for symbols.

    Raises:
        MlipError: the file cannot be read, has another layout, names an unknown element, or holds numbers that are not
            finite.
    """
    path = Path(path)
    try:
        content = _read_table(path) if ".csv" in path.suffixes else json.loads(path.read_text())
    except OSError as error:
        raise MlipError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    except (ValueError, EOFError):
        kind = "a table of elements and numbers" if ".csv" in path.suffixes else "JSON"
        raise MlipError(f"is not {kind}", where=str(path), fix='{"H": [0.1, ...], "He": [...], ...}') from None
    if not isinstance(content, dict) or not content:
        raise MlipError("has no elements", where=str(path), fix='{"H": [0.1, ...], "He": [...], ...}')
    content = {_symbol(name): vector for name, vector in content.items()}
    length = None
    for symbol, vector in content.items():
        if symbol == "X" or symbol not in atomic_numbers:
            raise MlipError(f"{symbol!r} is no element", where=str(path))
        if not isinstance(vector, list) or not all(isinstance(x, int | float) and math.isfinite(x) for x in vector):
            raise MlipError(f"the vector of {symbol} is no list of finite numbers", where=str(path))
        length = len(vector) if length is None else length
        if len(vector) != length or not vector:
            raise MlipError(f"the vector of {symbol} has {len(vector)} numbers, others {length}", where=str(path))
    return {symbol: np.array(vector, np.float64) for symbol, vector in content.items()}


def _symbol(name: str) -> str:
    """Symbol of an atomic number; any other name unchanged."""
    return chemical_symbols[int(name)] if name.isdecimal() and 0 < int(name) < len(chemical_symbols) else name


def _read_table(path: Path) -> dict[str, list[float]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", newline="") as file:
        _, *rows = csv.reader(file)
    return {symbol: [float(number) for number in numbers] for symbol, *numbers in rows}


def vectors_by_number(vectors: dict[str, Float[np.ndarray, " v"]], max_atomic_number: int) -> Float[np.ndarray, "z v"]:
    """Vectors as a table with rows 0 to max_atomic_number; zero for elements without a vector."""
    length = len(next(iter(vectors.values())))
    table = np.zeros((max_atomic_number + 1, length))
    for symbol, vector in vectors.items():
        if atomic_numbers[symbol] <= max_atomic_number:
            table[atomic_numbers[symbol]] = vector
    return table
