"""`mlip data build | info | check` as a user runs them."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from mlip.cli.data import app
from mlip.data import Store
from mlip.errors import MlipError

runner = CliRunner()


@pytest.fixture
def source(shared):
    return shared / "data" / "alexandria" / "fixture_geo_opt_paths_pbe.json.bz2"


def run(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


def test_build_tells_what_became_of_every_frame(source, tmp_path):
    result = run("build", source, "--out", tmp_path / "s.h5", "--subsample", "inf", "--outliers", "2d")
    assert result.exit_code == 0, result.output
    for line in ("read", "sub-sampled away, cutoff inf", "more than 20 sites", "kept", "train", "PBE 3D"):
        assert line in result.output
    assert "geometry repeated at a restart" in result.output
    assert "skipped agm005676148: no usable step" in result.output


def test_build_as_json_is_json_only(source, tmp_path):
    result = run("build", source, "--out", tmp_path / "s.h5", "--json")
    report = json.loads(result.stdout)
    assert report["frames_read"] == 237
    assert report["skipped_materials"] == {"no usable step": 1}


def test_info_tells_counts_settings_and_units(source, tmp_path):
    run("build", source, "--out", tmp_path / "s.h5", "--subsample", "0.01", "--per-cell", "--seed", "7")
    result = run("info", tmp_path / "s.h5")
    assert result.exit_code == 0
    assert "eV/A^3" in result.output
    metadata = json.loads(run("info", tmp_path / "s.h5", "--json").stdout)
    settings = metadata["shards"]["s.h5"]["settings"]
    assert (settings["subsample"], settings["per_atom"], settings["seed"]) == (0.01, False, 7)


def test_check_passes_a_store_and_fails_an_altered_one_by_exit_status(source, tmp_path):
    store = tmp_path / "s.h5"
    run("build", source, "--out", store)
    sound = run("check", store)
    assert (sound.exit_code, sound.output.strip()) == (0, f"{store}: sound")
    data = bytearray(store.read_bytes())
    data[len(data) // 2] ^= 1
    store.write_bytes(data)
    altered = run("check", store)
    assert altered.exit_code == 1
    assert "altered" in altered.output or "cannot be read" in altered.output
    assert json.loads(run("check", store, "--json").stdout)["sound"] is False


def test_check_fails_a_truncated_store_and_names_it(source, tmp_path):
    store = tmp_path / "s.h5"
    run("build", source, "--out", store)
    store.write_bytes(store.read_bytes()[:-1000])
    result = run("check", store)
    assert result.exit_code == 1
    assert str(store) in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "a,b"], "--split"),
        (["--split", "0.5,0.5"], "three shares"),
        (["--outliers", "strict"], "2d, pbesol, path, none"),
        (["--subsample", "-1"], "cutoff"),
    ],
)
def test_a_wrong_option_is_one_clear_line(source, tmp_path, options, message):
    result = run("build", source, "--out", tmp_path / "s.h5", *options)
    assert isinstance(result.exception, MlipError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


def test_a_source_that_is_not_there_and_an_empty_folder_are_one_clear_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, message in (("none", "no such file or folder"), ("empty", "holds nothing to read")):
        result = run("build", tmp_path / name, "--out", tmp_path / "s.h5")
        assert isinstance(result.exception, MlipError)
        assert message in str(result.exception)


def test_help_imports_nothing_heavy():
    code = "import sys, mlip.cli.data; print([m for m in ('h5py', 'numpy', 'ase', 'jax') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_info_prints_what_each_cutoff_would_keep_of_a_source(source, tmp_path):
    result = run("info", source, "--subsample", "0,0.01,inf", "--plot", tmp_path / "cutoffs.png")
    assert result.exit_code == 0, result.output
    assert "9 materials" in result.output
    assert (tmp_path / "cutoffs.png").exists()
    of_source = json.loads(run("info", source, "--subsample", "0,0.01,inf", "--json").stdout)
    assert of_source["kept"][-1]["frames"] == 3 * 9
    run("build", source, "--out", tmp_path / "s.h5")
    of_store = json.loads(run("info", tmp_path / "s.h5", "--subsample", "0,0.01,inf", "--json").stdout)
    assert of_store["kept"] == of_source["kept"]


def test_info_tells_the_statistics_of_a_store_and_plots_its_elements(source, tmp_path):
    run("build", source, "--out", tmp_path / "s.h5")
    result = run("info", tmp_path / "s.h5", "--plot", tmp_path / "elements.png")
    assert result.exit_code == 0, result.output
    for text in ("PBE: labels", "E0 robust", "neighbors an atom within 5 A"):
        assert text in result.output
    assert (tmp_path / "elements.png").exists()
    statistics = json.loads(run("info", tmp_path / "s.h5", "--json").stdout)["statistics"]
    assert statistics["functionals"]["PBE"]["force_rms"] > 0


def test_cutoffs_that_are_no_numbers_are_one_clear_line(source):
    result = run("info", source, "--subsample", "a,b")
    assert isinstance(result.exception, MlipError)
    assert "--subsample" in str(result.exception)


def test_a_build_that_left_sources_out_says_so_last_and_by_its_exit_status(source, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "pbe_good.json.bz2").write_bytes(source.read_bytes())
    (folder / "pbe_cut.json.bz2").write_bytes(source.read_bytes()[:300])
    (folder / "pbe_none.json").write_text("{}")
    (folder / "notes.txt").touch()
    result = run("build", folder, "--out", tmp_path / "s.h5")
    assert result.exit_code == 1, result.output
    assert result.output.splitlines()[-1].startswith("built, but 2 of 3 sources failed (1 x source ")
    for text in ("skipped pbe_none.json: source without a material", ".txt", "Files that no reader takes"):
        assert text in result.output
    as_json = run("build", folder, "--out", tmp_path / "s.h5", "--json")
    assert as_json.exit_code == 1
    report = json.loads(as_json.stdout)
    assert (report["sources"], sum(report["failed_sources"].values())) == (3, 2)
    assert report["ignored_files"] == {".txt": 1}
    assert "2 of 3 sources failed" in as_json.stderr


@pytest.fixture
def few_frames(tmp_path):
    """Three materials with labels under keys of their own."""
    frame = (
        '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3:dft_forces:R:3 material_id=m{k} '
        "REF_energy=-3.{k}\nCu 0 0 0 0 0 0\n"
    )
    path = tmp_path / "few.extxyz"
    path.write_text("".join(frame.format(k=k) for k in range(3)))
    return path


def test_labels_under_other_keys_are_built_where_the_user_says_so_and_else_asked_for(few_frames, tmp_path):
    arguments = ("build", few_frames, "--out", tmp_path / "s.h5", "--functional", "PBE", "--split", "1,0,0")
    refused = run(*arguments)
    assert isinstance(refused.exception, MlipError)
    assert "keys seen: info: material_id, REF_energy; arrays: dft_forces" in str(refused.exception)
    result = run(*arguments, "--keys", "energy=REF_energy,forces=dft_forces", "--json")
    assert json.loads(result.stdout)["labels"] == {"energy": 3, "forces": 3, "stress": 0, "magnetic moments": 0}
    with Store(tmp_path / "s.h5") as store:
        assert [frame.energy for frame in map(store.frame, range(3))] == [-3.0, -3.1, -3.2]


def test_an_empty_validation_set_is_told_at_the_build_and_by_info(few_frames, tmp_path):
    result = run("build", few_frames, "--out", tmp_path / "s.h5", "--functional", "PBE", "--keys", "energy=REF_energy")
    for output in (result.output, run("info", tmp_path / "s.h5").output):
        assert "val: no frame, though 0.05 of the materials were asked for" in output
    assert len(json.loads(run("info", tmp_path / "s.h5", "--json").stdout)["empty_splits"]) == 2
