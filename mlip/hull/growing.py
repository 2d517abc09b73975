"""A convex hull that grows: adding phases recalculates only the distances that they change.

Adding phases can only lower a hull. A phase on or above the hull only joins the list of entries. A phase below it
changes the hull of its own chemical system and of those that contain it, where it changes the distances of entries
whose facet's plane it lies below (`mlip.hull.touched`). Only stable phases define the hull; all others are entries with
a distance.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool, Float

from mlip.errors import MlipError
from mlip.hull.convex_hull import MAX_ELEMENTS, STABLE, Hulls, Phases
from mlip.hull.growing_file import Columns, read_columns, write_columns
from mlip.hull.touched import touched_rows

_BELOW = 1e-11
"""Depth below the hull that counts as rounding and changes nothing, eV/atom."""


@dataclass(frozen=True)
class HullChange:
    """The changes that an addition made to a hull."""

    new_vertices: list[str]
    """Ids of added phases that are on the hull."""
    fallen_vertices: list[str]
    """Ids of older phases that were on the hull and are now above it."""
    n_changed: int
    """Number of older phases whose distance changed."""
    seconds: float


class GrowingHull:
    """Entries with ids, their phases and their distances to the hull of all of them.

    Energies must be of one kind and one level of theory, which the caller checks (`mlip.hull.energies`). Distances
    equal those of a hull computed from scratch, in whatever order entries were added.
    """

    def __init__(self, are_formation_energies: bool):
        self.are_formation_energies = are_formation_energies
        """Whether energies are formation energies, so that each element has a phase at 0 by definition; see `Hulls`."""
        self.ids: list[str] = []
        self.phases = Phases.of([], np.empty(0))
        self.distances: Float[np.ndarray, " n"] = np.empty(0)
        """Distances above the hull of all entries, eV/atom; never negative."""
        self.potentials: Float[np.ndarray, "n 9"] = np.empty((0, MAX_ELEMENTS), np.float32)
        """Chemical potentials of the facet on which each entry decomposes, eV/atom, float32."""

    @classmethod
    def begin(
        cls, ids: Sequence[str], phases: Phases, *, are_formation_energies: bool, n_workers: int = 1
    ) -> "GrowingHull":
        """The hull of a first set of entries. Arguments and errors are those of `add`."""
        hull = cls(are_formation_energies)
        hull.add(ids, phases, n_workers=n_workers)
        return hull

    @property
    def is_vertex(self) -> Bool[np.ndarray, " n"]:
        """Whether each entry is on the hull; entries of equal composition and energy all are."""
        return self.distances <= STABLE

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, ids: Sequence[str], phases: Phases, *, n_workers: int = 1) -> HullChange:
        """Add entries. After an error the hull is unchanged.

        Args:
            ids: an id for each phase, unique among all entries.
            n_workers: number of processes.

        Raises:
            MlipError: an id is taken or given twice, an energy is not finite, or, with total energies, an element has
                no pure phase among the entries.
        """
        start = time.perf_counter()
        ids = [str(name) for name in ids]
        self._check(ids, phases)
        every = joined(self.phases, phases)
        was_vertex = self.is_vertex
        vertices = self.phases.take(np.flatnonzero(was_vertex))
        of_added = self._potentials_on(vertices, phases, n_workers)
        heights = _heights(phases, of_added)
        below = phases.take(np.flatnonzero(~(heights >= -_BELOW)))  # negated so that NaN counts as below
        distances = np.append(self.distances, heights)
        potentials = np.concatenate([self.potentials, of_added.astype(np.float32)])

        rows = touched_rows(every, potentials, below) if len(self) else np.arange(len(phases))
        touched, hulls = every.take(rows), self._hulls(joined(vertices, below))
        changed = hulls.potentials(touched, n_workers)
        distances[rows], potentials[rows] = _heights(touched, changed), changed
        distances = np.maximum(distances, 0.0)

        before, self.distances, self.potentials = self.distances, distances, potentials
        self.ids, self.phases = self.ids + ids, every
        older, added = np.split(self.is_vertex, [len(before)])
        return HullChange(
            new_vertices=[ids[k] for k in np.flatnonzero(added)],
            fallen_vertices=[self.ids[k] for k in np.flatnonzero(was_vertex & ~older)],
            n_changed=int((np.abs(distances[: len(before)] - before) > STABLE).sum()),
            seconds=time.perf_counter() - start,
        )

    def distances_of(self, phases: Phases, n_workers: int = 1) -> Float[np.ndarray, " k"]:
        """Distances to the hull of phases that are not entries, eV/atom; negative below the hull.

        Raises:
            MlipError: with total energies, an element has no entry.
        """
        return self.vertices.distances(phases, n_workers)

    @property
    def vertices(self) -> Hulls:
        """The hull as spanned by its stable phases."""
        return self._hulls(self.phases.take(np.flatnonzero(self.is_vertex)))

    @classmethod
    def load(cls, path: Path) -> "GrowingHull":
        """Read a hull from a file that `save` wrote.

        Raises:
            MlipError: there is no such file, or it is not a growing hull.
        """
        columns = read_columns(path)
        hull = cls(columns.are_formation_energies)
        hull.ids, hull.phases = columns.ids, columns.phases
        hull.distances, hull.potentials = columns.distances, columns.potentials
        return hull

    def save(self, path: Path) -> None:
        """Write the hull to an .npz file, whole or not at all.

        Raises:
            MlipError: the file cannot be written there.
        """
        columns = Columns(self.ids, self.phases, self.distances, self.potentials, self.are_formation_energies)
        write_columns(path, columns)

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

    def _potentials_on(self, vertices: Phases, phases: Phases, n_workers: int) -> Float[np.ndarray, "k 9"]:
        """Chemical potentials of the current hull, as from `Hulls.potentials`; NaN where the hull lacks one of a
        phase's elements."""
        potentials = np.full((len(phases), MAX_ELEMENTS), np.nan)
        known = np.arange(len(phases)) if len(vertices) else np.empty(0, int)
        if not self.are_formation_energies:
            elements = np.append(np.unique(vertices.numbers), 0)
            known = np.flatnonzero(np.isin(phases.numbers, elements).all(1))
        potentials[known] = self._hulls(vertices).potentials(phases.take(known), n_workers)
        return potentials


def joined(first: Phases, second: Phases) -> Phases:
    """The phases of `first`, followed by those of `second`."""
    columns = ((getattr(one, name) for one in (first, second)) for name in ("numbers", "fractions", "energies"))
    return Phases(*map(np.concatenate, map(list, columns)))


def _heights(phases: Phases, potentials: Float[np.ndarray, "n 9"]) -> Float[np.ndarray, " n"]:
    """Energies of the phases above the planes of the potentials, eV/atom."""
    return phases.energies - (potentials * phases.fractions).sum(1)


def _clash(names: list[str], how: str) -> MlipError:
    told = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return MlipError(f"ids that are {how}: {told}", fix="give each entry an id of its own")
