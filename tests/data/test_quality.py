"""Structures that no neighbour list can be made of."""

import numpy as np
import pytest

from mlip.data.quality import COINCIDENT, check_structure, coincident_atoms
from mlip.data.records import Frame, MalformedError


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
