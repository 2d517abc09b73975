"""Bonds to nearest neighbors and their pairs: the original's, whatever the structure, and alike ones as one."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.data import atomic_numbers

from mlip.errors import MlipError
from mlip.graph.batching import Shape, ShapeLadder, enlarge, graph_sizes, nothing_like, pack, pad_batch, shape_of
from mlip.graph.bond_pairs import BondPairGraph
from mlip.graph.stacked_structures import Structures

ALL = BondPairGraph(merges=False, lattice_decimals=5, vectors=True)


@pytest.fixture(scope="module")
def goldens(shared):
    return shared / "goldens/alignn"


@pytest.fixture(scope="module")
def crystals(goldens):
    structures = json.loads((goldens / "structures.json").read_text())
    return {
        name: Atoms(one["species"], scaled_positions=one["frac_coords"], cell=one["lattice"], pbc=True)
        for name, one in structures.items()
    }


def graph_of(atoms, inputs=ALL, dtype=np.float64):
    (graph,) = inputs.graphs(Structures.of([atoms]), dtype)
    if isinstance(graph, MlipError):
        raise graph
    return graph


def pairs_of(graph):
    return graph.globals["pairs"]


def as_multiset(*columns) -> np.ndarray:
    rows = np.round(np.column_stack(columns), 6) + 0.0
    return rows[np.lexsort(rows.T)]


def test_bonds_are_the_originals_with_a_tolerance(goldens, crystals):
    golden = np.load(goldens / "graphs_knearest12_tolerant.npz")
    for name, atoms in crystals.items():
        graph = graph_of(atoms)
        cell = np.round(atoms.cell.array, 5)
        fractional = atoms.get_scaled_positions(wrap=False)
        i, j, image = golden[name][:, 0], golden[name][:, 1], golden[name][:, 2:]
        vectors = (fractional[j] + image - fractional[i]) @ cell
        there, back = np.column_stack([i, j, vectors]), np.column_stack([j, i, -vectors])
        # Ours point from the receiver to the sender.
        found = as_multiset(graph.receivers, graph.senders, graph.edges["vectors"])
        np.testing.assert_allclose(found, as_multiset(*np.vstack([there, back]).T), atol=1e-5, err_msg=name)


def test_pairs_are_the_originals(goldens, crystals):
    golden = np.load(goldens / "graphs_knearest12.npz")
    for name in ("NaCl", "SrTiO3", "Fe", "MoS2_monolayer"):  # of the others the original loses bonds to rounding
        graph = graph_of(crystals[name])
        pairs = pairs_of(graph)
        lengths = np.linalg.norm(golden[f"{name}/edge_r"], axis=1)
        source, target, meets = golden[f"{name}/lg_src"], golden[f"{name}/lg_dst"], golden[f"{name}/edge_dst"]
        theirs = as_multiset(meets[source], lengths[source], lengths[target], golden[f"{name}/lg_cos"])
        ours = graph.edges["lengths"]
        found = as_multiset(
            graph.receivers[pairs.senders], ours[pairs.senders], ours[pairs.receivers], pairs.columns["cosines"]
        )
        np.testing.assert_allclose(found, theirs, atol=2e-6, err_msg=name)
        assert (graph.receivers[pairs.senders] == graph.senders[pairs.receivers]).all()


def test_the_radius_graph_is_the_originals(goldens, crystals):
    golden = np.load(goldens / "graphs_radius5.npz")
    inputs = BondPairGraph(neighbors="radius", cutoff=5.0, merges=False, lattice_decimals=5, vectors=True)
    for name in ("NaCl", "MoS2_monolayer"):
        graph = graph_of(crystals[name], inputs)
        found = as_multiset(graph.receivers, graph.senders, graph.edges["vectors"])
        theirs = as_multiset(golden[f"{name}/edge_src"], golden[f"{name}/edge_dst"], golden[f"{name}/edge_r"])
        np.testing.assert_allclose(found, theirs, atol=1e-5)
        assert len(pairs_of(graph).senders) == golden[f"{name}/lg_n_edges"]


def test_a_radius_graph_reaches_on_until_the_last_atom_has_a_bond():
    inputs = BondPairGraph(neighbors="radius", cutoff=2.0, merges=False)
    atoms = bulk("Cs", "bcc", a=6.1, cubic=True)
    lengths = graph_of(atoms, inputs).edges["lengths"]  # within 2, 5, 8 A
    np.testing.assert_allclose(np.unique(lengths.round(6)), [6.1 * 3**0.5 / 2, 6.1], atol=1e-5)


def rotated(atoms):
    """The same crystal with other numbers: turned, its atoms in another order and in other cells."""
    rng = np.random.default_rng(3)
    turned = atoms[rng.permutation(len(atoms))]
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    turned.positions += rng.integers(-2, 3, (len(atoms), 3)) @ turned.cell.array
    return turned


@pytest.mark.parametrize("merges", [True, False])
def test_ties_do_not_hang_on_how_a_crystal_is_written(merges):
    inputs = BondPairGraph(merges=merges)
    for atoms in (bulk("Si"), bulk("Mg"), bulk("NaCl", "rocksalt", a=5.64, cubic=True), bulk("Fe") * (2, 1, 1)):
        one, other = (graph_of(a, inputs, np.float32) for a in (atoms, rotated(atoms)))
        assert (graph_sizes([one]) == graph_sizes([other])).all()
        np.testing.assert_allclose(
            np.sort(pairs_of(one).columns["cosines"]), np.sort(pairs_of(other).columns["cosines"]), atol=1e-6
        )
        again = graph_of(atoms, inputs, np.float32)
        np.testing.assert_array_equal(pairs_of(one).senders, pairs_of(again).senders)


def test_a_batch_of_structures_gives_the_graphs_of_each():
    many = [bulk("Si"), molecule("CH3CH2OH"), bulk("Cu"), graphene(vacuum=8.0), bulk("Si")]
    inputs = BondPairGraph(merges=False)
    together = inputs.graphs(Structures.of(many), np.float64)
    for atoms, graph in zip(many, together, strict=True):
        alone = graph_of(atoms, inputs)
        np.testing.assert_array_equal(graph.senders, alone.senders)
        np.testing.assert_allclose(graph.edges["lengths"], alone.edges["lengths"], atol=1e-12)
        np.testing.assert_array_equal(pairs_of(graph).receivers, pairs_of(alone).receivers)


def test_large_cells_and_small_ones_have_the_same_neighborhoods():
    """A cell too large for the search of small crystals is searched by itself, to the same end."""
    inputs = BondPairGraph(merges=False)
    rng = np.random.default_rng(0)
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.rattle(0.1, rng=rng)
    large = atoms * (3, 3, 2)
    small_graph, large_graph = graph_of(atoms, inputs), graph_of(large, inputs)
    assert len(large_graph.senders) == 18 * len(small_graph.senders)
    repeated = np.repeat(np.sort(small_graph.edges["lengths"]), 18)
    np.testing.assert_allclose(np.sort(large_graph.edges["lengths"]), repeated, atol=1e-9)


def test_one_atom_has_its_images_for_neighbors_each_bond_twice():
    graph = graph_of(bulk("Cu"))
    assert len(graph.senders) == 24
    assert len(pairs_of(graph).senders) == 24 * 23
    merged = graph_of(bulk("Cu"), BondPairGraph(), np.float32)
    assert (graph_sizes([merged]) == [[1, 1, 5]]).all()  # 0, 60, 90, 120 and 180 degrees
    assert pairs_of(merged).columns["multiplicity"].sum() == 24 * 23
    assert merged.edges["multiplicity"].sum() == 24


def test_sparse_cells_layers_chains_and_molecules_have_graphs():
    sparse = Atoms("Xe", cell=[14, 15, 16], pbc=True)
    layer = graphene(vacuum=8.0)  # pbc TTF
    chain = Atoms("C2", positions=[[0, 0, 0], [1.3, 0, 0]], cell=[2.6, 20, 20], pbc=[True, False, False])
    many = molecule("C60")
    for atoms in (sparse, layer, chain, many):
        graph = graph_of(atoms)
        assert np.bincount(graph.receivers).min() >= 12
        assert np.isfinite(pairs_of(graph).columns["cosines"]).all()
    flat = layer.copy()
    flat.set_cell(np.diag([1, 1, 0]) @ layer.cell.array + np.diag([0, 0, 30.0]))
    flat.pbc = True  # so much vacuum that no neighbor is beyond it
    np.testing.assert_allclose(
        np.sort(graph_of(layer).edges["lengths"]), np.sort(graph_of(flat).edges["lengths"]), atol=1e-5
    )


def test_few_atoms_without_periodicity_have_the_bonds_that_there_can_be():
    water = graph_of(molecule("H2O"))
    assert len(water.senders) == 6
    assert len(pairs_of(water).senders) == 3 * 2 * 2
    alone = graph_of(Atoms("He"))
    assert graph_sizes([alone]).tolist() == [[1, 0, 0]]


def test_structures_that_cannot_be_read_say_why_and_spoil_no_other():
    twice = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 1e-4]], cell=[5] * 3, pbc=True)
    far = Atoms("Cu2", positions=[[0, 0, 0], [1e-4, 0, 0]])
    flat = Atoms("Cu", cell=[[1, 0, 0], [1, 0, 0], [0, 0, 1]], pbc=True)
    broken = Atoms("Cu", positions=[[np.nan, 0, 0]], cell=[3] * 3, pbc=True)
    empty, strange = Atoms(), Atoms(numbers=[0], cell=[3] * 3, pbc=True)
    reasons = {
        "coincide": [twice, far],
        "linearly dependent": [flat],
        "not finite": [broken],
        "has no atoms": [empty],
        "atomic numbers must be 1 to 118": [strange],
    }
    many = [bulk("Cu"), *(atoms for group in reasons.values() for atoms in group), bulk("Si")]
    found = ALL.graphs(Structures.of(many))
    said = [reason for reason, group in reasons.items() for _ in group]
    for reason, graph in zip(said, found[1:-1], strict=True):
        assert isinstance(graph, MlipError)
        assert reason in str(graph)
    assert all(not isinstance(graph, MlipError) for graph in (found[0], found[-1]))


def test_one_row_stands_for_what_the_graph_cannot_tell_apart():
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    merged, every = graph_of(atoms, BondPairGraph()), graph_of(atoms, BondPairGraph(merges=False))
    assert len(merged.nodes["species"]) == 2
    for graph in (merged, every):
        assert graph.nodes["multiplicity"].sum() == 8
        assert graph.edges["multiplicity"].sum() == len(every.senders)
        assert pairs_of(graph).columns["multiplicity"].sum() == len(pairs_of(every).senders)
    weights = merged.edges["multiplicity"]
    np.testing.assert_allclose(weights @ merged.edges["lengths"], every.edges["lengths"].sum(), rtol=1e-12)
    together = pairs_of(merged)
    cosines = together.columns["multiplicity"] @ together.columns["cosines"] ** 2
    np.testing.assert_allclose(cosines, (pairs_of(every).columns["cosines"] ** 2).sum(), rtol=1e-12)


def test_what_differs_is_not_one():
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.rattle(0.05, seed=1)
    graph = graph_of(atoms, BondPairGraph(), np.float32)
    assert len(graph.nodes["species"]) == 8
    assert graph.edges["multiplicity"].max() == 1
    changed = bulk("Si", cubic=True)
    changed.numbers[0] = atomic_numbers["Ge"]
    assert len(graph_of(changed, BondPairGraph(), np.float32).nodes["species"]) > 1


def test_bond_pairs_are_a_third_size_of_batches():
    graphs = BondPairGraph().graphs(Structures.of([bulk("Cu"), bulk("Si"), molecule("H2O"), bulk("Mg")]))
    sizes = graph_sizes(graphs)
    assert sizes.shape == (4, 3)
    shape = Shape(sizes[:, 0].sum() + 2, sizes[:, 1].sum() + 3, 6, sizes[:, 2].sum() + 4)
    batch = pad_batch(graphs, shape)
    assert shape_of(batch) == shape
    pairs = pairs_of(batch)
    assert pairs.n_pair.tolist() == [*sizes[:, 2], 0, 4]
    assert (np.diff(pairs.receivers) >= 0).all()
    real = slice(sizes[:, 2].sum())
    np.testing.assert_array_equal(
        batch.receivers[pairs.senders[real]], batch.senders[pairs.receivers[real]], "they meet at an atom"
    )
    assert (pairs.columns["multiplicity"][sizes[:, 2].sum() :] == 0).all()
    larger = Shape(*(size + 5 for size in shape))
    assert shape_of(enlarge(batch, larger)) == larger
    np.testing.assert_array_equal(pairs_of(enlarge(batch, larger)).senders[real], pairs.senders[real])
    assert shape_of(pad_batch([nothing_like(graphs[0])], Shape(2, 1, 2, 1))) == Shape(2, 1, 2, 1)
    with pytest.raises(ValueError, match="do not fit"):
        pad_batch(graphs, shape._replace(n_pair=3))


def test_batches_are_cut_by_pairs_too():
    graphs = BondPairGraph(merges=False).graphs(Structures.of([bulk("Cu")] * 7))
    packed = pack(graphs, ShapeLadder(), max_pairs=3 * 552)
    assert sorted(len(members) for members, _ in packed) == [2, 2, 3]
    ladder = ShapeLadder.from_sizes(graph_sizes(graphs), 4, 2)
    assert all(rung.n_pair >= 2 * 552 for rung in ladder.rungs)
    assert ShapeLadder().smallest(5, 9, 2).n_pair == 0  # of graphs without pairs: shapes are what they were
