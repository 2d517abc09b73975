"""A suite: a benchmark that takes a potential, and perhaps data, and tells tables, figures and a few numbers by
which potentials are compared."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip.benchmark.suites import NAMES
from mlip.benchmark.tables import Table
from mlip.errors import MlipError
from mlip.foreign import ForeignPotential
from mlip.relaxation.named import NamedPotential


@dataclass(frozen=True)
class Request:
    """The request to a suite."""

    named: NamedPotential
    out: Path
    """Folder of this suite."""
    quick: bool
    """A part of the structures that the suite has itself."""
    data: tuple[Path, ...] = ()
    """Materials with references; none: the structures that the suite has itself."""
    progress: bool = True
    allow_functional_mismatch: bool = False

    @property
    def is_foreign(self) -> bool:
        """Whether the potential is a calculator of ASE."""
        return isinstance(self.named.potential, ForeignPotential)

    def known(self, structures: Mapping[str, Atoms]) -> tuple[dict[str, Atoms], list[str]]:
        """The structures of elements that the potential knows, and the names of the others."""
        found, unknown = {}, []
        for name, atoms in structures.items():
            try:
                self.named.potential.check_elements(atoms.numbers, where=name)
                found[name] = atoms
            except MlipError:
                unknown.append(name)
        return found, unknown


@dataclass(frozen=True)
class Metric:
    """A number by which potentials are compared."""

    label: str
    """With the unit."""
    digits: int


@dataclass(frozen=True)
class Report:
    """The findings of a suite."""

    metrics: dict[str, float]
    """By the name of the suite's metrics; NaN where nothing could be measured."""
    reasons: dict[str, int]
    """How structures ended -> how many."""
    protocol: dict[str, Any]
    """Settings that two potentials must share to be compared. JSON-able."""
    tables: tuple[Table, ...] = ()
    figures: str = ""
    """HTML."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Why -> names of structures that could not be asked for."""


@dataclass(frozen=True)
class Suite:
    title: str
    metrics: Mapping[str, Metric]
    run: Callable[[Request], Report]
    takes: Callable[[Path], bool]
    """Whether a file of data is one that the suite can use."""


def suite_called(name: str) -> Suite:
    """The suite of that name.

    Raises:
        MlipError: there is none.
    """
    if name not in NAMES:
        raise MlipError(f"no suite is called {name!r}", where="suite", fix=f"all, or one of: {', '.join(NAMES)}")
    return import_module(f"mlip.benchmark.suites.{name.replace('-', '_')}").SUITE


def counted(reasons: Iterable[str]) -> dict[str, int]:
    """Reasons, the most frequent first."""
    return dict(Counter(reasons).most_common())


def share(part: int, whole: int) -> float:
    """%; NaN of nothing."""
    return 100 * part / whole if whole else float("nan")


def mean(values: Iterable[float]) -> float:
    """Average of the finite values; NaN where there is none."""
    known = finite(values)
    return float(known.mean()) if len(known) else float("nan")


def median(values: Iterable[float]) -> float:
    """Median of the finite values; NaN where there is none."""
    known = finite(values)
    return float(np.median(known)) if len(known) else float("nan")


def finite(values: Iterable[float]) -> np.ndarray:
    known = np.array(list(values), dtype=float)
    return known[np.isfinite(known)]
