"""Outlier rules: frames that are useless for a potential are removed, and counted by rule.

Rules of frames are those of "Improving machine-learning models in materials science through large datasets", sec. 2.4.
Rules of paths compare a step with the others of its path, before any subsampling: ALEXANDRIA's files hold steps far
above the end, whose electronic minimization failed, and restarts with other settings, whose energies differ for the
same geometry. A missing label breaks no rule.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase.geometry import get_distances, minkowski_reduce
from jaxtyping import Bool

from mlip.data.records import Frame, Trajectory
from mlip.data.schema import END_REMOVED
from mlip.data.stacked import StackedFrames, chosen, column, energies_per_atom
from mlip.errors import MlipError
from mlip.units import kilobar_to_ev_per_a3


@dataclass(frozen=True, slots=True)
class Rule:
    """Rule that removes the frames for which `is_outlier` holds; each frame is judged by itself."""

    name: str
    is_outlier: Callable[[Sequence[Frame]], Bool[np.ndarray, " k"]]


@dataclass(frozen=True, slots=True)
class PathRule:
    """Rule that removes the steps of a path for which `is_outlier` holds, before the path is subsampled."""

    name: str
    is_outlier: Callable[[Trajectory], Bool[np.ndarray, " k"]]


def step_above_end(limit: float) -> PathRule:
    """Rule for steps more than `limit` eV/atom above the path's last step."""

    def is_above(path: Trajectory) -> Bool[np.ndarray, " k"]:
        energies = energies_per_atom(path.frames)
        return energies - energies[-1] > limit

    return PathRule(f"step > {limit:g} eV/atom above the path's end", is_above)


def run_before_jump(limit: float) -> PathRule:
    """Rule for all runs before an energy jump of more than `limit` eV/atom between a run's last step and the first step
    of the next run, which starts from its geometry."""

    def is_before(path: Trajectory) -> Bool[np.ndarray, " k"]:
        runs = column(path.frames, "calculation")
        is_jump = (runs[1:] != runs[:-1]) & (np.abs(np.diff(energies_per_atom(path.frames))) > limit)
        last = np.flatnonzero(is_jump).max(initial=-1)
        return np.arange(len(runs)) <= last

    return PathRule(f"run before an energy jump > {limit:g} eV/atom at a restart", is_before)


def more_sites_than(limit: int) -> Rule:
    return Rule(f"more than {limit} sites", lambda frames: np.array([len(frame) > limit for frame in frames]))


def atom_without_neighbor_within(distance: float) -> Rule:
    """Rule for atoms without a neighbor within `distance` A; an atom's own periodic images count as neighbors."""
    return Rule(
        f"atom without a neighbor within {distance:g} A",
        lambda frames: np.array([_has_lonely_atom(frame, distance) for frame in frames]),
    )


def energy_above(limit: float) -> Rule:
    """Rule for energies above `limit`, eV/atom."""
    return Rule(f"energy > {limit:g} eV/atom", lambda frames: energies_per_atom(frames) > limit)


def energy_below(limit: float) -> Rule:
    """Rule for energies below `limit`, eV/atom."""
    return Rule(f"energy < {limit:g} eV/atom", lambda frames: energies_per_atom(frames) < limit)


def force_above(limit: float) -> Rule:
    """Rule for frames whose largest force component exceeds `limit`, eV/A."""
    return Rule(f"force component > {limit:g} eV/A", lambda frames: _exceeds(frames, "forces", limit))


def stress_above(kilobar: float) -> Rule:
    """Rule for frames whose largest stress component exceeds `kilobar`, kB."""
    limit = kilobar_to_ev_per_a3(kilobar)
    return Rule(f"stress component > {kilobar:g} kbar", lambda frames: _exceeds(frames, "stress", limit))


RULE_SETS: dict[str, tuple[Rule | PathRule, ...]] = {
    "2d": (
        more_sites_than(20),
        atom_without_neighbor_within(6.0),
        energy_above(0.0),
        energy_below(-20.0),
        force_above(20.0),
        stress_above(500.0),
    ),
    "pbesol": (energy_above(0.0), force_above(50.0), stress_above(800.0)),
    "path": (run_before_jump(0.05), step_above_end(1.0)),
    "none": (),
}
"""Sets of rules by name: the paper's filters for its 2D and its PBEsol data; the rules of paths (restarts of real
relaxations jump by at most 0.012 eV/atom; LeMaterial's reader, too, drops steps 1 eV/atom above the end); no rule."""


def rules_named(names: str) -> tuple[Rule | PathRule, ...]:
    """Rules of the named sets; names are separated by commas.

    Raises:
        MlipError: there is no set of such a name.
    """
    for name in names.split(","):
        if name not in RULE_SETS:
            raise MlipError(f"unknown outlier rules {name!r}", fix=f"one or several of {', '.join(RULE_SETS)}")
    return tuple(rule for name in names.split(",") for rule in RULE_SETS[name])


def remove_path_outliers(trajectory: Trajectory, rules: tuple[Rule | PathRule, ...]) -> tuple[Trajectory, Counter[str]]:
    """Path without the steps that path rules remove, and the number that each rule removed; the last step always
    stays."""
    removed: Counter[str] = Counter()
    for rule in rules:
        if isinstance(rule, PathRule) and (is_outlier := rule.is_outlier(trajectory)).any():
            removed[rule.name] += int(is_outlier.sum())
            trajectory = replace(trajectory, frames=chosen(trajectory.frames, np.flatnonzero(~is_outlier)))
    return trajectory, removed


def remove_outliers(trajectory: Trajectory, rules: tuple[Rule | PathRule, ...]) -> tuple[Trajectory, Counter[str]]:
    """Trajectory without the outliers that frame rules find, and the number that each rule removed. The trajectory may
    have no frame left.

    A frame counts for the first rule that it breaks, so that the counts add up to the frames removed. A path that
    lost its last frame, the relaxed one, but not all, has the property `END_REMOVED`: its last frame is no longer the
    relaxed structure.
    """
    frames, removed = trajectory.frames, Counter()
    keeps_end = True
    for rule in rules:
        if isinstance(rule, Rule) and frames and (is_outlier := rule.is_outlier(frames)).any():
            removed[rule.name] += int(is_outlier.sum())
            keeps_end = keeps_end and not is_outlier[-1]
            frames = chosen(frames, np.flatnonzero(~is_outlier))
    if not removed:
        return trajectory, removed
    filtered = replace(trajectory, frames=frames)
    if frames and not keeps_end:
        filtered = replace(filtered, properties={**trajectory.properties, END_REMOVED: 1.0})
    return filtered, removed


def _exceeds(frames: Sequence[Frame], label: str, limit: float) -> Bool[np.ndarray, " k"]:
    """Whether any component of each frame's label exceeds the limit in magnitude; missing ones (NaN) do not."""
    if isinstance(frames, StackedFrames):
        return (np.abs(column(frames, label)) > limit).reshape(len(frames), -1).any(axis=1)
    labels = [getattr(frame, label) for frame in frames]
    return np.array([label is not None and (np.abs(label) > limit).any() for label in labels])


def _has_lonely_atom(frame: Frame, distance: float) -> bool:
    if frame.amounts is not None:
        return False  # a composition without structure
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
