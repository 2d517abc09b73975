"""Distances to the convex hull: the energy of a phase above the best mixture of reference phases of its composition.

E_hull(x) = min sum_i w_i E_i over mixtures of references with composition x: the lower convex envelope of their
energies. The envelope is the maximum of the planes through its facets, so all phases of a chemical system take one
product of two small matrices. A plane's coefficients are chemical potentials, eV/atom.

Only stable phases of a system's subsystems contribute to its hull, because what decomposes there decomposes here. So
systems are solved from small to large, each once, and their facets found by qhull. pymatgen's PhaseDiagram, with which
the tests compare, takes ten times as long.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from multiprocessing import get_context

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Float, Int
from scipy.spatial import ConvexHull, QhullError

from mlip.errors import MlipError

MAX_ELEMENTS = 9
"""Maximum number of elements of a phase."""
_BITS = 7
"""Number of bits of an atomic number in the key of a chemical system."""
STABLE = 1e-9
"""Tolerance for rounding, eV/atom: a phase this little above the hull, or below a facet, is on it."""
_SYSTEMS_A_TASK = 500
System = tuple[int, ...]
"""Atomic numbers of a chemical system, ascending."""


@dataclass(frozen=True, eq=False)
class Phases:
    """Compositions and energies of phases, as columns."""

    numbers: Int[np.ndarray, "n 9"]
    """Atomic numbers, ascending from the left, then zeros; uint8."""
    fractions: Float[np.ndarray, "n 9"]
    """Atomic fractions of the elements in `numbers`."""
    energies: Float[np.ndarray, " n"]
    """Energies, eV/atom; all are total energies, or all are formation energies."""

    @classmethod
    def of(cls, compositions: Iterable[Mapping[str, float]], energies: Float[np.ndarray, " n"]) -> "Phases":
        """The phases of compositions with their energies.

        Args:
            compositions: symbol -> amount, one mapping for each phase.
            energies: eV/atom.

        Raises:
            MlipError: a composition has no element or more than nine, an amount is not positive, or an energy is not
                finite.
        """
        energies = np.asarray(energies, np.float64)
        numbers = np.zeros((len(energies), MAX_ELEMENTS), np.uint8)
        fractions = np.zeros((len(energies), MAX_ELEMENTS))
        for k, composition in enumerate(compositions):
            try:
                amounts = sorted((atomic_numbers[symbol], amount) for symbol, amount in composition.items())
            except KeyError as error:
                raise MlipError(f"{error.args[0]!r} is no element", where=f"phase {k}") from None
            if not 0 < len(amounts) <= MAX_ELEMENTS or not all(amount > 0 for _, amount in amounts):
                raise MlipError(f"{dict(composition)} is no composition of one to nine elements", where=f"phase {k}")
            numbers[k, : len(amounts)], fractions[k, : len(amounts)] = zip(*amounts, strict=True)
        if not np.isfinite(energies).all():
            raise MlipError("its energy is not finite", where=f"phase {int(np.argmin(np.isfinite(energies)))}")
        return cls(numbers, fractions / np.maximum(fractions.sum(1, keepdims=True), 1e-300), energies)

    def __len__(self) -> int:
        return len(self.energies)

    def take(self, rows: Int[np.ndarray, " k"]) -> "Phases":
        return Phases(self.numbers[rows], self.fractions[rows], self.energies[rows])

    @cached_property
    def keys(self) -> Int[np.ndarray, " n"]:
        """Key of each phase's chemical system, one integer."""
        return system_keys(self.numbers)

    def by_system(self) -> Iterator[tuple[System, Int[np.ndarray, " k"]]]:
        """Chemical systems and the rows of their phases."""
        order = np.argsort(self.keys, kind="stable")
        starts = np.flatnonzero(np.diff(self.keys[order], prepend=-1))
        for rows in np.split(order, starts[1:]) if len(order) else []:
            yield tuple(int(z) for z in self.numbers[rows[0]] if z), rows


def system_keys(numbers: Int[np.ndarray, "n 9"]) -> Int[np.ndarray, " n"]:
    """One integer for each chemical system, from rows of ascending atomic numbers padded with zeros on the right."""
    return numbers.astype(np.int64) @ (1 << (_BITS * np.arange(MAX_ELEMENTS, dtype=np.int64)))


def in_subsystems(
    system: System, phases: Phases, by_system: Mapping[System, Int[np.ndarray, " k"]]
) -> tuple[Int[np.ndarray, " p"], Float[np.ndarray, "p e"]]:
    """Rows of the phases within a chemical system, subsystems included, and their fractions of its elements.

    Args:
        by_system: rows of `phases`, by chemical system.
    """
    found, fractions = [np.empty(0, int)], [np.empty((0, len(system)))]
    for n in range(1, len(system) + 1):
        for columns in combinations(range(len(system)), n):
            rows = by_system.get(tuple(system[c] for c in columns))
            if rows is not None:
                spread = np.zeros((len(rows), len(system)))
                spread[:, columns] = phases.fractions[rows, :n]
                found.append(rows)
                fractions.append(spread)
    return np.concatenate(found), np.concatenate(fractions)


class Hulls:
    """The convex hulls of a set of reference phases; the hull of each system is computed once and cached.

    Args:
        references: any number of phases; only the lowest of each composition counts.
        are_formation_energies: whether energies are formation energies. If so, each element has a phase at 0 by
            definition: the element's phases among the references may be metastable.
    """

    def __init__(self, references: Phases, *, are_formation_energies: bool = False):
        self._references = references
        self._rows = dict(references.by_system())
        self._elements_at_zero = are_formation_energies
        self._stable: dict[System, tuple[np.ndarray, np.ndarray]] = {}

    def distances(self, phases: Phases, n_workers: int = 1) -> Float[np.ndarray, " n"]:
        """Energy above the hull of the references, eV/atom; negative below it.

        Args:
            n_workers: number of processes.

        Raises:
            MlipError: elements have no reference phase; the message names them.
        """
        return phases.energies - self.energies(phases, n_workers)

    def energies(self, phases: Phases, n_workers: int = 1) -> Float[np.ndarray, " n"]:
        """Energy of the hull at the phases' compositions, eV/atom. Arguments and errors are those of `distances`."""
        return (self.potentials(phases, n_workers) * phases.fractions).sum(1)

    def potentials(self, phases: Phases, n_workers: int = 1) -> Float[np.ndarray, "n 9"]:
        """Chemical potentials, eV/atom, of a facet that contains each phase's composition, in the columns of its
        elements, then zeros. Arguments and errors are those of `distances`."""
        groups = list(phases.by_system())
        self._check_elements({z for system, _ in groups for z in system})
        found = np.zeros((len(phases), MAX_ELEMENTS))
        size = max(1, min(_SYSTEMS_A_TASK, math.ceil(len(groups) / n_workers)))
        tasks = [groups[start : start + size] for start in range(0, len(groups), size)]
        asked = ([(system, phases.fractions[rows, : len(system)]) for system, rows in task] for task in tasks)
        for task, answers in zip(tasks, self._answers(asked, min(n_workers, len(tasks))), strict=True):
            for (system, rows), potentials in zip(task, answers, strict=True):
                found[rows, : len(system)] = potentials
        return found

    def _answers(self, asked, n_workers: int) -> Iterator[list[np.ndarray]]:
        if n_workers <= 1:
            yield from map(self._at, asked)
            return
        # spawn, not fork: the process may have JAX threads
        context = get_context("spawn")
        with ProcessPoolExecutor(n_workers, context, _start_worker, (self._references, self._elements_at_zero)) as pool:
            yield from pool.map(_at_in_worker, asked)

    def _at(self, asked: list[tuple[System, Float[np.ndarray, "k e"]]]) -> list[Float[np.ndarray, "k e"]]:
        return [self._planes_at(fractions, *self._phases_of(system)) for system, fractions in asked]

    @staticmethod
    def _planes_at(at, fractions, energies) -> Float[np.ndarray, "k e"]:
        planes = lower_planes(fractions, energies)
        return planes[(at @ planes.T).argmax(1)]

    def _check_elements(self, numbers: set[int]) -> None:
        if missing := [] if self._elements_at_zero else sorted(z for z in numbers if (z,) not in self._rows):
            names = ", ".join(chemical_symbols[z] for z in missing)
            raise MlipError(f"no reference phase of the elements {names}", fix="add one of each to the references")

    def _phases_of(self, system: System) -> tuple[Float[np.ndarray, "p e"], Float[np.ndarray, " p"]]:
        """The phases that determine the hull of a system: stable ones of its subsystems, and all of its own."""
        fractions, energies = [], []
        for size in range(1, len(system)):
            for columns in combinations(range(len(system)), size):
                x, e = self._stable_in(tuple(system[c] for c in columns))
                if len(e):
                    spread = np.zeros((len(e), len(system)))
                    spread[:, columns] = x
                    fractions.append(spread)
                    energies.append(e)
        x, e = self._own(system)
        return np.concatenate([*fractions, x]), np.concatenate([*energies, e])

    def _own(self, system: System) -> tuple[Float[np.ndarray, "p e"], Float[np.ndarray, " p"]]:
        rows = self._rows.get(system, np.empty(0, int))
        x, e = self._references.fractions[rows, : len(system)], self._references.energies[rows]
        if self._elements_at_zero and len(system) == 1:
            return np.append(x, [[1.0]], axis=0), np.append(e, 0.0)
        return x, e

    def _stable_in(self, system: System) -> tuple[Float[np.ndarray, "p e"], Float[np.ndarray, " p"]]:
        """Stable phases that contain all elements of the system."""
        if system not in self._stable:
            x, e = self._own(system)
            if len(e):
                planes = self._planes_at(x, *self._phases_of(system))
                is_stable = e <= (x * planes).sum(1) + STABLE
                x, e = _lowest(x[is_stable], e[is_stable])
            self._stable[system] = x, e
        return self._stable[system]


def lower_planes(
    fractions: Float[np.ndarray, "p e"], energies: Float[np.ndarray, " p"]
) -> Float[np.ndarray, "facets e"]:
    """Planes whose maximum is the lower convex envelope: chemical potentials of the elements, eV/atom, for each facet.

    Args:
        fractions: compositions of the phases; each element must be among them as a pure phase.
        energies: eV/atom.
    """
    n_elements = fractions.shape[1]
    is_pure = fractions.max(1) == 1
    pure = np.array([energies[is_pure & (fractions[:, k] == 1)].min() for k in range(n_elements)])
    formation = energies - fractions @ pure
    is_bound = formation < -STABLE
    if n_elements == 1 or not is_bound.any():
        return pure[None]
    x, e = _lowest(fractions[is_bound], formation[is_bound])
    if len(e) == 1:
        return pure + _planes_of_one(x[0], e[0])
    # The elements at 0 and a point above all make a volume of the points; the facets at that point are the upper ones.
    points = np.concatenate([np.eye(n_elements), x, np.full((1, n_elements), 1 / n_elements)])
    heights = np.concatenate([np.zeros(n_elements), e, [1.0]])
    try:
        equations = ConvexHull(np.column_stack([points[:, 1:], heights]), qhull_options="Qt Q12").equations
    except QhullError as error:
        raise MlipError(f"no convex hull of {len(e)} phases: {str(error).splitlines()[0]}") from None
    equations = equations[equations[:, -2] < -1e-8]  # lower facets only; side facets are vertical
    at_first = -equations[:, -1] / equations[:, -2]
    planes = np.column_stack([at_first, at_first[:, None] - equations[:, :-2] / equations[:, -2:-1]])
    # A side facet tilted by rounding would cut through the phases.
    is_below = (points[:-1] @ planes.T <= heights[:-1, None] + 1e3 * STABLE).all(0)
    return pure + planes[is_below]


def _planes_of_one(x: Float[np.ndarray, " e"], energy: float) -> Float[np.ndarray, "facets e"]:
    """Planes of a single compound among elements at 0: each facet omits one of its elements."""
    present = np.flatnonzero(x)
    planes = np.zeros((len(present), len(x)))
    planes[np.arange(len(present)), present] = energy / x[present]
    return planes


def _lowest(x: Float[np.ndarray, "p e"], e: Float[np.ndarray, " p"]) -> tuple[np.ndarray, np.ndarray]:
    """The phase of lowest energy of each composition."""
    order = np.lexsort((e, *np.round(x, 12).T))
    x, e = x[order], e[order]
    is_first = np.ones(len(e), bool)
    is_first[1:] = (np.abs(np.diff(x, axis=0)) > 1e-12).any(1)
    return x[is_first], e[is_first]


_of_worker: Hulls


def _start_worker(references: Phases, are_formation_energies: bool) -> None:
    global _of_worker
    _of_worker = Hulls(references, are_formation_energies=are_formation_energies)


def _at_in_worker(asked: list[tuple[System, np.ndarray]]) -> list[np.ndarray]:
    return _of_worker._at(asked)
