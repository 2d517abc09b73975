"""Many small crystals searched at once: the very lists that one search a crystal gives, and honest about the rest."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.io import iread

from mlip.graph.neighbors import neighbor_list
from mlip.graph.small_crystals import small_crystal_neighbors
from mlip.graph.stacked_structures import Structures


def structures_of(crystals: list[Atoms]) -> Structures:
    return Structures.of(crystals)


def random_crystals() -> list[Atoms]:
    """Skewed and left-handed cells, one to thirty atoms, some of them far outside the cell."""
    rng = np.random.default_rng(0)
    made = []
    for k in range(120):
        n = int(rng.choice([1, 2, 3, 8, 30]))
        cell = (np.eye(3) + 0.25 * rng.normal(size=(3, 3))) * (15.0 * n) ** (1 / 3)
        positions = (rng.random((n, 3)) + (rng.integers(-3, 4, (n, 3)) if k % 3 == 0 else 0)) @ cell
        made.append(Atoms(f"Cu{n}", positions, cell=cell, pbc=True))
    return made


def assert_same_lists(crystals: list[Atoms], cutoff: float) -> None:
    found = small_crystal_neighbors(structures_of(crystals), cutoff)
    assert sum(ours is None for ours in found) < 0.05 * len(crystals)  # too thin: too many images
    for atoms, ours in zip(crystals, found, strict=True):
        if ours is None:
            continue
        expected = neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
        for a, b in zip(ours, expected, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("cutoff", [2.5, 5.0])
def test_lists_are_those_of_one_search_a_crystal(cutoff):
    assert_same_lists(random_crystals(), cutoff)


def test_lists_of_dft_crystals_are_those_of_one_search_a_crystal(shared):
    crystals = list(iread(shared / "data/benchmarks/alexandria-random-1k.extxyz.gz", index=":"))
    small = [atoms for atoms in crystals if len(atoms) < 20]
    assert len(small) > 900
    assert_same_lists(small[::4], 5.0)


def test_an_edge_and_its_reverse_are_both_there_even_at_the_very_cutoff():
    crystals = [bulk("Cu", a=a, cubic=True) for a in np.linspace(3.4, 4.2, 60)]
    for atoms, shift in zip(crystals, np.random.default_rng(0).random((60, 3)), strict=True):
        atoms.positions += shift
    for cutoff_of in (lambda a: a, lambda a: a / np.sqrt(2)):
        for atoms in crystals:
            cutoff = cutoff_of(atoms.cell[0, 0])
            (found,) = small_crystal_neighbors(structures_of([atoms]), cutoff)
            edges = {(i, j, *shift) for i, j, shift in zip(*(part.tolist() for part in found), strict=True)}
            assert {(j, i, -a, -b, -c) for i, j, a, b, c in edges} == edges


def test_what_is_no_small_crystal_in_order_is_left_to_others():
    good = bulk("Si")
    slab = fcc111("Al", (1, 1, 3), vacuum=8.0)
    flat = Atoms("H2", [[0, 0, 0], [1, 0, 0]], cell=[[3, 0, 0], [0, 3, 0], [3, 3, 0]], pbc=True)
    twice = Atoms("Cu2", [[0, 0, 0], [3, 0, 0.001]], cell=3 * np.eye(3), pbc=True)
    not_finite = bulk("Fe")
    not_finite.positions[0, 0] = np.nan
    large = bulk("Cu", cubic=True) * (8, 8, 8)
    far = bulk("Na")
    far.positions += 1e6
    none = Atoms(cell=np.eye(3), pbc=True)
    odd = [slab, molecule("H2O"), flat, twice, not_finite, large, far, none]
    mixed = [good, *(atoms for pair in zip(odd, [good] * len(odd), strict=True) for atoms in pair)]
    found = small_crystal_neighbors(structures_of(mixed), 4.0)
    assert [neighbors is None for neighbors in found] == [False, *[True, False] * len(odd)]
    for neighbors in found[2::2]:
        for a, b in zip(neighbors, found[0], strict=True):
            np.testing.assert_array_equal(a, b)
    assert small_crystal_neighbors(structures_of(odd), 4.0) == [None] * len(odd)
