"""Checks of structures and labels during a build; faults are reported by material id.

Faults that make a structure useless exclude the material (`check_structures`). Merely suspicious data are kept and
listed (`findings`): missing labels, forces that do not sum to zero or are absurdly large, energy jumps, and forces and
stresses that contradict the path's own energies. The last is a finite-difference check: between neighboring steps of
one DFT run, the energy changes by the work of forces and stress,

    dE = -sum_i F_i . (ds_i h) + V sigma : eps,      h' = h (1 + eps),

with F, sigma, V and h the means of the two steps (trapezoid rule) and ds the change of fractional coordinates. Where no
path can test the stress (single frames), its magnitude is checked.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from ase.geometry import complete_cell
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from mlip.data.records import Frame, MalformedError, Trajectory
from mlip.data.stacked import StackedFrames, column, energies_per_atom
from mlip.units import EV_PER_A3_IN_GPA, VOIGT

_FLATTEST = 0.1
"""Smallest singular value, A, that the periodic lattice vectors of a crystal may have."""

COINCIDENT = 0.01
"""Distance in A below which two atoms are one atom written twice; the shortest bond in nature has 0.74 A."""

_FEW_ATOMS = 48
"""Number of atoms up to which testing all pairs at once is faster than a search tree for each frame."""

NET_FORCE = 0.002
"""Largest net force, eV/A per atom. VASP removes the drift: none of 6,900 frames of MPtrj and of relaxations has more
than 0.00005."""

ENERGY_JUMP = 0.5
"""Largest energy change between neighboring steps of one run, eV/atom. One in a thousand of 3,300 steps of relaxations
exceeds it."""

ABSURD_FORCE = 50.0
"""Largest force component, eV/A: the largest that the paper's rules allow. Of 4,300 frames of relaxations two exceed
it, with 16,000 eV/A."""

ABSURD_STRESS = 50.0
"""Largest median stress, GPa: the lowest of the paper's limits. The median is 0.2 to 2 GPa over relaxations, 2 to 10
GPa over MD, and some 600 GPa for stresses in kB that are taken for eV/A^3."""

_LEAST_WORK = 0.002
"""Root mean square of a label's work along a path, eV/atom, below which rounding and k-points hide its sign."""

_LONGEST_MOVE = 0.5
"""Longest displacement of an atom in a step, A, for which the trapezoid rule holds."""

_LEAST_SHARE_NEAR = 0.75
"""Smallest fraction of a path's steps that must be near each other; with fewer, the frames are not a path."""

_MOST_OF_FORCES = 5.0
"""Ratio of the root mean squares of the forces' and the stress's work above which errors of the forces hide the stress:
it is 3 in relaxations, 13 in sets of displaced atoms."""

_SAME_CELL = 1e-6
"""Tolerance for equal cells, A."""

_CORRELATED = 0.9
"""Cosine of energy changes and a label's work below which something other than the label changes the energy."""

NO_ENERGY, NO_FORCES, NO_STRESS = "energy is missing", "forces are missing", "stress is missing"
UNBALANCED = f"forces do not sum to zero (> {NET_FORCE:g} eV/A an atom)"
JUMP = f"energy jumps by > {ENERGY_JUMP:g} eV/atom within a run"
LARGE_FORCE = f"force component > {ABSURD_FORCE:g} eV/A"
LARGE_STRESS = f"stress > {ABSURD_STRESS:g} GPa (median), far beyond relaxations: kB or GPa taken for eV/A^3?"
FORCES_WRONG_SIGN = "forces have the wrong sign against finite differences of the energy"
FORCES_WRONG_SIZE = "forces differ from finite differences of the energy more than fivefold"
WRONG_SIGN = "stress has the wrong sign against finite differences of the energy"
WRONG_SIZE = "stress differs from finite differences of the energy more than fivefold"


class Finding(NamedTuple):
    """Result of one check on the kept frames of one material."""

    check: str
    frames: int
    where: str
    """Name of the first or the worst of these frames."""
    value: float | None = None
    """Value of the worst frame, in the check's unit."""


def check_structures(frames: Sequence[Frame]) -> None:
    """Check that neighbor lists can be built for the structures.

    Raises:
        MalformedError: the periodic lattice vectors span no volume (area, length), or two atoms are at one place.
    """
    if not frames or frames[0].amounts is not None:  # a composition has no structure
        return
    if _are_alike(frames) and len(frames[0]) <= _FEW_ATOMS and not _any_fault(frames):
        return
    for frame in frames:
        check_structure(frame)


def check_structure(frame: Frame) -> None:
    """Check of `check_structures` for one frame."""
    where = frame.name
    if frame.pbc.any() and np.linalg.svd(frame.cell[frame.pbc], compute_uv=False).min() < _FLATTEST:
        raise MalformedError("bad cell", f"{where}: the periodic lattice vectors are linearly dependent")
    if pair := coincident_atoms(frame):
        raise MalformedError("atoms at the same place", f"{where}: atoms {pair[0]} and {pair[1]}")


def coincident_atoms(frame: Frame) -> tuple[int, int] | None:
    """Indices of the first two atoms closer than COINCIDENT, periodic images included; None if there are none.

    Candidates are found in fractional coordinates, where the periodic box is a cube and a length of COINCIDENT
    is at most COINCIDENT / (smallest singular value of the cell). Their distances are then computed in Cartesian ones.
    """
    periods = np.where(frame.pbc[:, None], frame.cell, 0.0)
    cell = complete_cell(periods)
    fractions = np.linalg.solve(cell.T, frame.positions.T).T
    fractions = np.where(frame.pbc, fractions % 1.0 % 1.0, fractions)  # twice: -1e-20 % 1 is 1, outside the box
    reach = 1.001 * COINCIDENT / np.linalg.svd(cell, compute_uv=False).min()  # 1.001: above rounding
    tree = cKDTree(fractions, boxsize=np.where(frame.pbc, 1.0, 0.0))
    pairs = tree.query_pairs(reach, output_type="ndarray")
    apart = fractions[pairs[:, 1]] - fractions[pairs[:, 0]]
    apart -= np.where(frame.pbc, np.round(apart), 0.0)
    coincide = np.linalg.norm(apart @ cell, axis=1) < COINCIDENT
    return min(map(tuple, pairs[coincide].tolist()), default=None)


def _are_alike(frames: Sequence[Frame]) -> bool:
    """Whether the frames have the same number of atoms and the same periodicity."""
    return isinstance(frames, StackedFrames) or len({(len(frame), frame.pbc.tobytes()) for frame in frames}) == 1


def _any_fault(frames: Sequence[Frame]) -> bool:
    """Whether any of the frames, alike in atoms and pbc, may be faulty. All are tested at once; errors are false
    alarms."""
    pbc = frames[0].pbc
    if not pbc.all():
        return True  # layers and wires go one by one: their cells need completing
    cells = column(frames, "cell")
    flattest = np.linalg.svd(cells, compute_uv=False).min(axis=1)
    if flattest.min() < _FLATTEST:
        return True
    fractions = column(frames, "positions") @ np.linalg.inv(cells)
    first, second = _pairs(fractions.shape[1])
    apart = fractions[:, second] - fractions[:, first]
    apart -= np.round(apart)
    return bool((np.abs(apart).max(axis=2) < 1.001 * COINCIDENT / flattest[:, None]).any())


@cache
def _pairs(n: int) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Index pairs of up to `_FEW_ATOMS` atoms."""
    return np.triu_indices(n, k=1)


def findings(read: Trajectory, kept: Trajectory) -> Iterator[Finding]:
    """Suspicious traits of a material; nothing is changed.

    Args:
        read: all steps of the material, of which neighboring energies are compared.
        kept: the steps that go to the store, whose labels are checked.
    """
    yield from _missing_labels(kept)
    yield from _unbalanced_forces(kept)
    yield from _absurd_forces(kept)
    yield from _energy_jumps(read)


def _missing_labels(kept: Trajectory) -> Iterator[Finding]:
    if isinstance(kept.frames, StackedFrames):
        return  # no label is missing
    for check, is_missing in (
        (NO_ENERGY, lambda frame: frame.energy != frame.energy),
        (NO_FORCES, lambda frame: frame.forces is None or math.isnan(frame.forces.sum())),
        (NO_STRESS, lambda frame: frame.stress is None or math.isnan(frame.stress.sum())),
    ):
        missing = [frame.name for frame in kept.frames if is_missing(frame)]
        if missing:
            yield Finding(check, len(missing), missing[0])


def _unbalanced_forces(kept: Trajectory) -> Iterator[Finding]:
    with_forces = _with_labels(kept.frames, "forces")
    if not with_forces:
        return
    if isinstance(with_forces, StackedFrames):
        net = np.abs(with_forces.forces.sum(axis=1)).max(axis=1) / len(with_forces.numbers)
    else:
        net = np.array([np.abs(frame.forces.sum(axis=0)).max() / len(frame) for frame in with_forces])
    yield from _above(net, NET_FORCE, UNBALANCED, with_forces)


def _absurd_forces(kept: Trajectory) -> Iterator[Finding]:
    with_forces = _with_labels(kept.frames, "forces")
    if len(with_forces):
        yield from _above(_largest(with_forces, "forces"), ABSURD_FORCE, LARGE_FORCE, with_forces)


def _largest(frames: Sequence[Frame], label: str) -> Float[np.ndarray, " k"]:
    """Magnitude of the largest component of each frame's label; 0 if all are NaN."""
    if isinstance(frames, StackedFrames):
        return np.abs(column(frames, label)).reshape(len(frames), -1).max(axis=1)
    return np.array([np.nan_to_num(np.abs(getattr(frame, label))).max() for frame in frames])


def _energy_jumps(read: Trajectory) -> Iterator[Finding]:
    runs = column(read.frames, "calculation")
    jumps = np.where(runs[1:] == runs[:-1], np.abs(np.diff(energies_per_atom(read.frames))), 0.0)
    yield from _above(jumps, ENERGY_JUMP, JUMP, read.frames[1:])


def _above(values: Float[np.ndarray, " k"], limit: float, check: str, frames: Sequence[Frame]) -> Iterator[Finding]:
    above = values > limit
    if above.any():
        worst = int(np.nanargmax(values))
        yield Finding(check, int(above.sum()), frames[worst].name, round(float(values[worst]), 6))


def finite_difference_findings(read: Trajectory) -> tuple[bool, bool, list[Finding]]:
    """Whether the path can test its forces, whether it can test its stresses, and the findings. Stresses that no path
    can test are suspicious if they are absurdly large."""
    of_forces = forces_against_energy(read)
    of_stress = stress_against_energy(read, 1.0 if of_forces is None else of_forces)
    found = [*_judged(of_forces, FORCES_WRONG_SIGN, FORCES_WRONG_SIZE, read)]
    found += _absurd_stress(read) if of_stress is None else _judged(of_stress, WRONG_SIGN, WRONG_SIZE, read)
    return of_forces is not None, of_stress is not None, found


def _judged(slope: float | None, wrong_sign: str, wrong_size: str, read: Trajectory) -> Iterator[Finding]:
    if slope is not None and not 1 / 5 < slope < 5:
        check = wrong_sign if slope < 0 else wrong_size
        yield Finding(check, len(read.frames), "the whole path", round(slope, 4))


def _absurd_stress(read: Trajectory) -> Iterator[Finding]:
    with_stress = _with_labels(read.frames, "stress")
    if not len(with_stress):
        return
    sizes = EV_PER_A3_IN_GPA * _largest(with_stress, "stress")
    if np.median(sizes) > ABSURD_STRESS:
        worst = int(np.argmax(sizes))
        yield Finding(LARGE_STRESS, len(with_stress), with_stress[worst].name, round(float(sizes[worst]), 3))


def forces_against_energy(read: Trajectory) -> float | None:
    """Slope of a path's energy changes against the work of its forces: 1 if they agree, -1 if the forces have the wrong
    sign; None if atoms move too little or too far, or if labels are missing.

    The part of the energy changes that follows the stress's work is projected out first, whatever the stress's sign.
    """
    frames = _with_labels(read.frames, "forces")
    if len(frames) < 3 or not _are_alike(frames):
        return None
    n_atoms = len(frames[0])
    of_cell = _work_of_cell(frames)
    if of_cell is None:
        return None
    work, moved = _work_of_forces(frames)
    if not (np.abs(work) >= _LEAST_WORK * n_atoms).any():
        return None  # then no choice of steps has that root mean square
    change = np.diff(column(frames, "energy"))
    is_step = _is_step(frames, change, moved) & np.isfinite(work) & np.isfinite(of_cell)
    change, work, of_cell = change[is_step], work[is_step], of_cell[is_step]
    if len(work) < 3:
        return None
    square = of_cell @ of_cell
    if square > 0:
        change, work = (values - (values @ of_cell) / square * of_cell for values in (change, work))
    return _slope(change, work, n_atoms)


def stress_against_energy(read: Trajectory, of_forces: float = 1.0) -> float | None:
    """Slope of a path's energy changes against the work of its stresses: 1 if they agree, -1 if the stress has the
    wrong sign; None if cells change too little, or if labels are missing.

    Steps of more than `ENERGY_JUMP` or `_LONGEST_MOVE` are left out, and so are frames that are not periodic along all
    three vectors.

    Args:
        of_forces: the same slope for the forces, whose work is subtracted first.
    """
    frames = _with_labels(read.frames, "forces", "stress")
    if len(frames) < 3 or not _are_alike(frames) or not frames[0].pbc.all():
        return None
    n_atoms = len(frames[0])
    work = _work_of_stress(frames)
    if not (np.abs(work) >= _LEAST_WORK * n_atoms).any():
        return None  # then no choice of steps has that root mean square
    of_atoms, moved = _work_of_forces(frames)
    rest = np.diff(column(frames, "energy")) - of_forces * of_atoms
    is_step = _is_step(frames, rest, moved) & np.isfinite(work)
    rest, work, of_atoms = rest[is_step], work[is_step], of_atoms[is_step]
    if of_atoms @ of_atoms > _MOST_OF_FORCES**2 * (work @ work):
        return None
    return _slope(rest, work, n_atoms)


def _is_step(
    frames: Sequence[Frame], change: Float[np.ndarray, " k-1"], moved: Float[np.ndarray, "k-1 n 3"]
) -> Bool[np.ndarray, " k-1"]:
    """Whether neighboring frames are of one run, near each other (A), and without an energy jump (eV) between them."""
    runs = column(frames, "calculation")
    is_near = np.linalg.norm(moved, axis=2).max(axis=1) < _LONGEST_MOVE
    if is_near.mean() < _LEAST_SHARE_NEAR:
        return np.zeros_like(is_near)
    return (runs[1:] == runs[:-1]) & (np.abs(change) < ENERGY_JUMP * len(frames[0])) & is_near


def _slope(change: Float[np.ndarray, " j"], work: Float[np.ndarray, " j"], n_atoms: int) -> float | None:
    """Slope of energy changes against work, both in eV; None if there is too little work, or if something else changes
    the energy."""
    if len(work) < 2 or np.sqrt(np.mean(work**2)) < _LEAST_WORK * n_atoms:
        return None
    both = float(change @ work)
    if abs(both) < _CORRELATED * np.sqrt((change @ change) * (work @ work)):
        return None
    return both / float(work @ work)


def _with_labels(frames: Sequence[Frame], *labels: str) -> Sequence[Frame]:
    """Frames that have all of the labels."""
    if isinstance(frames, StackedFrames):
        return frames
    return [frame for frame in frames if all(getattr(frame, label) is not None for label in labels)]


def _work_of_cell(frames: Sequence[Frame]) -> Float[np.ndarray, " k-1"] | None:
    """`_work_of_stress`, or 0 if the cell does not change; None if it changes and the work is not known."""
    cells = column(frames, "cell")
    if np.abs(cells - cells[0]).max() < _SAME_CELL:
        return np.zeros(len(frames) - 1)
    is_known = frames[0].pbc.all() and len(_with_labels(frames, "stress")) == len(frames)
    return _work_of_stress(frames) if is_known else None


def _work_of_stress(frames: Sequence[Frame]) -> Float[np.ndarray, " k-1"]:
    """Work of the stress between neighboring frames, eV."""
    cells = column(frames, "cell")
    cell = _means(cells)
    strain = np.linalg.inv(cell) @ np.diff(cells, axis=0)
    stress = _means(column(frames, "stress"))
    return np.abs(np.linalg.det(cell)) * np.einsum("kv,kv->k", stress, _voigt_strains(strain))


def _work_of_forces(frames: Sequence[Frame]) -> tuple[Float[np.ndarray, " k-1"], Float[np.ndarray, "k-1 n 3"]]:
    """Work of the forces between neighboring frames, eV, and displacements of the atoms relative to the cell, A."""
    cells, pbc = column(frames, "cell"), frames[0].pbc
    if not pbc.all():
        cells = np.array([complete_cell(np.where(pbc[:, None], cell, 0.0)) for cell in cells])
    fractions = column(frames, "positions") @ np.linalg.inv(cells)
    moved = np.diff(fractions, axis=0)
    moved = (moved - np.where(pbc, np.round(moved), 0.0)) @ _means(cells)
    return -np.einsum("kia,kia->k", _means(column(frames, "forces")), moved), moved


def _voigt_strains(strain: Float[np.ndarray, "k 3 3"]) -> Float[np.ndarray, "k 6"]:
    """Strains conjugate to Voigt stresses: off-diagonal components are doubled."""
    symmetric = strain + strain.transpose(0, 2, 1)
    i, j = np.array(VOIGT).T
    return symmetric[:, i, j] * np.where(i == j, 0.5, 1.0)


def _means(values: Float[np.ndarray, "k ..."]) -> Float[np.ndarray, "j ..."]:
    """Means of neighboring rows, for the trapezoid rule."""
    return (values[1:] + values[:-1]) / 2
