"""Errors are attributed to elements as they say they are."""

import numpy as np
import pytest
from test_frame_errors import ITEMS, PREDICTIONS, errors_by_hand, errors_of

ROWS = {row.element: row for row in errors_of(ITEMS, PREDICTIONS).elements}
NUMBERS = {"O": 8, "Ti": 22, "Fe": 26, "La": 57}


def test_every_element_has_a_row_in_the_order_of_atomic_numbers():
    assert list(ROWS) == list(NUMBERS)


@pytest.mark.parametrize("element", NUMBERS)
def test_forces_are_those_of_its_atoms_and_energies_those_of_its_frames(element):
    energies, forces, _ = errors_by_hand(ITEMS, PREDICTIONS)
    masks = [frame.numbers == NUMBERS[element] for frame, *_ in ITEMS]
    row = ROWS[element]
    assert row.n_atoms == sum(mask.sum() for mask in masks)
    assert row.n_frames == sum(mask.any() for mask in masks)
    assert row.energy_mae == pytest.approx(1000 * np.abs(energies[[mask.any() for mask in masks]]).mean())
    own = np.concatenate([f[mask] for f, mask in zip(forces, masks, strict=True)])
    assert row.forces_mae == pytest.approx(np.abs(own).mean())
    labels = np.concatenate([item.frame.forces[mask] for item, mask in zip(ITEMS, masks, strict=True)])
    assert row.forces_mae_zero == pytest.approx(np.abs(labels).mean())


def test_errors_that_are_a_constant_an_element_are_explained_by_offsets():
    """As between two sets of pseudopotentials."""
    constants = {"O": 0.3, "Ti": -0.1, "Fe": 0.02, "La": -0.4}
    table = np.zeros(119)
    table[list(NUMBERS.values())] = list(constants.values())
    shifted = [
        {**predicted, "energy": item.frame.energy + table[item.frame.numbers].sum()}
        for item, predicted in zip(ITEMS, PREDICTIONS, strict=True)
    ]
    errors = errors_of(ITEMS, shifted)
    assert errors.rows[-1].energy_mae > 50
    assert errors.rows[-1].energy_mae_offset < 0.1  # the ridge leaves a thousandth
    assert {row.element: row.energy_offset for row in errors.elements} == pytest.approx(
        {element: 1000 * constant for element, constant in constants.items()}, abs=0.5
    )


def test_elements_that_only_occur_together_share_their_offset():
    item = next(item for item in ITEMS if set(item.frame.numbers) >= {8, 26})
    prediction = {"energy": item.frame.energy + len(item.frame), "forces": item.frame.forces, "stress": np.zeros(6)}
    errors = errors_of([item], [prediction])
    assert errors.rows[-1].energy_mae == pytest.approx(1000)
    assert errors.rows[-1].energy_mae_offset < 5
    assert all(0 < row.energy_offset < 3000 for row in errors.elements)
