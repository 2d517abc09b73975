"""CGAT learns a property by the trainer of the potentials: it beats each composition's mean, resumes, transfers."""

import json
import re
import shutil
from io import StringIO

import numpy as np
import pytest
import typer
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from rich.console import Console
from typer.testing import CliRunner

from mlip.cli.predictions import evaluate
from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.evaluation.property_errors import evaluate_property
from mlip.property_model import PropertyModel
from mlip.training.live_table import RunDisplay
from mlip.training.log import read_metrics
from mlip.training.loop import train
from mlip.training.properties.property_dataset import open_property_dataset
from mlip.training.recipe_file import load_recipe
from mlip.training.report.run_page import write_run_page
from mlip.training.sweep import TABLE, plan_sweep, run_sweep, table_of
from mlip.training.task_of_recipe import task_of

RECIPE = """
data: {store: STORE, workers: 0}
model: {model: cgat, features: 16, shell_features: 8, heads: 2, n_steps: 1, composition_steps: 1,
        output_widths: [32], element_features: 8, shell_tolerance: 1.0e-4}
property: {name: e_form, largest: 2.0}
train: {epochs: 30, batch_size: 6, learning_rate: 0.003, schedule: {kind: cyclical, period: 30, final_fraction: 0.1},
        optimizer: adamw, weight_decay: 1.0e-6, clip_norm: null, ema_decay: null, validate_every: 10}
out: OUT
"""
METALS = {"Al": 4.05, "Ni": 3.52, "Cu": 3.61, "Pd": 3.89, "Ag": 4.09, "Pt": 3.92, "Au": 4.08}
STRUCTURES = {"rock salt": ("fcc", 0.5, 1.45), "zinc blende": ("fcc", 0.25, 1.5), "CsCl": ("sc", 0.5, 0.8)}
"""Lattice, place of the second atom on its diagonal, lattice constant over the mean of the metals' own."""


def compound(first: str, second: str, structure: str) -> Atoms:
    lattice, place, stretch = STRUCTURES[structure]
    cell = bulk("Cu", lattice, a=stretch * (METALS[first] + METALS[second]) / 2).cell
    return Atoms([first, second], scaled_positions=[[0] * 3, [place] * 3], cell=cell, pbc=True)


def energy_an_atom(atoms: Atoms) -> float:
    many = atoms.repeat(3)
    many.calc = EMT()
    return many.get_potential_energy() / len(many)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Formation energies by EMT of 7 metals' compounds in three structures; the structure decides on half of it."""
    path = tmp_path_factory.mktemp("property") / "compounds.h5"
    pure = {symbol: energy_an_atom(bulk(symbol, "fcc", a=a)) for symbol, a in METALS.items()}
    rng = np.random.default_rng(0)
    with StoreWriter(path) as writer:
        for first in METALS:
            for second in METALS:
                if first >= second:
                    continue
                # Of every composition at least one structure is learned from: its mean is a fair opponent.
                splits = rng.permutation(["train", "train", "val" if rng.random() < 0.4 else "test"])
                for structure, split in zip(STRUCTURES, splits, strict=True):
                    atoms = compound(first, second, structure)
                    energy = energy_an_atom(atoms) - (pure[first] + pure[second]) / 2
                    frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc)
                    name = f"{first}{second}-{structure}"
                    properties = {"e_form": energy, "volume": atoms.get_volume()}
                    writer.add(Trajectory(name, [frame], "EMT surrogate", 3, properties), split)
        heavy = Trajectory("unbound", [frame], "EMT surrogate", 3, {"e_form": 9.0})
        writer.add(heavy, "train")
        writer.add(Trajectory("unlabeled", [frame], "EMT surrogate", 3), "train")
        headless = {"e_form": 0.0, "path_end_removed": 1.0}
        writer.add(Trajectory("headless", [frame], "EMT surrogate", 3, headless), "train")
    return path


@pytest.fixture(scope="module")
def recipe(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("STORE", str(store)))

    def make(out: str, *overrides: str):
        return load_recipe(path, [f"out={folder / out}", *overrides])

    return make


@pytest.fixture(scope="module")
def trained(recipe):
    made = recipe("first")
    return made, PropertyModel.load(train(made, quiet=True))


def crystals(store, *splits) -> tuple[list[Atoms], np.ndarray, list[str]]:
    with Store(store) as opened:
        chosen = [
            m
            for m in opened.materials()
            if m.split in splits and abs(m.properties.get("e_form", 9)) < 2 and not m.why_not_relaxed
        ]
        frames = [opened.relaxed_frame(material) for material in chosen]
    atoms = [Atoms(f.numbers, f.positions, cell=f.cell, pbc=f.pbc) for f in frames]
    return atoms, np.array([m.properties["e_form"] for m in chosen]), [m.formula for m in chosen]


def test_a_small_cgat_beats_the_mean_of_each_composition_clearly(trained, store):
    _, model = trained
    atoms, energies, formulas = crystals(store, "val", "test")
    _, known, of_known = crystals(store, "train")
    means = np.array([known[[f == formula for f in of_known]].mean() for formula in formulas])
    error = np.abs(model.predict(atoms) - energies).mean()
    assert error < 0.5 * np.abs(means - energies).mean()
    assert error < 0.7 * np.abs(known.mean() - energies).mean()


def test_the_model_says_what_it_predicts_and_on_which_scale(trained, store):
    made, model = trained
    _, known, _ = crystals(store, "train")
    assert (model.metadata.property, model.metadata.functional) == ("e_form", "EMT surrogate")
    assert model.metadata.mean == pytest.approx(known.mean())
    assert model.metadata.std == pytest.approx(known.std(ddof=1))
    assert set(model.elements) == set(METALS)
    assert "surrogate" in model.metadata.provenance["note"]
    assert model.metadata.provenance["recipe_fingerprint"] == made.fingerprint()


def test_materials_above_the_limit_and_without_a_label_are_left_out_and_counted(store, recipe):
    with Store(store) as opened:
        data = open_property_dataset(opened, recipe("unused"))
    assert data.left_out == {
        "e_form > 2": 1,
        "e_form is not known": 1,
        "their relaxed structure was removed (an outlier, or without labels)": 1,
    }
    assert np.isfinite(data.values[data.train]).all()


def test_validation_errors_are_in_the_propertys_unit(trained, store):
    made, model = trained
    atoms, energies, _ = crystals(store, "val")
    best = min(read_metrics(made.out, "validation"), key=lambda record: record["loss"])
    assert np.abs(model.predict(atoms) - energies).mean() == pytest.approx(best["property_mae"], rel=1e-3)
    assert best["loss"] == pytest.approx(best["property_mae"] / model.metadata.std, rel=1e-3)


def test_the_report_of_a_run_has_the_errors_of_its_model(trained, store, tmp_path):
    made, model = trained
    said = write_run_page(made.out, tmp_path / "report.html")
    atoms, energies, _ = crystals(store, "val")
    assert said.startswith(f"the model on {len(atoms)} of {len(atoms)} validation materials")
    text = (tmp_path / "report.html").read_text()
    for heading in ("Parity", "Errors by element", "Worst materials", "e_form MAE", "trained on surrogate labels"):
        assert heading in text
    row = re.search(r"<td[^>]*>validation</td>(.*?)</tr>", text)[1]
    mae = float(re.findall(r"<td>(.*?)</td>", row)[1])
    assert mae == pytest.approx(np.abs(model.predict(atoms) - energies).mean(), rel=1e-3)  # four digits


def test_evaluate_prints_the_errors_beside_the_best_constant(trained, store):
    made, model = trained
    arguments = [str(made.out / "model.safetensors"), str(store), "--split", "test"]
    app = typer.Typer()
    app.command()(evaluate)
    printed = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False).output
    atoms, energies, _ = crystals(store, "test")
    known = json.loads(printed)
    assert (known["property"], known["n_materials"]) == ("e_form", len(atoms))
    assert known["mae"] == pytest.approx(np.abs(model.predict(atoms) - energies).mean(), rel=1e-4)
    table = CliRunner().invoke(app, arguments, catch_exceptions=False).output
    assert "best constant" in table
    assert "By element" in table
    with pytest.raises(MlipError, match="are for potentials"):
        CliRunner().invoke(app, [*arguments, "--head", "PBE"], catch_exceptions=False)


def test_a_sweep_tells_the_errors_of_the_property(trained, recipe, tmp_path):
    made, _ = trained
    (tmp_path / "sweep.yaml").write_text("train.seed: [0]")
    runs = plan_sweep(made.out.with_name("recipe.yaml"), [f"out={tmp_path / 'sweep'}"], tmp_path / "sweep.yaml")
    shutil.copytree(made.out, tmp_path / "sweep" / "seed=0")  # done before: it is taken as it is
    (result,) = run_sweep(runs)
    best = min(read_metrics(made.out, "validation"), key=lambda record: record["loss"])
    assert result.validation == {key: best[key] for key in ("step", "loss", "property_mae")}
    header, (row,) = table_of(runs, [result])
    assert header == ("train.seed", "step", "loss", "MAE")
    assert row == (0, best["step"], best["loss"], f"{best['property_mae']:.4g}")
    assert "property_mae" in (tmp_path / "sweep" / TABLE).read_text()


def test_whoever_watches_sees_the_error_of_the_property(recipe):
    display = RunDisplay(90, task_of(recipe("unused")).quantities)
    display.update("train", 9, {"loss": 0.31, "loss_property": 0.31, "property_mae": 0.01234})
    assert "step 9/90  loss 0.31  MAE 0.01234  " in display.line()
    console = Console(width=80, record=True, file=StringIO())
    console.print(display)
    heading, training, *_ = console.export_text().splitlines()
    assert heading.split() == ["loss", "MAE", "at", "step"]
    assert training.split() == ["training", "0.31", "0.01234", "9"]


def test_a_resumed_run_ends_with_the_same_parameters(recipe):
    whole = PropertyModel.load(train(recipe("whole", "train.epochs=2", "train.checkpoint_every=3"), quiet=True))
    halves = recipe("halves", "train.epochs=2", "train.checkpoint_every=3")
    stop_after(halves, 3)
    resumed = PropertyModel.load(train(halves, resume=True, quiet=True))
    for name, array in flat(whole.params).items():
        np.testing.assert_array_equal(flat(resumed.params)[name], array, err_msg=name)


def flat(params, prefix=""):
    if not isinstance(params, dict):
        return {prefix: params}
    return {key: leaf for name, part in params.items() for key, leaf in flat(part, f"{prefix}/{name}").items()}


def stop_after(made, steps: int) -> None:
    """Run until that many steps have their checkpoints."""
    from mlip.training import loop

    original = loop.timed_next
    given = []

    def interrupted(batches):
        if len(given) == steps:
            raise KeyboardInterrupt
        given.append(None)
        return original(batches)

    loop.timed_next = interrupted
    try:
        with pytest.raises(KeyboardInterrupt):
            train(made, quiet=True)
    finally:
        loop.timed_next = original


def test_transfer_keeps_the_scale_and_frozen_parameters(trained, recipe):
    first, origin = trained
    frozen = "train.frozen=[atoms_*,composition/*,pooling/*,embedding/*]"
    options = [f"init_from={first.out / 'model.safetensors'}", "train.epochs=1", frozen]
    model = PropertyModel.load(train(recipe("transfer", *options), quiet=True))
    assert (model.metadata.mean, model.metadata.std) == (origin.metadata.mean, origin.metadata.std)
    ours, theirs = flat(model.params), flat(origin.params)
    np.testing.assert_array_equal(ours["/pooling/scores/kernel"], theirs["/pooling/scores/kernel"])
    assert np.abs(ours["/output/out/kernel"] - theirs["/output/out/kernel"]).max() > 0


@pytest.mark.parametrize(("scale", "kept"), [("null", False), ("keep", True), ("refit", False)])
def test_another_property_has_a_scale_of_its_own_unless_it_is_to_be_kept(trained, recipe, scale, kept):
    first, origin = trained
    start = [f"init_from.potential={first.out / 'model.safetensors'}", f"init_from.scale={scale}"]
    made = recipe("volumes", *start, "property.name=volume", "property.largest=null")
    with Store(made.data.store) as store:
        data = open_property_dataset(store, made, origin)
    assert ((data.mean, data.std) == (origin.metadata.mean, origin.metadata.std)) == kept
    assert ("the model's, of e_form" in data.describe()) == kept


def test_a_scale_that_the_recipe_gives_is_that_of_the_model(trained, recipe, tmp_path):
    first, origin = trained
    given = ["property.mean=-0.25", "property.std=2.5"]
    for start in ([], [f"init_from={first.out / 'model.safetensors'}"]):
        made = recipe("given", *start, *given)
        with Store(made.data.store) as store:
            data = open_property_dataset(store, made, origin if start else None, tmp_path / "statistics.json")
        assert (data.mean, data.std) == (-0.25, 2.5)
        np.testing.assert_array_equal(data.normalized[data.train], (data.values[data.train] + 0.25) / 2.5)
        assert "as property.mean and property.std give them" in data.describe()


@pytest.mark.slow
def test_given_vectors_of_elements_stay_as_they_are(recipe, tmp_path):
    vectors = {symbol: np.random.default_rng(k).normal(size=8).tolist() for k, symbol in enumerate([*METALS, "Fe"])}
    (tmp_path / "vectors.json").write_text(json.dumps(vectors))
    options = ["model.element_vectors=fixed", f"property.element_vectors={tmp_path / 'vectors.json'}"]
    made = recipe("fixed", *options, "train.epochs=1", "train.frozen=[element_vectors]")
    model = PropertyModel.load(train(made, quiet=True))
    np.testing.assert_allclose(model.params["element_vectors"][28], vectors["Ni"], rtol=1e-6)
    assert "Fe" in model.elements


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (["property=null"], "cgat needs the section property"),
        (["property.name=band_gap"], "0 training materials with band_gap"),
        (["loss.energy=2"], "are for potentials; a property has property.loss"),
        (["stage_two={after_epoch: 2, energy: 10}"], "stage_two has weights of a potential's loss"),
        (["model.element_vectors=fixed"], "go together"),
        (["property.mean=0.5"], "mean and std go together"),
        (["property.mean=0", "property.std=0"], "property.std"),
        (["property.mean=.inf", "property.std=1"], "property.mean"),
        (
            ["property.mean=0", "property.std=1", "init_from={potential: x.safetensors, scale: keep}"],
            "exclude init_from.scale",
        ),
        (["property.nam=e_form"], "unknown key property.nam"),
    ],
)
def test_mistakes_in_a_recipe_are_one_line(recipe, overrides, fault):
    with pytest.raises(MlipError, match=fault):
        train(recipe("mistaken", *overrides), quiet=True)


def test_m3gnet_learns_a_property_from_bonds(store, tmp_path):
    (tmp_path / "recipe.yaml").write_text(f"""
data: {{store: {store}, workers: 0}}
model: {{model: m3gnet-property, units: 8, n_blocks: 1, readout_layers: 1}}
property: {{name: e_form, largest: 2.0}}
train: {{epochs: 30, batch_size: 6, learning_rate: 0.01, schedule: constant, ema_decay: null, validate_every: 30}}
out: {tmp_path / "run"}
""")
    model = PropertyModel.load(train(load_recipe(tmp_path / "recipe.yaml"), quiet=True))
    with Store(store) as opened:
        errors = evaluate_property(model, opened, "test", largest=2.0)
    assert errors.mae < 0.5 * errors.mae_of_median  # the structure decides on half of it
