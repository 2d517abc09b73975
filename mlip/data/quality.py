"""What may be wrong with a structure or its labels: found at the build, and reported by id.

Faults that make a structure useless refuse the material (`check_structures`). What is merely suspicious is kept and
listed (`findings`): labels that are missing, forces that do not sum to zero, energies that jump, and stresses that
contradict the path's own energies. The last is a finite-difference check: between neighbouring steps of one DFT run
the energy changes by the work of forces and stress,

    dE = -sum_i F_i . (ds_i h) + V sigma : eps,      h' = h (1 + eps),

with F, sigma, V and h the means of the two steps (trapezoid rule) and ds the change of fractional coordinates.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from ase.geometry import complete_cell
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from mlip.data.records import Frame, MalformedError, Trajectory
from mlip.data.stacked import StackedFrames, column, energies_per_atom
from mlip.units import VOIGT

_FLATTEST = 0.1
"""A; the smallest singular value that the periodic lattice vectors of a crystal may have."""

COINCIDENT = 0.01
"""Two atoms closer than this, A, are one atom written twice: the shortest bond of nature has 0.74 A."""

_FEW_ATOMS = 48
"""Up to here all pairs at once are faster than a search tree a frame."""

NET_FORCE = 0.002
"""eV/A an atom. VASP removes the drift: of 6,900 frames of MPtrj and of relaxations none has more than 0.00005."""

ENERGY_JUMP = 0.5
"""eV/atom between neighbouring steps of one run. Of 3,300 steps of relaxations one in a thousand has more."""

_LEAST_WORK = 0.002
"""eV/atom; root mean square of the stress's work along a path, below which rounding and k-points hide its sign."""

_CORRELATED = 0.9
"""Of energy changes and the stress's work (cosine); below, something else than the stress moves the energy."""

NO_ENERGY, NO_FORCES, NO_STRESS = "energy is missing", "forces are missing", "stress is missing"
UNBALANCED = f"forces do not sum to zero (> {NET_FORCE:g} eV/A an atom)"
JUMP = f"energy jumps by > {ENERGY_JUMP:g} eV/atom within a run"
WRONG_SIGN = "stress has the wrong sign against finite differences of the energy"
WRONG_SIZE = "stress differs from finite differences of the energy more than fivefold"


class Finding(NamedTuple):
    """What one check found in the kept frames of one material."""

    check: str
    frames: int
    where: str
    """The first of the frames, or the worst."""
    value: float | None = None
    """Of the worst frame, in the check's unit."""


def check_structures(frames: Sequence[Frame]) -> None:
    """Refuse structures that no neighbour list can be made of.

    Raises:
        MalformedError: periodic lattice vectors that span no volume (area, length), or two atoms at one place.
    """
    if not frames:
        return
    if _are_alike(frames) and len(frames[0]) <= _FEW_ATOMS and not _any_fault(frames):
        return
    for frame in frames:
        check_structure(frame)


def check_structure(frame: Frame) -> None:
    """The same of one frame."""
    where = frame.name
    if frame.pbc.any() and np.linalg.svd(frame.cell[frame.pbc], compute_uv=False).min() < _FLATTEST:
        raise MalformedError("bad cell", f"{where}: the periodic lattice vectors are linearly dependent")
    if pair := coincident_atoms(frame):
        raise MalformedError("atoms at the same place", f"{where}: atoms {pair[0]} and {pair[1]}")


def coincident_atoms(frame: Frame) -> tuple[int, int] | None:
    """The first two atoms (indices) closer than COINCIDENT, one of them perhaps as a periodic image.

    Candidates are found in fractional coordinates, where the periodic box is a cube and a length of COINCIDENT
    is at most COINCIDENT / (smallest singular value of the cell); distances are then Cartesian.
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
    """Whether they have the same number of atoms, and the same periodicity."""
    return isinstance(frames, StackedFrames) or len({(len(frame), frame.pbc.tobytes()) for frame in frames}) == 1


def _any_fault(frames: Sequence[Frame]) -> bool:
    """Whether any of the frames, alike in atoms and pbc, may be faulty: all at once, and on the safe side."""
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
    """Of up to `_FEW_ATOMS` atoms."""
    return np.triu_indices(n, k=1)


def findings(read: Trajectory, kept: Trajectory) -> Iterator[Finding]:
    """What is suspicious about a material. Nothing is changed.

    Args:
        read: all its steps: energies are compared between neighbours.
        kept: those that go to the store: labels are looked for in these.
    """
    yield from _missing_labels(kept)
    yield from _unbalanced_forces(kept)
    yield from _energy_jumps(read)


def _missing_labels(kept: Trajectory) -> Iterator[Finding]:
    if isinstance(kept.frames, StackedFrames):
        return  # has them all
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


def _energy_jumps(read: Trajectory) -> Iterator[Finding]:
    runs = column(read.frames, "calculation")
    jumps = np.where(runs[1:] == runs[:-1], np.abs(np.diff(energies_per_atom(read.frames))), 0.0)
    yield from _above(jumps, ENERGY_JUMP, JUMP, read.frames[1:])


def _above(values: Float[np.ndarray, " k"], limit: float, check: str, frames: Sequence[Frame]) -> Iterator[Finding]:
    above = values > limit
    if above.any():
        worst = int(np.nanargmax(values))
        yield Finding(check, int(above.sum()), frames[worst].name, round(float(values[worst]), 6))


def stress_findings(read: Trajectory) -> tuple[bool, list[Finding]]:
    """Whether the path could tell, and what it tells of its stresses."""
    slope = stress_against_energy(read)
    if slope is None:
        return False, []
    if 1 / 5 < slope < 5:
        return True, []
    check = WRONG_SIGN if slope < 0 else WRONG_SIZE
    return True, [Finding(check, len(read.frames), "the whole path", round(slope, 4))]


def stress_against_energy(read: Trajectory) -> float | None:
    """Slope of a path's energy changes against the work of its stresses: 1 where they agree, -1 where the stress
    has the wrong sign; None where cells change too little, or labels are missing, to tell.

    Steps of more than `ENERGY_JUMP` are left out, and frames that are not periodic along all three vectors.
    """
    frames = _with_labels(read.frames, "forces", "stress")
    if len(frames) < 3 or not _are_alike(frames) or not frames[0].pbc.all():
        return None
    n_atoms = len(frames[0])
    work = _work_of_stress(frames)
    if not (np.abs(work) >= _LEAST_WORK * n_atoms).any():
        return None  # nor is the root mean square of any of the steps
    rest = np.diff(column(frames, "energy")) - _work_of_forces(frames)
    runs = column(frames, "calculation")
    is_step = (runs[1:] == runs[:-1]) & (np.abs(rest) < ENERGY_JUMP * n_atoms) & np.isfinite(work)
    rest, work = rest[is_step], work[is_step]
    if len(work) < 2 or np.sqrt(np.mean(work**2)) < _LEAST_WORK * n_atoms:
        return None
    both = float(rest @ work)
    if abs(both) < _CORRELATED * np.sqrt((rest @ rest) * (work @ work)):
        return None
    return both / float(work @ work)


def _with_labels(frames: Sequence[Frame], *labels: str) -> Sequence[Frame]:
    """Those that have the labels."""
    if isinstance(frames, StackedFrames):
        return frames
    return [frame for frame in frames if all(getattr(frame, label) is not None for label in labels)]


def _work_of_stress(frames: Sequence[Frame]) -> Float[np.ndarray, " k-1"]:
    """Between neighbours, eV."""
    cells = column(frames, "cell")
    cell = _means(cells)
    strain = np.linalg.inv(cell) @ np.diff(cells, axis=0)
    stress = _means(column(frames, "stress"))
    return np.abs(np.linalg.det(cell)) * np.einsum("kv,kv->k", stress, _voigt_strains(strain))


def _work_of_forces(frames: Sequence[Frame]) -> Float[np.ndarray, " k-1"]:
    """Between neighbours, eV."""
    cells = column(frames, "cell")
    fractions = column(frames, "positions") @ np.linalg.inv(cells)
    moved = np.diff(fractions, axis=0)
    moved -= np.round(moved)
    return -np.einsum("kia,kia->k", _means(column(frames, "forces")), moved @ _means(cells))


def _voigt_strains(strain: Float[np.ndarray, "k 3 3"]) -> Float[np.ndarray, "k 6"]:
    """What Voigt stresses do work on: off-diagonal strains twice."""
    symmetric = strain + strain.transpose(0, 2, 1)
    i, j = np.array(VOIGT).T
    return symmetric[:, i, j] * np.where(i == j, 0.5, 1.0)


def _means(values: Float[np.ndarray, "k ..."]) -> Float[np.ndarray, "j ..."]:
    """Of neighbours: the trapezoid rule."""
    return (values[1:] + values[:-1]) / 2
