"""Graphs built many at a time are those built one by one, whatever the structures; mistakes name the material."""

import jax
import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule

from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.graph.labeled_graphs import EnergyLabels, LabeledGraphs, labeled_graphs
from mlip.graph.radius_graph import RadiusGraph, crystal_graph

REFERENCE = np.linspace(-3, 3, 119)
STRUCTURES = {
    "crystal": bulk("Cu"),
    "slab": fcc111("Al", (1, 1, 3), vacuum=8.0),
    "molecule": molecule("CH3CH2OH"),
    "other crystal": bulk("NaCl", "rocksalt", a=5.6),
    "large crystal": bulk("Fe", cubic=True) * (5, 5, 5),
    "atom alone": molecule("H"),
    "wide crystal": bulk("Na", a=30.0),
}


def frame_of(atoms, **labels) -> Frame:
    return Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell[:], atoms.pbc, **labels)


def labeled(frame: Frame, cutoff: float = 4.0, reference=REFERENCE * 0, dtype: type = np.float32):
    """The graph of one frame by itself: by the search that is not for small crystals, and with its labels."""
    (graph,) = labeled_graphs([frame], RadiusGraph(cutoff), EnergyLabels(reference), dtype)
    unlabeled = crystal_graph(frame, cutoff, dtype=dtype)
    jax.tree.map(
        np.testing.assert_array_equal,
        (graph.edges, graph.receivers, graph.senders),
        (unlabeled.edges, unlabeled.receivers, unlabeled.senders),
    )
    return graph


def write_store(path, frames: dict[str, Frame]) -> Store:
    with StoreWriter(path) as writer:
        for number, (name, frame) in enumerate(frames.items()):
            material = Trajectory(name, [frame], ["PBE", "SCAN"][number % 2], 3, {"formula": "of the source"})
            writer.add(material, "train")
    return Store(path)


@pytest.fixture
def store(tmp_path) -> Store:
    frames = {}
    for k, (name, atoms) in enumerate(STRUCTURES.items()):
        forces = None if k % 3 == 2 else np.full((len(atoms), 3), float(k))
        stress = None if k % 3 == 1 else np.arange(6) * 0.1
        frames[name] = frame_of(atoms, energy=-1.0 * k if k % 4 else float("nan"), forces=forces, stress=stress)
    return write_store(tmp_path / "s.h5", frames)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_graphs_are_those_of_their_frames_in_the_order_asked_for(store, dtype):
    indices = np.random.default_rng(0).permutation(len(store))
    graphs = LabeledGraphs(store, RadiusGraph(4.0), EnergyLabels(REFERENCE), dtype)(indices)
    for index, graph in zip(indices.tolist(), graphs, strict=True):
        expected = labeled(store.frame(index), 4.0, REFERENCE, dtype)
        expected.globals["frame"][:] = index
        jax.tree.map(np.testing.assert_array_equal, graph, expected)
        assert jax.tree.map(lambda x: x.dtype, graph) == jax.tree.map(lambda x: x.dtype, expected)


def test_heads_and_factors_are_those_of_the_material(store):
    references = np.stack([REFERENCE, 2 * REFERENCE])
    heads = np.arange(len(store), dtype=np.int32) % 2
    factors = np.arange(3.0 * len(store)).reshape(-1, 3)
    indices = np.arange(len(store))[::-1]
    graphs = LabeledGraphs(store, RadiusGraph(4.0), EnergyLabels(references, heads, factors))(indices)
    for index, graph in zip(indices.tolist(), graphs, strict=True):
        expected = labeled(store.frame(index), 4.0, references[heads[index]])
        assert graph.globals["head"].tolist() == [heads[index]]
        np.testing.assert_array_equal(graph.globals["factors"], factors[[index]])
        np.testing.assert_array_equal(graph.globals["energy"], expected.globals["energy"])


def test_no_frames_are_no_graphs(store):
    assert LabeledGraphs(store, RadiusGraph(4.0), EnergyLabels(REFERENCE))(np.zeros(0, np.int64)) == []


def test_an_element_without_reference_energy_is_named_unless_the_energy_is_unknown(tmp_path):
    reference = np.where(np.arange(119) == 29, np.nan, 0.0)
    frames = {"good": frame_of(bulk("Si"), energy=1.0), "unlabeled": frame_of(bulk("Cu"))}
    store = write_store(tmp_path / "a.h5", frames)
    graphs = LabeledGraphs(store, RadiusGraph(4.0), EnergyLabels(reference))(np.arange(2))
    assert np.isnan(graphs[1].globals["energy"]).all()
    store = write_store(tmp_path / "b.h5", frames | {"bad": frame_of(bulk("Cu"), energy=1.0)})
    with pytest.raises(MlipError, match=r"bad: calculation 0.*no reference energy for atomic numbers \[29\]"):
        LabeledGraphs(store, RadiusGraph(4.0), EnergyLabels(reference))(np.arange(3))


@pytest.mark.parametrize("number", [0, 119, 255])
def test_a_number_that_is_no_element_is_refused_with_the_material(tmp_path, number):
    atoms = bulk("Si")
    frame = frame_of(atoms, energy=1.0)
    frame.numbers[1] = number
    frames = {"good": frame_of(bulk("Si"), energy=1.0)}
    store = write_store(tmp_path / "s.h5", frames | {"bad": frame})
    with pytest.raises(MlipError, match=r"bad: calculation 0.*atomic numbers must be 1 to 118"):
        LabeledGraphs(store, RadiusGraph(4.0), EnergyLabels(REFERENCE))(np.arange(2))


def test_reference_energies_are_subtracted_before_the_cast_to_float32():
    atoms = bulk("W", cubic=True) * (4, 4, 4)
    reference = np.full(119, np.nan)
    reference[74] = -430000.0  # all-electron totals: float32 would keep nothing of the difference
    frame = frame_of(atoms, energy=-430000.0 * len(atoms) + 0.001)
    graph = labeled(frame, 3.0, reference)
    assert graph.globals["energy"][0] == pytest.approx(0.001, abs=1e-7)


def test_missing_labels_are_nan_and_known_ones_travel_along():
    atoms = bulk("Cu")
    bare = labeled(frame_of(atoms))
    assert np.isnan(bare.globals["energy"]).all()
    assert np.isnan(bare.globals["stress"]).all()
    assert np.isnan(bare.nodes["forces"]).all()
    known = frame_of(atoms, energy=-1.5, forces=np.ones((1, 3)), stress=np.arange(6.0))
    graph = labeled(known)
    assert graph.globals["energy"].tolist() == [-1.5]
    assert graph.globals["stress"].tolist() == [[0, 1, 2, 3, 4, 5]]
    assert graph.nodes["forces"].tolist() == [[1, 1, 1]]


def test_an_element_without_reference_energy_is_named_in_a_list_of_frames():
    reference = np.zeros(119)
    reference[17] = np.nan
    frame = frame_of(bulk("NaCl", "rocksalt", a=5.7), energy=-1.0)
    with pytest.raises(MlipError, match=r"no reference energy for atomic numbers \[17\]"):
        labeled(frame, 4.0, reference)
