"""Neighbor shells: those of the original, the same for the same crystal, and a graph made smaller without loss."""

import json

import ase.build
import numpy as np
import pytest
from ase import Atoms

from mlip.errors import MlipError
from mlip.graph.quotient import equal_nodes
from mlip.graph.shells import merged_graph, neighbor_shells, shell_graph


def shells_of(atoms, **options):
    return neighbor_shells(atoms.positions, atoms.cell.array, atoms.pbc, **options)


def crystal(record) -> Atoms:
    return Atoms(record["species"], scaled_positions=record["frac_coords"], cell=record["lattice"], pbc=True)


@pytest.fixture(scope="module")
def originals(shared):
    folder = shared / "goldens/cgat"
    structures = json.loads((folder / "structures.json").read_text())
    return {name: crystal(record) for name, record in structures.items()}, np.load(folder / "graphs.npz")


def test_shells_and_distances_are_the_originals(originals):
    structures, arrays = originals
    for name, atoms in structures.items():
        found = shells_of(atoms)
        np.testing.assert_array_equal(found.shells, arrays[f"{name}/shell"], err_msg=name)
        # The list is in order of shells, whose distances differ by less than 1e-8.
        np.testing.assert_allclose(found.distances, arrays[f"{name}/distance"], atol=1e-8, err_msg=name)


def test_complete_shells_hold_the_originals_neighbors(originals):
    structures, arrays = originals
    for name, atoms in structures.items():
        found = shells_of(atoms)
        shells, theirs = arrays[f"{name}/shell"], arrays[f"{name}/neighbor"]
        for center in range(len(atoms)):
            last = shells[center, -1] if arrays[f"{name}/last_shell_truncated"][center] else 99
            whole = shells[center] < last
            assert sorted(zip(shells[center][whole], theirs[center][whole], strict=True)) == sorted(
                zip(found.shells[center][whole], found.neighbors[center][whole], strict=True)
            ), (name, center)


def test_a_shell_that_is_cut_keeps_its_first_neighbors_by_index():
    """CsCl: 8 unlike, 6 like, then 12 like at a sqrt(2), of which 10 fit. With two cells, the first index wins."""
    double = ase.build.bulk("CsCl", "cesiumchloride", a=4.1).repeat((2, 1, 1))
    found = shells_of(double)
    for center in range(len(double)):
        cut = found.neighbors[center][found.shells[center] == 3]
        assert len(cut) == 10
        assert (np.diff(cut) >= 0).all()


def test_distances_and_images_agree_with_the_positions():
    atoms = ase.build.mx2("MoS2", vacuum=8)
    found = shells_of(atoms)
    vectors = atoms.positions[found.neighbors] + found.shifts @ atoms.cell.array - atoms.positions[:, None]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), found.distances, atol=1e-12)
    assert (found.shifts[..., 2] == 0).all()  # the layer's own directions are periodic, no other


def test_wrapping_atoms_changes_no_graph():
    atoms = ase.build.bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.rattle(0.1, seed=1)
    moved = atoms.copy()
    moved.positions += [7.0, -20.0, 3.0]
    moved.wrap()
    one, other = shell_graph(atoms), shell_graph(moved)
    np.testing.assert_array_equal(one.senders, other.senders)
    np.testing.assert_array_equal(one.edges["shell"], other.edges["shell"])


def test_a_change_of_volume_changes_no_graph():
    atoms = ase.build.bulk("SiC", "wurtzite", a=3.08, c=5.05)
    atoms.rattle(0.05, seed=2)
    small, large = atoms.copy(), atoms.copy()
    large.set_cell(1.2 * atoms.cell.array, scale_atoms=True)
    one, other = shell_graph(small), shell_graph(large)
    np.testing.assert_array_equal(one.edges["shell"], other.edges["shell"])
    np.testing.assert_array_equal(one.senders, other.senders)


def test_a_wider_tolerance_joins_shells_that_digits_have_split():
    atoms = ase.build.bulk("Cu", cubic=True)
    atoms.positions = np.round(atoms.positions + np.random.default_rng(0).normal(0, 1e-6, (4, 3)), 7)
    assert shells_of(atoms).shells.max() > 3
    assert shells_of(atoms, tolerance=1e-4).shells.max() == 3  # 12, 6 and part of 24


def test_a_pure_element_is_a_graph_like_any_other():
    graph = shell_graph(ase.build.bulk("Si"))
    assert graph.n_node.tolist() == [1]  # both atoms are alike
    assert graph.nodes["multiplicity"].tolist() == [2]
    assert graph.edges["multiplicity"].tolist() == [4, 12, 8]
    assert graph.globals["fractions"][0, :2].tolist() == [1, 0]


def test_edges_that_are_kept_count_as_many_as_arrive():
    atoms = ase.build.bulk("NaCl", "rocksalt", a=5.64)
    atoms.rattle(0.01, seed=3)
    near, graph = shells_of(atoms), shell_graph(atoms)
    arriving = np.bincount(near.neighbors.ravel(), minlength=len(atoms))
    kept = np.bincount(graph.receivers, weights=graph.edges["multiplicity"])
    np.testing.assert_array_equal(kept, arriving)
    assert (np.diff(graph.receivers) >= 0).all()


def test_equal_atoms_are_found_and_unlike_ones_kept_apart():
    # A ring of six: alike, until one is of another kind; then its mirror plane is left.
    senders, receivers = np.arange(6), (np.arange(6) + 1) % 6
    both = np.concatenate([senders, receivers]), np.concatenate([receivers, senders])
    kinds = np.ones(12, int)
    assert equal_nodes(np.zeros(6, int), *both, kinds)[1].tolist() == [6]
    classes, sizes = equal_nodes(np.array([1, 0, 0, 0, 0, 0]), *both, kinds)
    assert sizes.tolist() == [1, 2, 2, 1]
    assert classes[1] == classes[5] != classes[3]


def test_a_supercell_has_the_graph_of_its_cell_where_shells_are_whole():
    numbers = np.array([11, 17])
    senders, receivers, kinds = np.array([0, 1]), np.array([1, 0]), np.array([1, 1])
    one = merged_graph(numbers, senders, receivers, kinds)
    many = merged_graph(
        np.tile(numbers, 3),
        np.concatenate([senders + 2 * k for k in range(3)]),
        np.concatenate([receivers + 2 * ((k + 1) % 3) for k in range(3)]),
        np.tile(kinds, 3),
    )
    np.testing.assert_array_equal(one.senders, many.senders)
    assert many.nodes["multiplicity"].tolist() == [3, 3]


def test_an_atom_with_too_few_neighbors_is_named():
    with pytest.raises(MlipError, match="1 neighbors within 18"):
        shells_of(Atoms("O2", [[0, 0, 0], [0, 0, 1.2]]))


def test_coincident_atoms_are_named():
    with pytest.raises(MlipError, match="coincides"):
        shells_of(Atoms("Cu2", [[0, 0, 0], [0, 0, 0]], cell=[3, 3, 3], pbc=True))


def test_a_crystal_of_eleven_elements_is_refused():
    atoms = ase.build.bulk("Cu").repeat((11, 1, 1))
    atoms.numbers = np.arange(3, 14)
    with pytest.raises(MlipError, match="11 elements"):
        shell_graph(atoms)
