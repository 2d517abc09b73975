"""Where atoms are in space is no matter: only float32 knows how far from the origin they stand."""

import ase.build
import numpy as np
import pytest
from ase import Atoms

import mlip
from mlip.data import Frame
from mlip.graph.near import FARTHEST, near_origin
from mlip.graph.radius_graph import crystal_graph
from tests.relaxation.morse import morse_potential

FAR = (-7_000.3, 50.0, 123_456.7)


@pytest.fixture(scope="module")
def potential():
    return morse_potential()


def rattled(pbc) -> Atoms:
    atoms = ase.build.bulk("NaCl", "rocksalt", a=5.6) * (2, 1, 1)
    atoms.rattle(0.2, seed=1)
    atoms.pbc = pbc
    return atoms


def lengths(structure) -> np.ndarray:
    graph = crystal_graph(structure, 5.0, dtype=np.float64)
    x, cell = graph.nodes["positions"], graph.globals["cell"][0]
    return np.linalg.norm(x[graph.senders] - x[graph.receivers] + graph.edges["shifts"] @ cell, axis=1)


def moved(atoms: Atoms) -> list[Atoms]:
    """Copies that are the same to physics: atoms together anywhere, and one of them by whole cells along what is
    periodic."""
    copies = []
    for distance in FAR:
        together, one = atoms.copy(), atoms.copy()
        together.positions += distance
        one.positions[1] += np.where(atoms.pbc, np.array([round(distance / 4), -3, 2]), 0) @ atoms.cell.array
        copies += [together, one]
    return copies


@pytest.mark.parametrize("pbc", [True, (True, True, False), (False, True, False), False])
def test_far_atoms_have_the_bonds_of_near_ones(pbc):
    atoms = rattled(pbc)
    for far in moved(atoms):
        before = far.copy()
        near = near_origin(far)
        assert np.abs(near.positions).max() < FARTHEST
        np.testing.assert_allclose(np.sort(lengths(near)), np.sort(lengths(atoms)), atol=1e-9)
        assert far == before


@pytest.mark.parametrize("pbc", [True, (True, True, False), False])
def test_predictions_and_calculators_do_not_depend_on_where_the_atoms_are(potential, pbc):
    atoms = rattled(pbc)
    exact = potential.predict(atoms, dtype="float64")[0]["forces"]
    noise = max(np.abs(potential.predict(atoms)[0]["forces"] - exact).max(), 1e-6)
    for far in moved(atoms):
        assert np.abs(potential.predict(far)[0]["forces"] - exact).max() < 10 * noise
        far.calc = mlip.MLIPCalculator(potential)
        assert np.abs(far.get_forces() - exact).max() < 10 * noise


def test_atoms_that_drift_together_stay_exact_without_a_new_neighbor_list(potential):
    atoms = rattled(True)
    atoms.calc = mlip.MLIPCalculator(potential)
    forces = atoms.get_forces()
    for _ in range(3):
        atoms.positions += 3_000.1
        np.testing.assert_allclose(atoms.get_forces(), forces, atol=2e-5)
    assert atoms.calc.n_rebuilds == 1


def test_a_far_crystal_under_strain_keeps_its_neighbors(potential):
    """Lattice vectors that were taken off with the list are those of today's cell."""
    atoms = rattled(True)
    atoms.positions[2] += 400 * atoms.cell.array[0]
    atoms.calc = mlip.MLIPCalculator(potential, dtype="float64")
    atoms.get_forces()
    atoms.set_cell(atoms.cell.array * 1.004, scale_atoms=True)
    fresh = potential.predict(atoms, dtype="float64")[0]
    np.testing.assert_allclose(atoms.get_forces(), fresh["forces"], atol=1e-9)
    np.testing.assert_allclose(atoms.get_stress(), fresh["stress"], atol=1e-12)


def test_labels_stay_with_a_frame_that_is_moved():
    atoms = rattled(True)
    frame = Frame(
        atoms.numbers, atoms.positions + 1e4, atoms.cell.array, atoms.pbc, energy=-3.0, forces=atoms.positions
    )
    near = near_origin(frame)
    assert near.energy == -3.0
    assert near.forces is frame.forces


def test_near_atoms_stay_where_they_are():
    atoms = rattled(True)
    assert near_origin(atoms) is atoms
