"""Dimers of every pair of elements, from the cutoff down to 0.2 A: does a potential keep atoms apart?

"Improving machine-learning models in materials science through large datasets" names regions "where MACE gives
unphysical results, forces and energies diverging". Training data hold no strongly compressed bonds, so only the form of
the network decides there; a relaxation that falls into a hole of the curve collapses.

The rule: a pair passes if energies and forces are finite up to the cutoff, and if, from 0.2 A to half the sum of the
two covalent radii (Cordero et al., Dalton Trans. 2832 (2008), as in ASE), the energy falls with distance and the force
is repulsive at every point. No real dimer attracts at such short distances: the shortest bonds relative to the size of
their atoms, those of V2 (1.77 A), Cr2 (1.68 A) and Mo2 (1.93 A), have 0.58, 0.60 and 0.63 of that sum.

A second criterion covers the path to the bond: from 0.5 A, which a relaxation rarely passes, to the first bond the
energy must fall and the force be repulsive at every point; otherwise the path has a hole. The first bond is the lowest
energy beyond half the sum of the covalent radii; where that lies beyond the whole sum, the path ends at the sum.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jraph
import numpy as np
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from jaxtyping import Bool, Float, Int

from mlip.energy_gradient import evaluate_batch
from mlip.errors import MlipError
from mlip.potential import Potential
from mlip.progress import count_bar
from mlip.runtime import precision_scope, set_up_jax

SHORTEST = 0.2
"""Shortest distance of the scan, A."""
REPULSIVE_BELOW = 0.5
"""Fraction of the sum of the covalent radii below which a dimer must repel."""
HOLES_FROM = 0.5
"""Distance at which the path to the first bond begins, A."""
FIRST_BOND_AT_MOST = 1.0
"""Upper limit of the path to the first bond, as a fraction of the sum of the covalent radii."""
_N_DISTANCES = 64
"""Number of distances in geometric progression: 0.03 A apart at 0.5 A, 0.1 A apart at 2 A."""
_BATCH = 256
"""Dimers in a batch: gives one compiled shape, and takes little memory compared with a crystal."""


@dataclass(frozen=True, eq=False)
class DimerScan:
    """Energy and force curves of p pairs at d distances."""

    numbers: Int[np.ndarray, "p 2"]
    """Atomic numbers of each pair, in ascending order."""
    distances: Float[np.ndarray, " d"]
    """Distances, A, ascending; the last is the cutoff."""
    energies: Float[np.ndarray, "p d"]
    """Energies, eV, relative to the energy at the cutoff."""
    forces: Float[np.ndarray, "p d"]
    """Forces, eV/A, positive where the atoms repel each other."""

    @property
    def names(self) -> list[str]:
        """Names of the pairs, such as "Cl-Na": symbols in the order of `numbers`."""
        return ["-".join(chemical_symbols[z] for z in pair) for pair in self.numbers]

    @property
    def limits(self) -> Float[np.ndarray, " p"]:
        """Distance below which the atoms of each pair must repel each other, A."""
        return REPULSIVE_BELOW * covalent_radii[self.numbers].sum(axis=1)

    @cached_property
    def _short(self) -> Bool[np.ndarray, "p d"]:
        return self.distances <= self.limits[:, None]

    @cached_property
    def is_finite(self) -> Bool[np.ndarray, " p"]:
        """Whether energies and forces are finite at every distance."""
        return (np.isfinite(self.energies) & np.isfinite(self.forces)).all(axis=1)

    @cached_property
    def fails_at(self) -> Float[np.ndarray, " p"]:
        """Longest distance at which the short range is not repulsive, A; NaN where it is repulsive throughout.

        Atoms that come closer than this may collapse.
        """
        return self._last_attraction(self._short)

    @cached_property
    def passes(self) -> Bool[np.ndarray, " p"]:
        return self.is_finite & np.isnan(self.fails_at)

    @cached_property
    def holes(self) -> Float[np.ndarray, " p"]:
        """Largest rise of the energy with distance in the short range, eV; infinite where it is not finite."""
        return self._largest_rise(self._short)

    @cached_property
    def first_bonds(self) -> Float[np.ndarray, " p"]:
        """Distance at which the path to the first bond ends, A: that of the lowest energy beyond the short range, or
        the sum of the covalent radii if that is shorter."""
        beyond = ~self._short & (self.distances >= HOLES_FROM)
        lowest = np.where(beyond & np.isfinite(self.energies), self.energies, np.inf).argmin(axis=1)
        return np.minimum(self.distances[lowest], FIRST_BOND_AT_MOST * covalent_radii[self.numbers].sum(axis=1))

    @cached_property
    def _way(self) -> Bool[np.ndarray, "p d"]:
        return (self.distances >= HOLES_FROM) & (self.distances < self.first_bonds[:, None])

    @cached_property
    def hole_on_the_way_at(self) -> Float[np.ndarray, " p"]:
        """Longest distance on the path from 0.5 A to the first bond that is not repulsive, A; NaN if there is none."""
        return self._last_attraction(self._way)

    @cached_property
    def holes_on_the_way(self) -> Float[np.ndarray, " p"]:
        """Depth of the hole between 0.5 A and the first bond, eV; defined as in `holes`."""
        return self._largest_rise(self._way)

    @cached_property
    def is_without_hole(self) -> Bool[np.ndarray, " p"]:
        """Whether everything is finite, and repulsive on the path from 0.5 A to the first bond."""
        return self.is_finite & np.isnan(self.hole_on_the_way_at)

    def _last_attraction(self, region: Bool[np.ndarray, "p d"]) -> Float[np.ndarray, " p"]:
        """Longest distance in a contiguous region that is not repulsive, A; NaN if there is none."""
        attracts = ~(self.forces > 0)  # also true where the force is NaN
        climbs = ~(np.diff(self.energies, axis=1) < 0)
        attracts[:, 1:] |= climbs & region[:, :-1]
        attracts &= region
        last = len(self.distances) - 1 - attracts[:, ::-1].argmax(axis=1)
        return np.where(attracts.any(axis=1), self.distances[last], np.nan)

    def _largest_rise(self, region: Bool[np.ndarray, "p d"]) -> Float[np.ndarray, " p"]:
        """Largest rise of the energy with distance within a region, eV; infinite where the energy is not finite."""
        energies = np.where(region, self.energies, -np.inf)
        highest_outside = np.maximum.accumulate(energies[:, ::-1], axis=1)[:, ::-1]
        with np.errstate(invalid="ignore"):  # inf - inf beyond the region
            rises = np.where(region, highest_outside - self.energies, 0.0)
        return np.where(np.isfinite(rises).all(axis=1), rises.max(axis=1), np.inf)

    @cached_property
    def collapses(self) -> Bool[np.ndarray, " p"]:
        """Whether the lowest energy of the curve lies in the short range: such a pair collapses instead of bonding."""
        lowest = np.where(np.isnan(self.energies), np.inf, self.energies).argmin(axis=1)
        return self._short[np.arange(len(lowest)), lowest]

    def worst(self, n: int) -> list[int]:
        """Indices of up to n pairs that fail, those with the deepest holes first."""
        failing = np.flatnonzero(~self.passes)
        return failing[np.argsort(-self.holes[failing], kind="stable")][:n].tolist()

    def summary(self) -> dict[str, Any]:
        """JSON-serializable counts, medians and maxima of the scan."""
        finite = _finite(self.holes[~self.passes])
        on_the_way = _finite(self.holes_on_the_way[~self.is_without_hole])
        return {
            "elements": len(np.unique(self.numbers)),
            "pairs": len(self.numbers),
            "pairs_passing": int(self.passes.sum()),
            "pairs_collapsing": int(self.collapses.sum()),
            "pairs_not_finite": int((~self.is_finite).sum()),
            "same_element_passing": int(self.passes[self.numbers[:, 0] == self.numbers[:, 1]].sum()),
            "median_hole_of_failing_eV": float(np.median(finite)) if len(finite) else None,
            "deepest_hole_eV": float(finite.max()) if len(finite) else None,
            "pairs_without_hole_to_bond": int(self.is_without_hole.sum()),
            "share_without_hole_to_bond": float(self.is_without_hole.mean()),
            "median_hole_to_bond_eV": float(np.median(on_the_way)) if len(on_the_way) else None,
            "deepest_hole_to_bond_eV": float(on_the_way.max()) if len(on_the_way) else None,
            "holes_to_bond_from": HOLES_FROM,
            "first_bond_at_most_fraction_of_covalent_radii": FIRST_BOND_AT_MOST,
            "shortest_distance": SHORTEST,
            "repulsive_below_fraction_of_covalent_radii": REPULSIVE_BELOW,
            "distances": len(self.distances),
            "cutoff": float(self.distances[-1]),
        }

    def by_element(self) -> list[dict[str, Any]]:
        """One JSON-serializable record for each element, by atomic number: its number of pairs, how many of them have a
        hole before the bond, the deepest hole and the partner in that pair."""
        found = []
        for z in np.unique(self.numbers):
            own = np.flatnonzero((self.numbers == z).any(axis=1))
            failing = own[~self.is_without_hole[own]]
            record = {"element": chemical_symbols[z], "pairs": len(own), "with_hole": len(failing)}
            if len(failing):
                worst = failing[self.holes_on_the_way[failing].argmax()]
                partner = self.numbers[worst].sum() - z
                record |= {"deepest_eV": _number(self.holes_on_the_way[worst]), "with": chemical_symbols[partner]}
            found.append(record)
        return found

    def records(self) -> Iterator[dict[str, Any]]:
        """One JSON-serializable record for each pair, with its curve."""
        for k, name in enumerate(self.names):
            yield {
                "pair": name,
                "passes": bool(self.passes[k]),
                "collapses": bool(self.collapses[k]),
                "is_finite": bool(self.is_finite[k]),
                "repulsive_below": round(float(self.limits[k]), 4),
                "fails_at": _number(self.fails_at[k]),
                "hole": _number(self.holes[k]),
                "is_without_hole_to_bond": bool(self.is_without_hole[k]),
                "first_bond": round(float(self.first_bonds[k]), 4),
                "hole_to_bond_at": _number(self.hole_on_the_way_at[k]),
                "hole_to_bond": _number(self.holes_on_the_way[k]),
                "energies": [_number(value) for value in self.energies[k]],
                "forces": [_number(value) for value in self.forces[k]],
            }


def scan_dimers(
    potential: Potential, elements: list[str] | None = None, dtype: str = "float32", progress: bool = True
) -> DimerScan:
    """Energies and forces of the dimers of all pairs of elements.

    Args:
        potential: any model with one head.
        elements: chemical symbols; by default all elements that the potential knows.

    Raises:
        MlipError: an element is unknown to the potential, or its cutoff is not longer than 0.2 A.
    """
    numbers = np.array(sorted({_number_of(symbol) for symbol in elements or potential.elements}))
    potential.check_elements(numbers, where="dimers")
    if potential.cutoff <= SHORTEST:
        raise MlipError(f"the cutoff, {potential.cutoff} A, is not longer than the shortest dimer, {SHORTEST} A")
    set_up_jax()
    pairs = numbers[np.stack(np.triu_indices(len(numbers)), axis=1)]
    distances = np.geomspace(SHORTEST, potential.cutoff, _N_DISTANCES)
    numbers_of, distance_of = np.repeat(pairs, len(distances), axis=0), np.tile(distances, len(pairs))
    energies, forces = _evaluate(potential, numbers_of, distance_of, dtype, progress)
    energies, forces = energies.reshape(len(pairs), -1), forces.reshape(len(pairs), -1)
    return DimerScan(pairs, distances, energies - energies[:, -1:], forces)


def _number_of(symbol: str) -> int:
    if symbol not in atomic_numbers or symbol == "X":
        raise MlipError(f"no element is called {symbol!r}", where="dimers")
    return atomic_numbers[symbol]


def _evaluate(
    potential: Potential,
    numbers: Int[np.ndarray, "k 2"],
    distances: Float[np.ndarray, " k"],
    dtype: str,
    progress: bool,
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Energies without reference energies, eV, and repulsive forces, eV/A, evaluated in batches of one shape."""
    energies, forces = np.zeros((2, len(numbers)))
    params = potential.cast(dtype)
    with count_bar(progress) as bar, precision_scope(dtype):
        for start in bar.track(range(0, len(numbers), _BATCH), description="batches of dimers"):
            members = np.minimum(np.arange(start, start + _BATCH), len(numbers) - 1)  # pad with the last dimer
            graph = _dimers(numbers[members], distances[members], np.dtype(dtype))
            found = evaluate_batch(potential.model, params, graph, potential.metadata.scale, potential.metadata.shift)
            energies[members] = found.energy[:-1]
            forces[members] = found.forces[1:-1:2, 0]
    return energies, forces


def _dimers(numbers: Int[np.ndarray, "k 2"], distances: Float[np.ndarray, " k"], dtype: np.dtype) -> jraph.GraphsTuple:
    """A batch in the layout of `mlip.graph.batching.pad_batch`: k non-periodic dimers along x."""
    k = len(numbers)
    positions = np.zeros((2 * k + 1, 3), dtype)
    positions[1:-1:2, 0] = distances
    receivers = np.arange(2 * k, dtype=np.int32)
    return jraph.GraphsTuple(
        nodes={"species": np.append(numbers.ravel(), 0).astype(np.int32), "positions": positions},
        edges={"shifts": np.zeros((2 * k, 3), np.int32)},
        receivers=receivers,
        senders=receivers ^ 1,
        globals={"cell": np.zeros((k + 1, 3, 3), dtype)},
        n_node=np.append(np.full(k, 2), 1).astype(np.int32),
        n_edge=np.append(np.full(k, 2), 0).astype(np.int32),
    )


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
