"""ALIGNN is trained by the common road; running statistics are part of the state, whoever shares a batch."""

import os
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from flax.traverse_util import flatten_dict

from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.evaluation.property_errors import evaluate_property
from mlip.property_model import PropertyModel
from mlip.training.loop import train
from mlip.training.recipe_file import load_recipe

RECIPE = """
data: {store: STORE, workers: 0}
model: {model: alignn, features: 12, embedding_features: 8, n_pair_layers: 1, n_bond_layers: 1, element_features: 6,
        norm: batch}
property: {name: e_form, loss: mae}
train: {epochs: 80, batch_size: 8, learning_rate: 0.01, clip_norm: null, ema_decay: null, validate_every: 10,
        schedule: {kind: one-cycle, final_fraction: 1.0e-5, momentum: [0.95, 0.85]}, optimizer: adamw,
        weight_decay: 1.0e-2}
out: OUT
"""
LATTICES = {"fcc": 1.6, "bcc": 1.28, "sc": 1.0, "hcp": 1.13}
ELEMENTS = ("Al", "Cu", "Ag", "Mg", "Zn", "Ti", "Fe", "Au")
STEP = """
import sys
import numpy as np
from jax.flatten_util import ravel_pytree
from mlip.data import Store
from mlip.runtime import set_up_jax, precision_scope
from mlip.training import parallel
from mlip.training.batches import training_batches
from mlip.training.epoch_sources import epoch_of
from mlip.training.loop import new_state, prepare
from mlip.training.recipe_file import load_recipe
from mlip.training.schedule import Plan
from mlip.training.step import train_step_of

path, out = sys.argv[1:]
recipe = load_recipe(path, ["train.batch_size=96", "train.precision=float64"])
set_up_jax()
with precision_scope("float64"), Store(recipe.data.store) as store:
    task, _, data = prepare(recipe, None)
    batch, _ = next(training_batches(task, store, data, epoch_of(recipe.data, store, data)))
    scale = parallel.replicate(np.float64(data.scale))
    state, report = train_step_of(task)(parallel.replicate(new_state(task)), batch, scale, Plan(task, 1).knobs(1))
    state = parallel.fetch(state)
    np.savez(out, params=ravel_pytree(state.params)[0], loss=np.asarray(parallel.fetch(report.loss)),
             devices=parallel.n_devices())
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Elements in four lattices, with a property that follows from the bonds, not from the composition."""
    path = tmp_path_factory.mktemp("alignn") / "elements.h5"
    rng = np.random.default_rng(0)
    with StoreWriter(path) as writer:
        for k, (symbol, lattice, part) in enumerate((s, la, n) for s in ELEMENTS for la in LATTICES for n in range(3)):
            factor = rng.uniform(2.4, 3.2)
            atoms = bulk(symbol, lattice, a=factor * LATTICES[lattice] ** (lattice != "hcp"), **_of(lattice, factor))
            frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc)
            value = float(np.cbrt(atoms.get_volume() / len(atoms)))
            writer.add(Trajectory(f"{symbol}-{lattice}-{part}", [frame], "PBE", 3, {"e_form": value}), _split(k))
    return path


def _split(k: int) -> str:
    return "val" if k % 5 == 0 else "train"


def _of(lattice: str, factor: float) -> dict[str, float]:
    return {"c": 1.633 * factor} if lattice == "hcp" else {}


@pytest.fixture
def recipe(store, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("STORE", str(store)))

    def make(out: str, *overrides: str):
        return load_recipe(path, [f"out={tmp_path / out}", *overrides])

    return make


def test_alignn_is_trained_evaluated_and_asked_by_the_common_road(recipe, store):
    model = PropertyModel.load(train(recipe("run", "model.norm=layer"), quiet=True))
    with Store(store) as opened:
        found = evaluate_property(model, opened, "val")
        frames = [opened.relaxed_frame(m) for m in opened.materials() if m.split == "val"]
    assert found.mae < 0.85 * found.mae_of_median  # so small a network finds some of it
    np.testing.assert_allclose(model.predict(frames), found.predicted, rtol=1e-4, atol=1e-5)


def test_a_resumed_run_has_the_very_same_statistics(recipe):
    options = ("train.epochs=3", "train.checkpoint_every=2")
    whole = PropertyModel.load(train(recipe("whole", *options), quiet=True))
    from mlip.training import loop

    with pytest.MonkeyPatch.context() as patch:
        given, original = [], loop.timed_next

        def stop(batches):
            given.append(1)
            if len(given) > 5:
                raise KeyboardInterrupt
            return original(batches)

        patch.setattr(loop, "timed_next", stop)
        with pytest.raises(KeyboardInterrupt):
            train(recipe("halves", *options), quiet=True)
    resumed = PropertyModel.load(train(recipe("halves", *options), quiet=True, resume=True))
    moved = [
        np.abs(array - path[-1].endswith("variance")).max()
        for path, array in flatten_dict(whole.params).items()
        if path[-1].startswith("running_")
    ]
    assert min(moved) > 1e-3
    for path, array in flatten_dict(whole.params).items():
        np.testing.assert_array_equal(flatten_dict(resumed.params)[path], array, err_msg="/".join(path))


def test_two_devices_normalize_by_the_batch_of_both(recipe, tmp_path):
    """Parameters after a step of all materials, running statistics among them, are those of one device to rounding."""
    found = []
    recipe("unused")
    for devices in (1, 2):
        out = tmp_path / f"{devices}.npz"
        flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
        quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        path = tmp_path / "given.yaml"
        path.write_text((tmp_path / "recipe.yaml").read_text().replace("OUT", str(tmp_path / "none")))
        run = subprocess.run(
            [sys.executable, "-c", STEP, str(path), str(out)],
            env=os.environ | flags | quick,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        found.append(dict(np.load(out)))
    one, two = found
    assert (one["devices"], two["devices"]) == (1, 2)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-10)
    # Adam divides by the size of the gradient: where that is nearly zero, rounding decides on a step of the rate.
    close = np.isclose(two["params"], one["params"], rtol=1e-6, atol=1e-8)
    assert close.mean() > 0.99


def test_what_cannot_be_trained_is_refused_in_a_line(recipe):
    with pytest.raises(MlipError, match="normalizes over all of it"):
        recipe("a", "train.accumulate=2")
    assert recipe("a", "train.accumulate=2", "model.norm=layer").train.accumulate == 2
    with pytest.raises(MlipError, match=r"needs model\.predicts_uncertainty=true"):
        recipe("b", "property.loss=robust_mae")
    with pytest.raises(MlipError, match="momentum is for one-cycle"):
        recipe("c", "train.schedule.kind=cosine")
    with pytest.raises(MlipError, match="for adam and adamw"):
        recipe("d", "train.optimizer=lamb")


def test_going_on_from_another_property_keeps_what_was_learned(recipe, store):
    first = recipe("first", "train.epochs=2")
    start = train(first, quiet=True)
    frozen = 'train.frozen=["atoms_*","bonds_*","gated_*","*_embedding*","element_vectors"]'
    second = recipe("second", f"init_from={start}", "train.epochs=1", frozen)
    before, after = (flatten_dict(PropertyModel.load(path).params) for path in (start, train(second, quiet=True)))
    for path, array in after.items():
        is_statistic = path[-1].startswith("running_")
        if path[0] != "out" and not is_statistic:
            np.testing.assert_array_equal(array, before[path], err_msg="/".join(path))
    assert not np.array_equal(after["out", "kernel"], before["out", "kernel"])


def test_the_recipe_of_the_paper_is_one_that_can_be_run(tmp_path, store):
    made = load_recipe("alignn", [f"data.store={store}", f"out={tmp_path / 'run'}", "property.name=e_form"])
    assert (made.model.features, made.model.norm, made.train.early_stopping) == (256, "layer", 5)
    with Store(store) as opened:
        frame = opened.relaxed_frame(next(iter(opened.materials())))
    assert Atoms(frame.numbers).numbers.size
