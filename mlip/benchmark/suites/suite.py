"""The interface of a suite: a benchmark that takes a potential, and optionally data, and returns tables, figures and a
few metrics by which potentials are compared."""

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
    """The inputs of a suite."""

    named: NamedPotential
    out: Path
    """Output folder of the suite."""
    quick: bool
    """Whether to use only part of the built-in structures."""
    data: tuple[Path, ...] = ()
    """Files of materials with references; if empty, the suite uses its built-in structures."""
    progress: bool = True
    allow_functional_mismatch: bool = False

    @property
    def is_foreign(self) -> bool:
        """Whether the potential is a calculator of ASE."""
        return isinstance(self.named.potential, ForeignPotential)

    def known(self, structures: Mapping[str, Atoms]) -> tuple[dict[str, Atoms], list[str]]:
        """The structures whose elements the potential knows, and the names of the others."""
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
    """Label of the metric, with the unit."""
    digits: int


@dataclass(frozen=True)
class Report:
    """The results of a suite."""

    metrics: dict[str, float]
    """Metrics by their names; NaN where nothing could be measured."""
    reasons: dict[str, int]
    """Reason why calculations ended -> number of structures."""
    protocol: dict[str, Any]
    """JSON-serializable settings that must agree for two potentials to be compared."""
    tables: tuple[Table, ...] = ()
    figures: str = ""
    """Figures as HTML."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Reason -> names of the structures that could not be computed for this reason."""


@dataclass(frozen=True)
class Suite:
    title: str
    metrics: Mapping[str, Metric]
    run: Callable[[Request], Report]
    takes: Callable[[Path], bool]
    """Function that tells whether the suite can use a data file."""


def suite_called(name: str) -> Suite:
    """The suite of this name.

    Raises:
        MlipError: there is no such suite.
    """
    if name not in NAMES:
        raise MlipError(f"no suite is called {name!r}", where="suite", fix=f"all, or one of: {', '.join(NAMES)}")
    return import_module(f"mlip.benchmark.suites.{name.replace('-', '_')}").SUITE


def counted(reasons: Iterable[str]) -> dict[str, int]:
    """Number of occurrences of each reason, the most frequent first."""
    return dict(Counter(reasons).most_common())


def share(part: int, whole: int) -> float:
    """Share of `part` in `whole`, %; NaN if `whole` is 0."""
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
