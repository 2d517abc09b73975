"""Structures that no neighbour list can be made of, and labels that cannot be right."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from mlip.data.quality import (
    COINCIDENT,
    ENERGY_JUMP,
    JUMP,
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
    stress_against_energy,
    stress_findings,
)
from mlip.data.records import Frame, MalformedError, Skipped, Trajectory
from mlip.data.sources import read_source


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
    can_tell, found = stress_findings(copper_path(factor))
    assert can_tell
    assert [finding.check for finding in found] == ([] if check is None else [check])


def test_a_path_at_one_volume_tells_nothing_of_its_stress():
    path = copper_path()
    still = replace(path, frames=[replace(frame, cell=path.frames[0].cell) for frame in path.frames])
    assert stress_findings(still) == (False, [])


def test_no_real_relaxation_has_a_stress_of_wrong_sign(shared):
    paths = read_source(shared / "data" / "trajectories" / "pbe_relaxations.extxyz.gz")
    results = [stress_findings(path) for path in paths if not isinstance(path, Skipped)]
    assert sum(can_tell for can_tell, _ in results) >= 10
    assert not any(found for _, found in results)


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
