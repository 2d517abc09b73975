"""benchmarks/cubic.py: the crystals of m3gnet's README, built with the right neighbors."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase.neighborlist import neighbor_list

from mlip.relaxation import RelaxResult

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from cubic import conventional_cell, deviation, is_cubic, read_table


def test_there_are_92_crystals_and_all_but_one_have_a_dft_constant():
    table = read_table()
    assert len(table) == len({row["material"] for row in table}) == 92
    assert [row["material"] for row in table if not row["a_mp"]] == ["CrN"]


@pytest.mark.parametrize(
    ("material", "structure", "n_atoms", "distance", "coordination"),
    [
        ("Cu", "fcc", 4, np.sqrt(2) / 2, 12),
        ("Mo", "bcc", 2, np.sqrt(3) / 2, 8),
        ("Si", "diamond", 8, np.sqrt(3) / 4, 4),
        ("GaAs", "zincblende", 8, np.sqrt(3) / 4, 4),
        ("NaCl", "rocksalt", 8, 1 / 2, 6),
        ("CsCl", "cesiumchloride", 2, np.sqrt(3) / 2, 8),
        ("SrTiO3", "perovskite", 5, 1 / 2, 6),  # of Ti
    ],
)
def test_first_shells_are_those_of_the_structure(material, structure, n_atoms, distance, coordination):
    atoms = conventional_cell(material, structure, a=5.0)
    assert len(atoms) == n_atoms
    center = list(atoms.symbols).index("Ti") if structure == "perovskite" else 0
    centers, lengths = neighbor_list("id", atoms, 5.0 * distance + 0.01)
    assert (centers == center).sum() == coordination
    assert lengths.min() == pytest.approx(5.0 * distance)


def test_every_row_of_the_table_can_be_built():
    for row in read_table():
        assert conventional_cell(row["material"], row["structure"], 5.0).cell.cellpar() == pytest.approx(
            [5] * 3 + [90] * 3
        )


def test_deviations_are_per_cent_of_the_reference():
    atoms = conventional_cell("Cu", "fcc", a=3.63)
    result = RelaxResult(atoms, 0.0, True, "converged", 1, 0.0, 0.0)
    assert deviation(result, "3.60") == pytest.approx(0.833, abs=1e-3)
    assert np.isnan(deviation(result, ""))
    assert is_cubic(result)
    atoms.set_cell([3.63, 3.63, 3.7], scale_atoms=True)
    assert not is_cubic(result)
