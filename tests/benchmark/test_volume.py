"""Effective volumes of hand-made slabs and wires: any axis, any image, vacuum or open directions."""

import numpy as np
import pytest

from mlip.benchmark.volume import ATOM_THICKNESS, effective_volume
from mlip.data.low_dimensional import crystal_directions
from mlip.errors import MlipError

PERIODIC = np.ones(3, dtype=bool)
SLAB_HEIGHTS = np.array([0.0, 1.5, 4.0])  # extent 4 A


def slab(axis: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Atoms at SLAB_HEIGHTS along `axis` of a 3 x 5 x 20 A cell, its 20 A along that axis."""
    cell = np.diag(np.roll([20.0, 3.0, 5.0], axis))
    positions = np.zeros((3, 3))
    positions[:, axis] = SLAB_HEIGHTS + shift
    return positions, cell


def volume(positions, cell, dimensionality, pbc=PERIODIC) -> float:
    return effective_volume(positions, cell, pbc, crystal_directions(pbc, dimensionality))


def test_a_crystals_volume_is_its_cells_whatever_the_hand():
    cell = np.array([[0, 2, 0], [3, 0, 0], [0, 0, 4.0]])
    assert np.linalg.det(cell) < 0
    assert volume(np.zeros((1, 3)), cell, 3) == pytest.approx(24)


@pytest.mark.parametrize("shift", [0.0, 7.3, 18.0, -31.0])
def test_a_slab_is_its_area_times_extent_and_an_atom_wherever_it_is_in_the_cell(shift):
    positions, cell = slab(2, shift)
    expected = 15 * (4 + ATOM_THICKNESS)
    assert volume(positions, cell, 2) == pytest.approx(expected)
    wrapped = positions.copy()
    wrapped[:, 2] %= 20.0  # across the boundary for some shifts
    assert volume(wrapped, cell, 2) == pytest.approx(expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_vacuum_may_be_along_any_axis(axis):
    positions, cell = slab(axis, shift=18.0)
    positions %= 20.0
    pbc = np.arange(3) != axis
    assert effective_volume(positions, cell, PERIODIC, pbc) == pytest.approx(15 * 7)
    unwrapped, _ = slab(axis)
    assert effective_volume(unwrapped, cell, pbc, pbc) == pytest.approx(15 * 7)


def test_one_layer_of_atoms_is_one_atom_thick():
    assert volume(np.zeros((1, 3)), np.diag([2.5, 2.5, 15.0]), 2) == pytest.approx(2.5**2 * 3)


def test_a_slab_is_measured_across_its_plane_when_the_vacuum_vector_leans():
    positions, cell = slab(2, shift=-1.0)
    leaning = cell.copy()
    leaning[2, :2] = [1.1, -0.7]
    assert volume(positions, leaning, 2) == pytest.approx(15 * 7)


def test_a_slab_without_third_vector_has_the_same_volume():
    positions, cell = slab(2)
    cell[2] = 0
    pbc = np.array([True, True, False])
    assert effective_volume(positions, cell, pbc, pbc) == pytest.approx(15 * 7)


def wire() -> np.ndarray:
    return np.array([[0.0, 0.0, 0.0], [1.5, 2.0, 0.0], [2.5, 0.0, 1.0]])  # extents 2 and 1 A


@pytest.mark.parametrize("shift", [(0, 0, 0), (0, 13.5, 15.5), (1.0, -7.0, 40.0)])
def test_a_wire_is_its_length_times_both_extents_wherever_it_is_in_the_cell(shift):
    cell = np.diag([4.0, 15.0, 16.0])
    positions = (wire() + shift) % np.diag(cell)
    assert volume(positions, cell, 1) == pytest.approx(4 * (2 + 3) * (1 + 3))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_wire_may_run_along_any_axis(axis):
    directions = np.arange(3) == axis
    cell = np.diag(np.roll([4.0, 15.0, 16.0], axis))
    positions = np.roll(wire(), axis, axis=1)
    assert effective_volume(positions, cell, directions, directions) == pytest.approx(80)
    assert effective_volume(positions - 1.7, cell, PERIODIC, directions) == pytest.approx(80)


def test_a_wire_in_a_hexagonal_vacuum_has_the_same_volume():
    cell = np.array([[4.0, 0, 0], [0, 15.0, 0], [0, -7.5, 13.0]])
    fractional = (wire() - [0, 1.0, 0.5]) @ np.linalg.inv(cell) % 1.0
    assert volume(fractional @ cell, cell, 1) == pytest.approx(80)


def test_alexandrias_layers_have_vacuum_along_c_and_its_chains_run_along_a():
    assert crystal_directions(PERIODIC, 2).tolist() == [True, True, False]
    assert crystal_directions(PERIODIC, 1).tolist() == [True, False, False]
    along_c = np.array([False, False, True])
    assert crystal_directions(along_c, 1).tolist() == along_c.tolist()
    with pytest.raises(MlipError, match="agm1: dimensionality 3"):
        crystal_directions(along_c, 3, where="agm1")
