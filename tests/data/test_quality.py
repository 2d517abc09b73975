"""Structures that no neighbor list can be made of, and labels that cannot be right."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mlip.data.quality import (
    COINCIDENT,
    ENERGY_JUMP,
    FORCES_WRONG_SIGN,
    FORCES_WRONG_SIZE,
    JUMP,
    LARGE_FORCE,
    LARGE_STRESS,
    NO_ENERGY,
    NO_FORCES,
    NO_STRESS,
    UNBALANCED,
    WRONG_SIGN,
    WRONG_SIZE,
    check_structure,
    check_structures,
    coincident_atoms,
    findings,
    finite_difference_findings,
    forces_against_energy,
    stress_against_energy,
)
from mlip.data.readers.sources import read_source
from mlip.data.records import Frame, MalformedError, Skipped, Trajectory


def carbon(positions, cell=(9.0, 8.0, 7.0), pbc=(True, True, True)) -> Frame:
    positions = np.array(positions, dtype=float)
    cell = np.diag(cell) if np.ndim(cell) == 1 else np.array(cell, dtype=float)
    return Frame(np.full(len(positions), 6, np.int16), positions, cell, np.array(pbc))


@pytest.mark.parametrize(
    ("frame", "pair"),
    [
        (carbon([[0, 0, 0], [1.4, 0, 0]]), None),
        (carbon([[1, 2, 3], [0, 0, 0], [1, 2, 3]]), (0, 2)),
        (carbon([[0, 0, 0], [9, -8, 14]]), (0, 1)),
        (carbon([[-1e-20, 0, 0], [0, 0, 0]]), (0, 1)),
        (carbon([[0, 0, 0], [9, 0, 0]], pbc=(False, True, True)), None),
        (carbon([[0, 0, 0], [9, 0, 0]], cell=(0, 0, 0), pbc=(False, False, False)), None),
        (carbon([[5, 5, 5], [5, 5, 5]], cell=(0, 0, 0), pbc=(False, False, False)), (0, 1)),
        (carbon([[0, 0, 0], [0, 0, 7]], cell=(9, 8, 0), pbc=(True, True, False)), None),
        (carbon([[0, 0, 0], [-5, 3, 0]], cell=[[5, 0, 0], [0, 3, 0], [1, 1, -6]]), (0, 1)),  # left-handed
    ],
)
def test_atoms_at_one_place_are_found_under_periodicity(frame, pair):
    assert coincident_atoms(frame) == pair


@pytest.mark.parametrize("cell", [np.eye(3) * 3, np.eye(3) * 100, [[10.0, 0, 0], [9.2, 3.9, 0], [9.2, 1.9, 0.5]]])
@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 0, 1), (-0.6, 0, 0.8)])
def test_a_hundredth_of_an_angstrom_is_one_place_in_every_cell(cell, direction):
    image = np.array([1.0, -2.0, 3.0]) @ cell
    for length, pair in ((0.99 * COINCIDENT, (0, 1)), (1.01 * COINCIDENT, None)):
        assert coincident_atoms(carbon([[0, 0, 0], image + length * np.array(direction)], cell)) == pair


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        ((9.0, 8.0, 0.0), (True, True, True)),
        ([[5, 0, 0], [10, 0, 0], [0, 0, 5]], (True, True, False)),
        ((0.01, 8.0, 7.0), (True, False, False)),
    ],
)
def test_lattice_vectors_that_span_nothing_are_refused(cell, pbc):
    with pytest.raises(MalformedError, match="linearly dependent"):
        check_structure(carbon([[0, 0, 0]], cell, pbc))


def test_a_strongly_skewed_cell_is_a_cell():
    check_structure(carbon([[0, 0, 0]], [[10.0, 0.0, 0.0], [9.2, 3.9, 0.0], [9.2, 1.9, 3.4]]))


def copper_path(stress_factor=1.0, energy_jump=0.0) -> Trajectory:
    """Copper compressed and sheared step by step; EMT's energies, forces and stresses, the stresses multiplied."""
    frames = []
    for k in range(6):
        atoms = bulk("Cu", cubic=True)
        shear = np.array([[0.0, 0.01, 0.0], [0.0, 0.0, 0.0], [0.0, -0.02, 0.0]])
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) * (1 - 0.01 * k) + k * shear), scale_atoms=True)
        atoms.rattle(0.02, seed=k)
        atoms.calc = EMT()
        frames.append(
            Frame(
                atoms.numbers.astype(np.int16),
                atoms.positions,
                atoms.cell.array,
                atoms.pbc,
                energy=atoms.get_potential_energy() + energy_jump * len(atoms) * (k >= 3),
                forces=atoms.get_forces(),
                stress=atoms.get_stress() * stress_factor,
                ionic_step=k,
            )
        )
    return Trajectory("Cu", frames, "EMT", 3)


def test_stress_agrees_with_finite_differences_of_the_energy():
    assert stress_against_energy(copper_path()) == pytest.approx(1.0, abs=0.05)  # trapezoids over steps of 1 %


@pytest.mark.parametrize(
    ("factor", "check"), [(1.0, None), (-1.0, WRONG_SIGN), (160.2, WRONG_SIZE), (0.1, WRONG_SIZE), (-10.0, WRONG_SIGN)]
)
def test_a_stress_of_wrong_sign_or_unit_is_found(factor, check):
    _, can_tell, found = finite_difference_findings(copper_path(factor))
    assert can_tell
    assert [finding.check for finding in found] == ([] if check is None else [check])


def test_a_path_at_one_volume_tells_nothing_of_its_stress():
    path = copper_path()
    still = replace(path, frames=[replace(frame, cell=path.frames[0].cell) for frame in path.frames])
    _, can_tell, found = finite_difference_findings(still)
    assert (can_tell, found) == (False, [])


def rattled_path(force_factor=1.0, stress_factor=1.0, strain=0.0, pbc=True) -> Trajectory:
    """Copper whose atoms swing, in a cell that stays or changes a little."""
    frames = []
    start = bulk("Cu", cubic=True) * (2, 1, 1)
    shift = np.random.default_rng(3).normal(0, 0.2, (len(start), 3))
    for k in range(7):
        atoms = start.copy()
        atoms.set_cell(atoms.cell[:] * (1 + strain * np.sin(k)), scale_atoms=True)
        atoms.positions += np.cos(0.6 * k) * shift
        atoms.pbc = pbc
        atoms.calc = EMT()
        frames.append(
            Frame(
                atoms.numbers.astype(np.int16),
                atoms.positions,
                atoms.cell.array,
                atoms.pbc,
                energy=atoms.get_potential_energy(),
                forces=force_factor * atoms.get_forces(),
                stress=stress_factor * atoms.get_stress() if all(atoms.pbc) else None,
                ionic_step=k,
            )
        )
    return Trajectory("Cu", frames, "EMT", 3)


@pytest.mark.parametrize(
    ("factor", "check"),
    [(1.0, None), (-1.0, FORCES_WRONG_SIGN), (51.4, FORCES_WRONG_SIZE), (0.043, FORCES_WRONG_SIZE)],
)
@pytest.mark.parametrize("path", [{}, {"strain": 0.01}, {"strain": 0.01, "stress_factor": -1.0}, {"pbc": (1, 1, 0)}])
def test_forces_of_wrong_sign_or_unit_are_found_whatever_the_stress(path, factor, check):
    can_tell, _, found = finite_difference_findings(rattled_path(factor, **path))
    assert can_tell
    assert [finding.check for finding in found if "forces" in finding.check] == ([] if check is None else [check])


def test_a_stress_of_wrong_sign_is_found_beside_forces_of_wrong_sign():
    _, _, found = finite_difference_findings(rattled_path(-1.0, -1.0, strain=0.03))
    assert [finding.check for finding in found] == [FORCES_WRONG_SIGN, WRONG_SIGN]


def test_structures_that_are_no_steps_of_one_another_tell_nothing_of_their_forces():
    path = rattled_path(-1.0)
    far = [replace(f, positions=f.positions + k * np.eye(len(f), 3)) for k, f in enumerate(path.frames)]
    assert forces_against_energy(replace(path, frames=far)) is None


def test_real_relaxations_contradict_neither_their_forces_nor_their_stress(shared):
    paths = read_source(shared / "data" / "trajectories" / "pbe_relaxations.extxyz.gz")
    results = [finite_difference_findings(path) for path in paths if not isinstance(path, Skipped)]
    assert sum(of_forces for of_forces, _, _ in results) >= 15
    assert sum(of_stress for _, of_stress, _ in results) >= 10
    assert not any(found for _, _, found in results)


def test_real_relaxations_whose_forces_are_turned_around_are_found(shared):
    paths = read_source(shared / "data" / "lowdim" / "pbe_2d_relaxations_mech2d.extxyz.gz")
    n_found = n_told = 0
    for path in paths:
        turned = replace(path, frames=[replace(frame, forces=-frame.forces) for frame in path.frames])
        tells, _, found = finite_difference_findings(turned)
        n_told += tells
        n_found += FORCES_WRONG_SIGN in [finding.check for finding in found]
    assert n_found == n_told >= 20


@pytest.mark.parametrize(("gigapascal", "n"), [(9.0, 0), (-600.0, 1)])
def test_stresses_of_single_frames_are_suspicious_if_they_are_absurd(gigapascal, n):
    frame = replace(rattled_path().frames[0], stress=np.array([gigapascal / 160.21766, 0, 0, 0, 0, 0]))
    _, _, found = finite_difference_findings(Trajectory("x", [frame], "PBE", 3))
    assert [finding.check for finding in found] == n * [LARGE_STRESS]


def test_a_force_beyond_all_relaxations_is_found_with_its_size():
    frames = list(rattled_path().frames)
    frames[3] = replace(frames[3], forces=1e5 * np.array([[1, 1, 1], [-1, -1, -1]] * 4))
    path = Trajectory("x", frames, "PBE", 3)
    (found,) = findings(path, path)
    assert (found.check, found.frames, found.where, found.value) == (LARGE_FORCE, 1, "run 0 step 3", 1e5)


def test_an_energy_that_jumps_within_a_run_is_found_where_it_does():
    (found,) = findings(jumping := copper_path(energy_jump=2 * ENERGY_JUMP), jumping)
    assert (found.check, found.frames, found.where) == (JUMP, 1, "run 0 step 3")
    assert found.value == pytest.approx(2 * ENERGY_JUMP, rel=0.2)


def test_forces_that_do_not_sum_to_zero_are_found():
    path = copper_path()
    pushed = replace(path.frames[4], forces=path.frames[4].forces + np.array([0.0, 0.01, 0.0]))
    (found,) = findings(path, replace(path, frames=[*path.frames[:4], pushed]))
    assert (found.check, found.frames, found.where) == (UNBALANCED, 1, "run 0 step 4")
    assert found.value == pytest.approx(0.01, rel=1e-3)


def test_missing_labels_are_counted():
    path = copper_path()
    bare = replace(path.frames[2], energy=float("nan"), forces=None, stress=None)
    partly = replace(path.frames[3], forces=np.full((4, 3), np.nan))
    found = {f.check: (f.frames, f.where) for f in findings(path, replace(path, frames=[path.frames[0], bare, partly]))}
    assert found == {
        NO_ENERGY: (1, "run 0 step 2"),
        NO_FORCES: (2, "run 0 step 2"),
        NO_STRESS: (1, "run 0 step 2"),
    }


@pytest.mark.parametrize("n_before", [0, 3])
def test_a_fault_in_any_frame_of_a_path_refuses_it_and_names_the_frame(n_before):
    sound = carbon([[0, 0, 0], [1.4, 0, 0]])
    twin = replace(carbon([[0, 0, 0], [9, 8, -7.003]]), calculation=1, ionic_step=5)
    with pytest.raises(MalformedError, match="run 1 step 5: atoms 0 and 1"):
        check_structures([sound] * n_before + [twin, sound])
    flat = replace(carbon([[0, 0, 0], [1.4, 0, 0]], cell=(9, 8, 0.01)), ionic_step=2)
    with pytest.raises(MalformedError, match="step 2: the periodic"):
        check_structures([sound] * n_before + [flat])
    check_structures([sound] * 4)
