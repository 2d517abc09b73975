"""The declared outlier filters of "Improving machine-learning models in materials science through large
datasets", sec. 2.4: frames that are no use to a potential, each rule with its count.

A label that is missing breaks no rule.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from ase.geometry import get_distances, minkowski_reduce

from mlip.data.records import Frame, Trajectory
from mlip.errors import MlipError
from mlip.units import kilobar_to_ev_per_a3


@dataclass(frozen=True, slots=True)
class Rule:
    """A frame for which `is_outlier` holds is removed."""

    name: str
    is_outlier: Callable[[Frame], bool]


def more_sites_than(limit: int) -> Rule:
    return Rule(f"more than {limit} sites", lambda frame: len(frame) > limit)


def atom_without_neighbor_within(distance: float) -> Rule:
    """`distance` in A; an atom's own periodic images count as neighbours."""
    return Rule(f"atom without a neighbour within {distance:g} A", lambda frame: _has_lonely_atom(frame, distance))


def energy_above(limit: float) -> Rule:
    """`limit` in eV/atom."""
    return Rule(f"energy > {limit:g} eV/atom", lambda frame: frame.energy / len(frame) > limit)


def energy_below(limit: float) -> Rule:
    """`limit` in eV/atom."""
    return Rule(f"energy < {limit:g} eV/atom", lambda frame: frame.energy / len(frame) < limit)


def force_above(limit: float) -> Rule:
    """`limit` in eV/A, on the largest component."""
    return Rule(f"force component > {limit:g} eV/A", lambda frame: _exceeds(frame.forces, limit))


def stress_above(kilobar: float) -> Rule:
    """`kilobar`: the limit on the largest component, kB."""
    limit = kilobar_to_ev_per_a3(kilobar)
    return Rule(f"stress component > {kilobar:g} kbar", lambda frame: _exceeds(frame.stress, limit))


RULE_SETS: dict[str, tuple[Rule, ...]] = {
    "2d": (
        more_sites_than(20),
        atom_without_neighbor_within(6.0),
        energy_above(0.0),
        energy_below(-20.0),
        force_above(20.0),
        stress_above(500.0),
    ),
    "pbesol": (energy_above(0.0), force_above(50.0), stress_above(800.0)),
    "none": (),
}
"""By name: the paper's filters of its 2D and its PBEsol data, and no filter."""


END_REMOVED = "path_end_removed"
"""Property of a material whose relaxed structure was an outlier: 1."""


def rules_named(name: str) -> tuple[Rule, ...]:
    """The rule set of that name.

    Raises:
        MlipError: there is none.
    """
    if name not in RULE_SETS:
        raise MlipError(f"unknown outlier rules {name!r}", fix=f"one of {', '.join(RULE_SETS)}")
    return RULE_SETS[name]


def remove_outliers(trajectory: Trajectory, rules: tuple[Rule, ...]) -> tuple[Trajectory, Counter[str]]:
    """The trajectory without outliers (it may have no frame left), and how many frames each rule removed.

    A frame counts for the first rule that it breaks, so that the counts add up to the frames removed. A path that
    lost its last frame, the relaxed one, but not all, has the property `END_REMOVED`: nothing may be compared with
    what is its last frame now.
    """
    kept: list[Frame] = []
    removed: Counter[str] = Counter()
    for frame in trajectory.frames:
        broken = next((rule.name for rule in rules if rule.is_outlier(frame)), None)
        if broken is None:
            kept.append(frame)
        else:
            removed[broken] += 1
    filtered = replace(trajectory, frames=kept)
    if kept and kept[-1] is not trajectory.frames[-1]:
        filtered = replace(filtered, properties={**trajectory.properties, END_REMOVED: 1.0})
    return filtered, removed


def _exceeds(label: np.ndarray | None, limit: float) -> bool:
    return label is not None and bool((np.abs(label) > limit).any())  # NaN > limit is False


def _has_lonely_atom(frame: Frame, distance: float) -> bool:
    if _is_shorter(frame.cell[frame.pbc], distance):
        return False  # every atom has its own image near by
    periods, _ = minkowski_reduce(frame.cell, frame.pbc)  # a skewed cell hides its shortest period
    if _is_shorter(periods[frame.pbc], distance):
        return False
    _, distances = get_distances(frame.positions, cell=frame.cell, pbc=frame.pbc)
    np.fill_diagonal(distances, np.inf)
    return bool((distances.min(axis=1) > distance).any())


def _is_shorter(vectors: np.ndarray, distance: float) -> bool:
    return bool((np.linalg.norm(vectors, axis=1) <= distance).any())
