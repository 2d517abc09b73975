"""A convex hull that grows: what is added changes the distances that it touches, and nothing else is recalculated.

Adding phases can only lower a hull. One that lies on or above it changes nothing but the list of entries. One that
lies below it changes the hull of its own chemical system and of all systems that contain this system; entries of
other systems keep their distances. The hull itself is remembered by its stable phases alone: all others are entries
with a distance.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int

from mlip.errors import MlipError
from mlip.hull.convex_hull import MAX_ELEMENTS, STABLE, Hulls, Phases, system_keys
from mlip.hull.growing_file import read_columns, write_columns

_BELOW = 1e-11
"""eV/atom: what lies less below the hull does so by rounding, and changes nothing."""


@dataclass(frozen=True)
class HullChange:
    """What an addition did to a hull."""

    new_vertices: list[str]
    """Ids of added phases that are on the hull."""
    fallen_vertices: list[str]
    """Ids of older phases that were on the hull and are above it now."""
    n_changed: int
    """Number of older phases whose distance changed."""
    seconds: float


class GrowingHull:
    """Entries with ids, their phases and their distances to the hull of all of them.

    Energies are of one kind and one level of theory; whoever adds sees to that (`mlip.hull.energies`). Distances are
    those of a hull that is made from scratch, whatever the order in which entries came.
    """

    def __init__(self, are_formation_energies: bool):
        self.are_formation_energies = are_formation_energies
        """Whether each element has a phase at 0 by definition; see `Hulls`."""
        self.ids: list[str] = []
        self.phases = Phases.of([], np.empty(0))
        self.distances: Float[np.ndarray, " n"] = np.empty(0)
        """eV/atom above the hull of all entries; never negative."""

    @classmethod
    def begin(
        cls, ids: Sequence[str], phases: Phases, *, are_formation_energies: bool, n_workers: int = 1
    ) -> "GrowingHull":
        """The hull of a first set of entries; arguments and errors are those of `add`."""
        hull = cls(are_formation_energies)
        hull.add(ids, phases, n_workers=n_workers)
        return hull

    @property
    def is_vertex(self) -> Bool[np.ndarray, " n"]:
        """Whether an entry is on the hull; of several that are one composition at one energy, each is."""
        return self.distances <= STABLE

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, ids: Sequence[str], phases: Phases, *, n_workers: int = 1) -> HullChange:
        """Add entries. After an error the hull is what it was.

        Args:
            ids: a name for each phase, which no other entry has.
            n_workers: processes.

        Raises:
            MlipError: an id that is taken or given twice, an energy that is not finite, an element that no entry is
                a phase of (where energies are totals).
        """
        start = time.perf_counter()
        ids = [str(name) for name in ids]
        self._check(ids, phases)
        n_old, was_vertex = len(self), self.is_vertex
        vertices = self.phases.take(np.flatnonzero(was_vertex))
        distances = np.append(self.distances, self._distances_to(vertices, phases, n_workers))
        is_below = distances[n_old:] < -_BELOW
        every = joined(self.phases, phases)
        rows = np.flatnonzero(_contains_one_of(every, np.unique(phases.keys[is_below])))
        hulls = self._hulls(joined(vertices, phases.take(np.flatnonzero(is_below))))
        distances[rows] = hulls.distances(every.take(rows), n_workers)
        distances = np.maximum(distances, 0.0)
        is_changed = np.abs(distances[:n_old] - self.distances) > STABLE

        self.ids, self.phases, self.distances = self.ids + ids, every, distances
        return HullChange(
            new_vertices=[ids[k] for k in np.flatnonzero(self.is_vertex[n_old:])],
            fallen_vertices=[self.ids[k] for k in np.flatnonzero(was_vertex & ~self.is_vertex[:n_old])],
            n_changed=int(is_changed.sum()),
            seconds=time.perf_counter() - start,
        )

    def distances_of(self, phases: Phases, n_workers: int = 1) -> Float[np.ndarray, " k"]:
        """Distances, eV/atom, of phases that are no entries; negative below the hull.

        Raises:
            MlipError: an element has no entry (where energies are totals).
        """
        return self.vertices.distances(phases, n_workers)

    @property
    def vertices(self) -> Hulls:
        """The hull, of its stable phases."""
        return self._hulls(self.phases.take(np.flatnonzero(self.is_vertex)))

    @classmethod
    def load(cls, path: Path) -> "GrowingHull":
        """
        Raises:
            MlipError: no such file, or none that `save` wrote.
        """
        columns = read_columns(path)
        hull = cls(columns.are_formation_energies)
        hull.ids, hull.phases, hull.distances = columns.ids, columns.phases, columns.distances
        return hull

    def save(self, path: Path) -> None:
        """Write the hull to a file, .npz, whole or not at all.

        Raises:
            MlipError: it cannot be written there.
        """
        write_columns(path, self.ids, self.phases, self.distances, self.are_formation_energies)

    def _hulls(self, references: Phases) -> Hulls:
        return Hulls(references, are_formation_energies=self.are_formation_energies)

    def _check(self, ids: list[str], phases: Phases) -> None:
        if len(ids) != len(phases):
            raise MlipError(f"{len(ids)} ids of {len(phases)} phases")
        added = set(ids)
        if len(added) != len(ids):
            raise _clash([name for name, count in Counter(ids).items() if count > 1], "given twice")
        if taken := [name for name in self.ids if name in added]:
            raise _clash(taken, "taken already")
        if not np.isfinite(phases.energies).all():
            name = ids[int(np.argmin(np.isfinite(phases.energies)))]
            raise MlipError("its energy is not finite", where=f"phase {name}")
        if not self.are_formation_energies:
            pure = {int(z) for each in (self.phases, phases) for z in each.numbers[each.numbers[:, 1] == 0, 0]}
            if missing := sorted({int(z) for z in np.unique(phases.numbers)} - pure - {0}):
                names = ", ".join(chemical_symbols[z] for z in missing)
                raise MlipError(f"no phase of the elements {names} by themselves", fix="add one of each, too")

    def _distances_to(self, vertices: Phases, phases: Phases, n_workers: int) -> Float[np.ndarray, " k"]:
        """Distances of phases to the hull as it stands, eV/atom; endlessly below where it lacks one of the elements."""
        distances = np.full(len(phases), -np.inf)
        known = np.arange(len(phases)) if len(vertices) else np.empty(0, int)
        if not self.are_formation_energies:
            elements = np.append(np.unique(vertices.numbers), 0)
            known = np.flatnonzero(np.isin(phases.numbers, elements).all(1))
        distances[known] = self._hulls(vertices).distances(phases.take(known), n_workers)
        return distances


def joined(first: Phases, second: Phases) -> Phases:
    """The phases of both, one after the other."""
    columns = ((getattr(one, name) for one in (first, second)) for name in ("numbers", "fractions", "energies"))
    return Phases(*map(np.concatenate, map(list, columns)))


def _contains_one_of(phases: Phases, keys: Int[np.ndarray, " s"]) -> Bool[np.ndarray, " n"]:
    """Whether a phase's chemical system is, or contains, one of the systems."""
    if not len(keys):
        return np.zeros(len(phases), bool)
    _, first, system = np.unique(phases.keys, return_index=True, return_inverse=True)
    numbers = phases.numbers[first]
    sizes = (numbers > 0).sum(1)
    is_found = np.zeros(len(first), bool)
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        for n in range(1, size + 1):
            for columns in combinations(range(size), n):
                part = np.zeros((len(rows), MAX_ELEMENTS), np.uint8)
                part[:, :n] = numbers[np.ix_(rows, columns)]
                is_found[rows] |= np.isin(system_keys(part), keys)
    return is_found[system]


def _clash(names: list[str], how: str) -> MlipError:
    told = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return MlipError(f"ids that are {how}: {told}", fix="give each entry an id of its own")
