"""A round from recipe to store: exact, resumable after a kill, the same on a cluster."""

import csv
import itertools
import signal
import subprocess
import sys
from pathlib import Path

import ase.io
import dying_round
import jax
import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_numbers
from textbook import crystals, write_folder

from mlip.data import Store
from mlip.errors import MlipError
from mlip.files.one_writer import one_writer
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.property_model import PropertyModel
from mlip.relaxation.results_file import read_results
from mlip.screening.round import run_round
from mlip.screening.screening_recipe import ScreeningRecipe
from tests.conftest import REPOSITORY

SYMBOLS = ("Li", "O", "Na", "Cl", "K", "Mg")
NAMES = ("cesiumchloride", "perovskite", "rocksalt")


@pytest.fixture(scope="module")
def potential(tmp_path_factory) -> Path:
    config = M3GNetConfig(units=8)
    rng = np.random.default_rng(0)  # NumPy's: an initialization takes long to compile
    shapes = jax.eval_shape(lambda: init_parameters(config))
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), shapes)
    metadata = PotentialMetadata(reference_energies=dict.fromkeys(SYMBOLS, -1.0), scale=0.1)
    return Potential(config, params, metadata).save(tmp_path_factory.mktemp("p") / "tiny.safetensors")


@pytest.fixture(scope="module")
def cifs(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("cifs"), *NAMES)


@pytest.fixture(scope="module")
def recipe(model, potential, cifs, tmp_path_factory) -> ScreeningRecipe:
    """150 candidates in five blocks of 50 or fewer."""
    return ScreeningRecipe(
        model=model,
        prototypes={"source": cifs},
        elements={"among": SYMBOLS},
        keep={"below": 0.5, "at_most": 8},
        relax={"potential": potential, "steps": 2, "symmetry": False},
        out=tmp_path_factory.mktemp("rounds") / "undisturbed",
    )


def into(recipe: ScreeningRecipe, out: Path, **changes) -> ScreeningRecipe:
    return recipe.model_copy(update={"out": out, **changes})


@pytest.fixture(scope="module")
def undisturbed(recipe) -> dict:
    return run_round(recipe, progress=False)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("mlip.screening.candidates.BLOCK", dying_round.BLOCK)


def listed(recipe: ScreeningRecipe) -> list[dict[str, str]]:
    with (recipe.out / "candidates.csv").open() as file:
        return list(csv.DictReader(file))


def every_candidate() -> list[tuple[str, Atoms]]:
    """By brute force: all crystals, equal ones too."""
    found = []
    for name in NAMES:
        prototype = crystals()[name]
        sites = np.unique(prototype.numbers, return_inverse=True)[1]
        for symbols in itertools.permutations(SYMBOLS, int(sites.max()) + 1):
            atoms = prototype.copy()
            atoms.numbers = np.array([atomic_numbers[symbol] for symbol in symbols])[sites]
            found.append((name, atoms))
    return found


def test_the_best_of_each_composition_below_the_cutoff_is_kept(recipe, undisturbed):
    candidates = every_candidate()
    predicted = PropertyModel.load(recipe.model).predict([atoms for _, atoms in candidates])
    best: dict[str, tuple[float, str]] = {}
    for (name, atoms), distance in zip(candidates, predicted.tolist(), strict=True):
        formula = atoms.get_chemical_formula(mode="metal", empirical=True)
        best[formula] = min(best.get(formula, (np.inf, "")), (distance, name))
    expected = sorted((found, formula) for formula, found in best.items() if found[0] < recipe.keep.below)[:8]
    rows = listed(recipe)
    assert [(row["prototype"], row["formula"]) for row in rows] == [(name, f) for (_, name), f in expected]
    np.testing.assert_allclose(
        [float(row["predicted_e_above_hull"]) for row in rows], [d for (d, _), _ in expected], atol=1e-4
    )
    assert undisturbed["candidates"] == undisturbed["predicted"] == 15 + 120 + 15
    assert undisturbed["kept"] == len(rows) == 8


def test_candidates_are_relaxed_and_written_as_store_and_cifs(recipe, undisturbed):
    _, records = read_results(recipe.out / "relaxations.jsonl")
    rows = listed(recipe)
    assert {str(record["candidate"]) for record in records} == {row["candidate"] for row in rows}
    assert sum(undisturbed["relaxations"].values()) == undisturbed["written"] == 8
    cifs = sorted((recipe.out / "cifs").iterdir())
    with Store(recipe.out / "candidates.h5") as store:
        materials = list(store.materials())
        assert len(materials) == len(cifs) == 8
        for row, material, cif in zip(rows, materials, cifs, strict=True):
            frame, read = store.frame(material.frames[0]), ase.io.read(cif)
            assert material.id == f"candidate-{row['candidate']}"
            assert material.functional == "surrogate-tiny"
            assert material.properties["predicted_e_above_hull"] == pytest.approx(
                float(row["predicted_e_above_hull"]), abs=1e-6
            )
            assert np.isfinite(frame.energy)
            assert sorted(read.numbers) == sorted(frame.numbers)
            assert read.get_volume() == pytest.approx(abs(np.linalg.det(frame.cell)), rel=1e-3)


def test_the_histogram_counts_every_candidate(recipe, undisturbed):
    with (recipe.out / "histogram.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(int(row["2_elements"]) for row in rows) == 30
    assert sum(int(row["3_elements"]) for row in rows) == 120
    assert (recipe.out / "histogram.png").stat().st_size > 5000


def test_a_finished_round_is_not_done_again(recipe, undisturbed, monkeypatch):
    before = (recipe.out / "candidates.csv").read_bytes()
    monkeypatch.setattr("mlip.screening.screener.Screener.screen", None)
    monkeypatch.setattr("mlip.relaxation.results_file.ResultsFile.append", None)
    again = run_round(recipe, progress=False)
    assert (recipe.out / "candidates.csv").read_bytes() == before
    assert {key: again[key] for key in ("predicted", "below_cutoff", "kept", "relaxations")} == {
        key: undisturbed[key] for key in ("predicted", "below_cutoff", "kept", "relaxations")
    }


def test_a_round_killed_with_signal_9_loses_no_candidate_and_repeats_none(recipe, undisturbed, tmp_path, small_blocks):
    killed = into(recipe, tmp_path / "killed")
    killed.save(tmp_path / "recipe.yaml")
    for place, call in (("block", 3), ("relaxation", 3)):
        command = [sys.executable, "-m", "tests.screening.dying_round", tmp_path / "recipe.yaml", place, str(call)]
        died = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
        assert died.returncode == -signal.SIGKILL, died.stderr
        assert not (killed.out / "candidates.h5").exists()
    _, before = read_results(killed.out / "relaxations.jsonl")
    summary = run_round(killed, progress=False)
    _, records = read_results(killed.out / "relaxations.jsonl")
    assert records[: len(before)] == before
    assert len(records) == len({record["candidate"] for record in records}) == 8
    assert listed(killed) == listed(recipe)
    for count in ("predicted", "below_cutoff", "kept", "written"):
        assert summary[count] == undisturbed[count]
    assert (killed.out / "histogram.csv").read_bytes() == (recipe.out / "histogram.csv").read_bytes()


def test_on_a_cluster_the_same_candidates_are_kept(recipe, undisturbed, tmp_path, small_blocks):
    pytest.importorskip("distributed")
    elsewhere = into(recipe, tmp_path / "cluster")
    summary = run_round(elsewhere, cluster="local:2", progress=False)
    ours, theirs = listed(elsewhere), listed(recipe)
    # A worker has one thread, this process two: XLA then adds in another order. Either is as near to float64.
    distance = "predicted_e_above_hull"
    for one, other in zip(ours, theirs, strict=True):
        assert float(one.pop(distance)) == pytest.approx(float(other.pop(distance)), rel=2e-6)
    assert ours == theirs
    for count in ("predicted", "relaxations", "written"):
        assert summary[count] == undisturbed[count]
    assert (elsewhere.out / "histogram.csv").read_bytes() == (recipe.out / "histogram.csv").read_bytes()


def test_without_a_potential_candidates_are_written_as_substituted(recipe, undisturbed, tmp_path):
    bare = into(recipe, tmp_path / "bare", relax=None)
    assert run_round(bare, progress=False)["relaxations"] == {}
    with Store(bare.out / "candidates.h5") as store:
        assert np.isnan(store.frame(0).energy)
        assert next(store.materials()).functional == "PBE"


def test_a_round_with_nothing_below_the_cutoff_ends_well(recipe, tmp_path):
    none = into(recipe, tmp_path / "none", keep=recipe.keep.model_copy(update={"below": -1e6}))
    summary = run_round(none, progress=False)
    assert (summary["kept"], summary["written"]) == (0, 0)
    assert listed(none) == []


def test_another_recipe_is_not_mixed_into_a_round(recipe, undisturbed):
    other = recipe.model_copy(update={"keep": recipe.keep.model_copy(update={"below": 0.1})})
    with pytest.raises(MlipError, match=f"{recipe.out}: holds a round with other keep"):
        run_round(other, progress=False)


def test_two_processes_do_not_screen_into_one_folder(recipe, undisturbed):
    with one_writer(recipe.out / ".lock", MlipError("no")), pytest.raises(MlipError, match="another process screens"):
        run_round(recipe, progress=False)


def test_a_damaged_checkpoint_is_told_and_not_begun_again_in_silence(recipe, undisturbed, tmp_path):
    damaged = into(recipe, tmp_path)
    content = (recipe.out / "round.npz").read_bytes()
    (tmp_path / "round.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(MlipError, match=r"round\.npz: is damaged.*remove it to begin again"):
        run_round(damaged, progress=False)


def test_predictions_that_are_no_numbers_are_counted_and_not_kept(recipe, tmp_path, tiny_cgat):
    params = dict(tiny_cgat.params)
    vectors = np.array(params["element_vectors"])
    vectors[19] = np.nan  # potassium
    broken = PropertyModel(tiny_cgat.config, params | {"element_vectors": vectors}, tiny_cgat.metadata)
    path = broken.save(tmp_path / "broken.safetensors")
    summary = run_round(into(recipe, tmp_path / "out", model=path, relax=None), progress=False)
    assert summary["not_finite"] == 5 + 60 + 5
    assert not any("K" in row["formula"] for row in listed(into(recipe, tmp_path / "out")))
