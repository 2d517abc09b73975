"""PBE and PBEsol in one network: each frame trains the head of its functional, on that head's energy scale."""

import ase.io
import numpy as np
import pytest

import mlip
from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.evaluation.evaluate import evaluate, store_frames
from mlip.graph.labeled_graphs import EnergyLabels, LabeledGraphs
from mlip.graph.loader import EvaluationLoader
from mlip.graph.radius_graph import RadiusGraph
from mlip.training.loop import train
from mlip.training.potentials.potential_dataset import open_dataset
from mlip.training.recipe_file import load_recipe
from tests.emt_world import emt_frames, write_store

HEADS = ("PBE", "PBEsol")
RECIPE = """
data: {store: STORE, workers: 0}
model: {model: mace, heads: [PBE, PBEsol], cutoff: 3.2, channels: 6, max_l: 0, max_ell: 1, correlation: 2}
loss: {kind: huber, huber_delta: 0.1, stress: 0.01}
train: {epochs: 25, batch_size: 8, learning_rate: 0.02, ema_decay: 0.9}
out: OUT
"""


@pytest.fixture(scope="module")
def silicon(shared, tmp_path_factory):
    """Displaced silicon, DFT: 24 frames of 8 atoms in PBE, 16 of 64 atoms in PBEsol; a file for each."""
    folder = tmp_path_factory.mktemp("silicon")
    for name, n_atoms, n_frames in (("pbe", 8, 24), ("pbesol", 64, 16)):
        frames = ase.io.read(shared / f"data/static/{name}_phonon_displacements_phono3py.extxyz.gz", ":")
        frames = [atoms for atoms in frames if atoms.symbols.get_chemical_formula() == f"Si{n_atoms}"][:n_frames]
        functional = {"pbe": "PBE", "pbesol": "PBEsol"}[name]
        with StoreWriter(folder / f"{name}.h5") as store:
            for index, atoms in enumerate(frames):
                split = "val" if index % 4 == 0 else "train"
                store.add(Trajectory(f"{name}-{index}", (_frame(atoms),), functional, 3), split)
    return folder


def _frame(atoms: ase.Atoms) -> Frame:
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    return Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, energy, forces, stress)


def recipe(store, out, **overrides):
    path = out.with_suffix(".yaml")
    path.write_text(RECIPE.replace("STORE", str(store)).replace("OUT", str(out)))
    return load_recipe(path, [f"{key}={value}" for key, value in overrides.items()])


def test_both_heads_learn_real_forces(silicon, tmp_path):
    potential = mlip.load(train(recipe(silicon, tmp_path / "run"), quiet=True))
    assert potential.heads == HEADS
    energies = [potential.metadata.heads[head].reference_energies["Si"] for head in HEADS]
    assert energies == pytest.approx([-5.42, -5.74], abs=0.02)  # eV/atom of the perfect crystal
    with Store(silicon) as store:
        for head in HEADS:
            row = evaluate(potential.of_head(head), store_frames(store, "val", head)).rows[-1]
            assert row.n_frames in (4, 6)
            assert row.forces_mae < 0.5 * row.forces_mae_zero


def test_a_frame_goes_to_the_head_of_its_functional(silicon):
    with Store(silicon) as store:
        data = open_dataset(store, HEADS)
        build_graph = LabeledGraphs(
            store, RadiusGraph(3.0), EnergyLabels(data.reference_energies_by_z, data.head_of_material)
        )
        batches = EvaluationLoader(build_graph, data.validation, batch_size=4)
        seen = set()
        for batch, _ in batches:
            real = batch.globals["frame"][0] >= 0
            for head, n_atoms, energy in zip(
                batch.globals["head"][0][real], batch.n_node[0][real], batch.globals["energy"][0][real], strict=True
            ):
                assert n_atoms == {0: 8, 1: 64}[head]
                assert abs(energy) / n_atoms < 0.02  # another functional's E0 would leave 0.3 eV/atom
                seen.add(int(head))
    assert seen == {0, 1}
    assert data.scale.shape == (2,)
    assert "PBEsol, 12 frames: energies without E0" in data.describe()


def test_a_functional_without_a_head_is_named(silicon):
    with Store(silicon) as store, pytest.raises(MlipError, match="materials of PBEsol, the model the heads PBE, SCAN"):
        open_dataset(store, ("PBE", "SCAN"))


def test_a_head_without_frames_is_named(tmp_path):
    path = write_store(tmp_path / "pbe.h5", emt_frames(20, seed=0), functional="PBE")
    with Store(path) as store, pytest.raises(MlipError, match="no frame of the functional PBEsol"):
        open_dataset(store, HEADS)


def test_elements_are_those_of_the_head(tmp_path):
    """A validation frame is left out if its own head has not seen its elements, though another has."""
    (tmp_path / "both").mkdir()
    write_store(tmp_path / "both/a.h5", emt_frames(20, seed=0, symbols=("Cu", "Al")), functional="PBE")
    frames = emt_frames(12, seed=1, symbols=("Cu",)) + emt_frames(8, seed=2, symbols=("Al",))
    write_store(tmp_path / "both/b.h5", frames, functional="PBEsol", n_validation=4)
    with Store(tmp_path / "both") as store:
        data = open_dataset(store, HEADS)
        assert data.elements == ["Al", "Cu"]
        assert data.statistics["PBEsol"].elements == ["Cu"]
        assert (len(data.validation), data.n_left_out) == (8, 4)
        np.testing.assert_array_equal(data.validation, store.indices("val", "PBE"))


def test_a_resumed_run_has_the_same_reference_energies(silicon, tmp_path):
    with Store(silicon) as store:
        first = open_dataset(store, HEADS, remembered=tmp_path / "statistics.json")
        assert open_dataset(store, HEADS, remembered=tmp_path / "statistics.json").statistics == first.statistics
