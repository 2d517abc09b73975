"""The curvature halfway between displaced cells, in the store and in training."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from typer.testing import CliRunner

from mlip.cli.data import app
from mlip.curvature import random_direction, with_curvature
from mlip.data import Store
from mlip.data.displaced import HALFWAY, halfway
from mlip.data.records import Frame, Trajectory
from mlip.data.writer import StoreWriter
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.training.loop import train
from mlip.training.recipe_file import load_recipe
from tests.emt_world import TINY_RECIPE, emt_frame


def copper(seed: int, size: float = 0.02) -> Frame:
    """A supercell whose atoms are displaced at random, wrapped into the cell."""
    atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
    atoms.rattle(size, seed=seed)
    atoms.wrap()
    return emt_frame(atoms)


def test_the_curvature_halfway_is_the_hessian_times_the_direction():
    between = halfway(copper(1), copper(2), largest=0.2)
    assert np.linalg.norm(between.direction) == pytest.approx(1)
    step, changes = 1e-4, []
    for sign in (1, -1):
        positions = between.positions + sign * step * between.direction
        atoms = Atoms(between.numbers, positions, cell=between.cell, pbc=True, calculator=EMT())
        changes.append(-sign * atoms.get_forces() / (2 * step))
    np.testing.assert_allclose(between.curvature, sum(changes), atol=0.03)  # of some 3 eV/A^2
    assert np.abs(between.curvature).max() > 1


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (replace(copper(2), forces=None), "without forces"),
        (replace(copper(2), cell=copper(2).cell * 1.001), "another cell"),
        (replace(copper(2), numbers=np.full(8, 47)), "other atoms"),
        (copper(2, size=0.3), "too far"),
        (copper(1), "not displaced"),
    ],
)
def test_what_makes_no_pair_has_its_reason(other, reason):
    assert halfway(copper(1), other, largest=0.2) == reason


@pytest.fixture(scope="module")
def displaced(tmp_path_factory):
    path = tmp_path_factory.mktemp("displaced") / "store.h5"
    with StoreWriter(path) as writer:
        writer.add(Trajectory("Cu", [copper(seed) for seed in range(9)], "EMT", 3), "train")
        writer.add(Trajectory("Cu-val", [copper(seed) for seed in range(20, 23)], "EMT", 3), "val")
        writer.add(Trajectory("alone", [copper(30)], "EMT", 3), "train")
    return path


@pytest.fixture(scope="module")
def curved(displaced):
    out = displaced.with_name("curved.h5")
    result = CliRunner().invoke(app, ["curvature", str(displaced), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "13 frames, 10 more" in result.output
    assert CliRunner().invoke(app, ["check", str(out)]).exit_code == 0
    return out


def test_a_store_keeps_them_beside_frames_without(curved, tmp_path):
    with Store(curved) as store:
        materials = {material.id: material for material in store.materials()}
        between = [store.frame(k) for k in materials[f"Cu{HALFWAY}"].frames]
        assert store.frame(materials["Cu"].frames[0]).curvature is None
        gathered = store.gather(["atoms/curvature", "atoms/direction"], np.arange(store.n_frames))
        assert np.isnan(gathered["curvature"][: 8 * 9]).all()
        assert store.relaxed_frame(materials["Cu"]) is not None
        assert store.relaxed_frame(materials[f"Cu{HALFWAY}"]) is None
    expected = halfway(copper(0), copper(1), largest=0.2)
    np.testing.assert_allclose(between[0].curvature, expected.curvature, atol=1e-6)  # of forces in single precision
    np.testing.assert_array_equal(between[0].direction, expected.direction)
    assert np.isnan(between[0].energy)
    assert between[0].forces is None
    with StoreWriter(tmp_path / "joined.h5") as writer:  # a shard without the columns, then one with them, then one
        writer.add(Trajectory("first", [copper(40)], "EMT", 3), "train")
        with Store(curved) as store:
            writer.add_shard(store.shards[0])
            writer.add_materials(store.shards[0], np.array([m.id == "Cu" + HALFWAY for m in store.materials()]))
        writer.add(Trajectory("last", [copper(41)], "EMT", 3), "train")
    with Store(tmp_path / "joined.h5") as store:
        found = [frame.curvature for frame in (store.frame(k) for k in range(store.n_frames))]
    assert found[0] is None
    assert found[-1] is None
    assert sum(one is not None for one in found) == 10 + 8
    np.testing.assert_array_equal(found[-2], between[-1].curvature)


def test_a_potentials_curvature_is_its_hessian_times_the_direction():
    config = M3GNetConfig(units=8, n_blocks=1, cutoff=4.0, three_body_cutoff=3.5)
    metadata = PotentialMetadata(reference_energies={"Cu": -3.0}, scale=3.0)
    potential = Potential(config, init_parameters(config), metadata)
    frames = [replace(copper(k), direction=random_direction(8, np.random.default_rng(k))) for k in range(3)]
    found = with_curvature(potential, [*frames, copper(5)])
    assert found[3].curvature is None
    for frame in found[:3]:
        hessian = potential.hessian(Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=True))
        np.testing.assert_allclose(frame.curvature, np.einsum("ijab,jb->ia", hessian, frame.direction), atol=1e-9)
        np.testing.assert_allclose(frame.direction.sum(axis=0), 0, atol=1e-12)


def test_training_tells_errors_of_the_curvature_and_a_potential_labels_with_its_own(curved, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(TINY_RECIPE.replace("STORE", str(curved)).replace("OUT", str(tmp_path / "run")))
    changes = ["loss.curvature=0.3", "loss.energy=0", "loss.forces=0", "loss.stress=0", "train.epochs=1"]
    train(load_recipe(path, [*changes, "train.ema_decay=null"]), quiet=True)
    potential = tmp_path / "run" / "potential.safetensors"
    command = ["relabel", str(potential), str(curved), "--out", str(tmp_path / "relabeled.h5"), "--hessian"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    with Store(tmp_path / "relabeled.h5") as store:
        assert all(store.frame(k).curvature is not None for k in range(store.n_frames))
    with Store(curved) as store:
        known = [store.frame(k) for m in store.materials() if m.id == f"Cu-val{HALFWAY}" for k in m.frames]
    predicted = with_curvature(Potential.load(potential), known)
    errors = [np.abs(ours.curvature - frame.curvature) for ours, frame in zip(predicted, known, strict=True)]
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (validated,) = (one for one in records if one["kind"] == "validation")
    assert validated["curvature_mae"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert validated["loss"] == pytest.approx(validated["loss_curvature"], rel=1e-5)
