"""Rounds from a start to a hull that has grown: every candidate has a verdict, and a kill changes nothing."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from ase import Atoms

from mlip.campaign.campaign import close_stage, run_campaign
from mlip.campaign.campaign_recipe import CampaignRecipe
from mlip.campaign.folder import CampaignFolder, read_json
from mlip.campaign.status import campaign_status
from mlip.data import Store, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.files.one_writer import one_writer
from mlip.hull.convex_hull import Hulls
from mlip.hull.growing import GrowingHull
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.property_model import PropertyModel
from mlip.recipe_reading import read_recipe
from tests.campaign.alloy_world import SYMBOLS, auricupride, recipe_of, relaxed, write_world
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def potential(tmp_path_factory) -> Path:
    config = M3GNetConfig(units=8)
    rng = np.random.default_rng(0)  # NumPy's: an initialization takes long to compile
    shapes = jax.eval_shape(lambda: init_parameters(config))
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), shapes)
    metadata = PotentialMetadata(reference_energies=dict.fromkeys(SYMBOLS, -1.0), scale=0.1, functional="PBE")
    return Potential(config, params, metadata).save(tmp_path_factory.mktemp("p") / "tiny.safetensors")


@pytest.fixture(scope="module")
def world(tiny_cgat, potential, tmp_path_factory) -> dict:
    model = tiny_cgat.save(tmp_path_factory.mktemp("model") / "cgat.safetensors")
    return write_world(tmp_path_factory.mktemp("world"), model, potential)


@pytest.fixture(scope="module")
def recipe(world, tmp_path_factory) -> CampaignRecipe:
    return recipe_of(world, tmp_path_factory.mktemp("campaigns") / "undisturbed")


@pytest.fixture(scope="module")
def undisturbed(recipe) -> dict:
    return run_campaign(recipe, progress=False)


def test_two_rounds_are_done_and_tell_what_they_found(recipe, undisturbed):
    assert (undisturbed["rounds_done"], undisturbed["stage"], undisturbed["waiting_for"]) == (2, "done", None)
    folder = CampaignFolder(recipe.out)
    for number in (1, 2):
        summary = read_json(folder.round(number).summary)
        assert summary["kept"] + summary["at_random"] == 5
        assert summary["proposed"] + summary["duplicates"] + _failed(summary) == 5
        assert sum(summary["outcomes"].values()) == summary["proposed"]
        n_distances = sum(map(len, summary["distances"].values()))
        assert n_distances == summary["outcomes"].get("finished", 0)
        assert summary["functional"] == "surrogate:EMT"
        assert "not of DFT" in summary["note"]
    assert (recipe.out / "report.html").stat().st_size > 10_000


def _failed(summary: dict) -> int:
    return sum(n for reason, n in summary["pre_relaxation"].items() if reason not in ("converged", "max_steps"))


def test_the_first_round_has_the_given_model_and_the_second_one_that_has_learned_more(recipe, undisturbed):
    first, second = (read_json(CampaignFolder(recipe.out).round(k).model_record) for k in (1, 2))
    assert (first["retrained"], second["retrained"]) == (False, True)
    with Store(CampaignFolder(recipe.out).round(2).entries) as store:
        assert second["n_train"] == store.n_materials
    assert first["checksum"] != second["checksum"]


def test_nothing_is_chosen_twice(recipe, undisturbed):
    taken = [
        (one["prototype"], *one["numbers"])
        for folder in CampaignFolder(recipe.out).rounds
        for one in read_json(folder.chosen)["chosen"]
    ]
    assert len(taken) == len(set(taken)) == 10


def test_entries_have_distances_to_the_hull_of_their_day(recipe, undisturbed):
    folder = CampaignFolder(recipe.out)
    hull = GrowingHull.load(folder.round(1).hull)
    with Store(folder.round(2).entries) as store:
        known = {material.id: material for material in store.materials()}
        n_results = read_json(folder.round(1).summary)["outcomes"]["finished"]
        assert len(known) == 8 + n_results
        for name, material in known.items():
            if name in hull.ids:
                place = hull.ids.index(name)
                assert material.properties["e_form"] == pytest.approx(hull.phases.energies[place], abs=1e-12)
                assert material.properties["e_above_hull"] == pytest.approx(hull.distances[place], abs=1e-9)
        of_composition: dict[str, set[str]] = {}
        for material in known.values():
            of_composition.setdefault(Atoms(material.formula).symbols.formula.reduce()[0].format("metal"), set()).add(
                material.split
            )
        assert all(len(splits) == 1 for splits in of_composition.values())


def test_the_hull_is_that_of_all_phases_at_once(recipe, undisturbed):
    grown = GrowingHull.load(recipe.out / "hull.npz")
    anew = Hulls(grown.phases, are_formation_energies=True).distances(grown.phases)
    np.testing.assert_allclose(grown.distances, np.maximum(anew, 0), atol=1e-9)


def test_new_formation_energies_are_on_the_surrogates_own_elements(recipe, undisturbed, world):
    elements = json.loads(Path(world["start"]["elements"]).read_text())
    with Store(CampaignFolder(recipe.out).round(1).results) as store:
        for material in store.materials():
            frame = store.frame(material.frames[0])
            atoms = Atoms(frame.numbers)
            mixed = sum(elements[symbol] for symbol in atoms.symbols)
            assert material.properties["phase_energy"] == pytest.approx((frame.energy - mixed) / len(atoms), abs=1e-9)
            assert material.functional == "surrogate:EMT"


def test_formation_energies_of_the_start_calculated_again_are_the_same_here(recipe, undisturbed):
    check = read_json(CampaignFolder(recipe.out).references.elements)["check"]
    assert check["finished"] == 2
    assert abs(check["mean_difference"]) < 2e-3  # eV/atom: relaxed to 0.05 instead of 0.02 eV/A


def test_a_finished_campaign_is_not_done_again_and_can_be_prolonged(recipe, undisturbed, world, monkeypatch):
    monkeypatch.setattr("mlip.campaign.campaign_round.choose", None)
    assert run_campaign(recipe, progress=False)["rounds"] == undisturbed["rounds"]
    longer = recipe_of(world, recipe.out, rounds=3)
    with pytest.raises(TypeError):  # the third round begins, and has no chooser here
        run_campaign(longer, progress=False)
    assert campaign_status(recipe.out)["stage"] == "round 3"


def test_a_campaign_killed_five_times_with_signal_9_ends_as_one_that_was_not(recipe, undisturbed, world, tmp_path):
    kills = ("result", 2), ("screening", 1), ("entry", 11), ("checkpoint", 2), ("hull", 1)
    killed = recipe_of(world, tmp_path / "killed")
    killed.save(tmp_path / "recipe.yaml")
    for place, call in kills:
        command = [sys.executable, "-m", "tests.campaign.dying_campaign", tmp_path / "recipe.yaml", place, str(call)]
        died = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
        assert died.returncode == -signal.SIGKILL, died.stderr
    run_campaign(killed, progress=False)
    ours, theirs = CampaignFolder(killed.out), CampaignFolder(recipe.out)
    for number in (1, 2):
        mine, other = (read_json(folder.round(number).summary) for folder in (ours, theirs))
        assert mine | {"seconds": None, "model": None} == other | {"seconds": None, "model": None}
        mine, other = (PropertyModel.load(_model_of(folder, number)) for folder in (ours, theirs))
        jax.tree.map(np.testing.assert_array_equal, mine.params, other.params)
        for name in ("chosen", "proposals", "outcomes"):
            one, another = (read_json(getattr(folder.round(number), name)) for folder in (ours, theirs))
            assert _without_times(one) == _without_times(another)
    mine, other = (GrowingHull.load(folder.hull) for folder in (ours, theirs))
    assert mine.ids == other.ids
    np.testing.assert_array_equal(mine.distances, other.distances)


def _model_of(folder: CampaignFolder, number: int) -> Path:
    return Path(read_json(folder.round(number).model_record)["path"])


def _without_times(record):
    return {k: v for k, v in record.items() if k != "screening_seconds"} if isinstance(record, dict) else record


def test_a_changed_recipe_is_refused_by_the_keys_that_differ(recipe, undisturbed, world):
    changed = recipe_of(world, recipe.out, keep={"below": {2: 1e6}, "at_most": 4}, seed=1)
    with pytest.raises(MlipError, match=r"keep\.at_most was 3 and is 4; seed was 0 and is 1"):
        run_campaign(changed, progress=False)


def test_a_start_that_has_changed_is_refused(recipe, undisturbed, world, tmp_path):
    path = Path(world["start"]["entries"])
    content = path.read_bytes()
    try:
        with StoreWriter(path) as store:
            frame, _ = relaxed(auricupride("Pd", "Al"))
            store.add(Trajectory("other", (frame,), "PBE", 3, {"e_form": -0.1}), "train")
        with pytest.raises(MlipError, match="its content is not what it was"):
            run_campaign(recipe, progress=False)
    finally:
        path.write_bytes(content)


def test_one_process_at_a_time(recipe, undisturbed):
    with one_writer(recipe.out / ".lock", MlipError("busy")), pytest.raises(MlipError, match="another process works"):
        run_campaign(recipe, progress=False)


def test_a_surrogate_does_not_join_a_hull_of_total_energies(world, tmp_path):
    entries = [{"composition": {"Al": 1}, "energy": -3.7, "data": {}, "parameters": {"run_type": "GGA"}}]
    (tmp_path / "entries.json").write_text(json.dumps(entries))
    start = world["start"] | {"hull": [str(tmp_path / "entries.json")]}
    with pytest.raises(MlipError, match=r"functionals differ.*put the two on one scale"):
        run_campaign(recipe_of(world, tmp_path / "out", start=start), progress=False)


def test_a_hull_of_total_energies_has_a_phase_of_each_element_before_anything_is_calculated(world, tmp_path):
    entries = [
        {"composition": {symbol: 1}, "energy": -3.7, "data": {}, "parameters": {"run_type": "GGA"}}
        for symbol in SYMBOLS[:-1]
    ]
    (tmp_path / "entries.json").write_text(json.dumps(entries))
    start = world["start"] | {"hull": [str(tmp_path / "entries.json")]}
    recipe = recipe_of(world, tmp_path / "out", start=start, dft={"kind": "vasp"})
    with pytest.raises(MlipError, match=r"no reference phase of the elements Pd .*elements\.exclude=\[Pd\]"):
        run_campaign(recipe, progress=False)


def test_what_waits_for_calculations_reads_neither_prototypes_nor_references_again(world, tmp_path, monkeypatch):
    start = world["start"] | {"check": 0}
    recipe = recipe_of(world, tmp_path / "out", dft={"kind": "vasp"}, rounds=1, start=start)
    waiting = run_campaign(recipe, progress=False)
    monkeypatch.setattr("mlip.campaign.choosing.plan_round", None)
    monkeypatch.setattr("mlip.campaign.campaign.read_references", None)
    assert run_campaign(recipe, progress=False) == waiting


def test_formation_energies_ask_for_the_elements(world, tmp_path):
    start = world["start"] | {"elements": None}
    with pytest.raises(MlipError, match=r"start\.elements: .*nothing gives the energies of the elements"):
        run_campaign(recipe_of(world, tmp_path / "out", start=start), progress=False)
    (tmp_path / "few.json").write_text('{"Al": -3.0}')
    start = world["start"] | {"elements": str(tmp_path / "few.json")}
    with pytest.raises(MlipError, match=r"no energy of Ni, Cu, Pd .*elements\.exclude=\[Ni,Cu,Pd\]"):
        run_campaign(recipe_of(world, tmp_path / "other", start=start), progress=False)


def test_elements_are_calculated_where_nobody_gives_their_energies(world, tmp_path, monkeypatch):
    crystals = [("fcc", Atoms("Cu", cell=1.8 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]), pbc=True))]
    monkeypatch.setattr("mlip.campaign.references.aflow_crystals", lambda: iter(crystals))
    start = world["start"] | {"elements": "calculate", "check": 0}
    recipe = recipe_of(world, tmp_path / "out", start=start, rounds=1)
    run_campaign(recipe, progress=False)
    found = read_json(CampaignFolder(recipe.out).references.elements)["elements"]
    given = json.loads(Path(world["start"]["elements"]).read_text())
    assert found == pytest.approx(given, abs=5e-3)


def test_what_is_absurdly_low_is_set_aside_with_its_reason(world, tmp_path):
    recipe = recipe_of(world, tmp_path / "out", lowest=1e3, rounds=1)
    run_campaign(recipe, progress=False)
    summary = read_json(CampaignFolder(recipe.out).round(1).summary)
    assert summary["outcomes"] == {"absurdly low energy": summary["proposed"]}
    assert summary["distances"] == {"proposed": [], "random": []}
    assert summary["hull"]["new_vertices"] == 0


def test_vasp_is_waited_for_and_can_be_given_up(world, tmp_path):
    start = world["start"] | {"check": 0}
    recipe = recipe_of(world, tmp_path / "out", dft={"kind": "vasp"}, rounds=1, start=start)
    status = run_campaign(recipe, progress=False)
    assert status["stage"] == "round 1"
    assert status["step"] == "calculation"
    assert status["waiting_for"].startswith(f"{status['calculations']['not_started']} calculations in")
    again = run_campaign(recipe, progress=False)
    assert again["calculations"] == status["calculations"]
    close_stage(recipe.out)
    done = run_campaign(recipe, progress=False)
    assert done["stage"] == "done"
    assert read_json(CampaignFolder(recipe.out).round(1).summary)["outcomes"] == status["calculations"]
    with pytest.raises(MlipError, match="waits for no calculation"):
        close_stage(recipe.out)


def test_a_surrogate_that_takes_too_long_can_be_given_up(world, tmp_path):
    recipe = recipe_of(world, tmp_path / "out", rounds=1)
    recipe.save(tmp_path / "recipe.yaml")
    # Two results of the check, one of each relaxation, and two of the round's calculations.
    command = [sys.executable, "-m", "tests.campaign.dying_campaign", tmp_path / "recipe.yaml", "result", "9"]
    died = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert died.returncode == -signal.SIGKILL, died.stderr
    close_stage(recipe.out)
    assert run_campaign(recipe, progress=False)["stage"] == "done"
    outcomes = read_json(CampaignFolder(recipe.out).round(1).summary)["outcomes"]
    assert outcomes == {"not_started": outcomes["not_started"], "finished": 2}


def test_the_shipped_recipe_is_one():
    recipe = read_recipe("campaigns/ternaries", CampaignRecipe)
    assert recipe.dft.kind == "vasp"
    assert recipe.keep.cutoff(3) == 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep": {"below": 0.1}}, "set keep.at_most"),
        ({"name": "a-b"}, "String should match pattern"),
        ({"dft": {"kind": "ase", "calculator": SYMBOLS[0], "nonsense": 1}}, "Extra inputs are not permitted"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(world, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        recipe_of(world, tmp_path, **change)
