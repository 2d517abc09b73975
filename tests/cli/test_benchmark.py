"""`mlip benchmark relaxation` as a user meets it: tables on the terminal, files in the folder."""

import json

import numpy as np
import pytest
from ase.build import bulk

from mlip.benchmark.relaxation import run_relaxation_benchmark
from mlip.data import Frame, StoreWriter, Trajectory
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from tests.command_line import mlip


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    config = M3GNetConfig(units=8)
    metadata = PotentialMetadata(reference_energies={"Cu": -3.0, "Na": -1.0}, scale=0.1)
    return Potential(config, init_parameters(config), metadata).save(
        tmp_path_factory.mktemp("potential") / "tiny.safetensors"
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "two.h5"
    with StoreWriter(path) as writer:
        for name in ("Cu", "Na"):
            atoms = bulk(name)
            frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc, energy=-3.0)
            writer.add(Trajectory(f"agm-{name}", [frame], "PBE", 3), "test")
    return path


def test_tables_are_printed_and_written_and_a_second_run_only_reads(potential, store, tmp_path):
    run = mlip("benchmark", "relaxation", potential, store, "--out", tmp_path, "--steps", 2)
    assert run.returncode == 0, run.stderr
    for words in ("Effective volume", "MAPE %", "DFT (PBE)", "2 materials (2 relaxed now)"):
        assert words in run.stdout
    written = {path.name for path in tmp_path.iterdir()}
    tables = {f"{table}.{suffix}" for table in ("volume", "energy") for suffix in ("md", "csv", "tex")}
    others = {"results.jsonl", "summary.json", "report.html", "volume_errors.png", "energy_errors.png"}
    assert written == tables | others

    again = mlip("benchmark", "relaxation", potential, store, "--out", tmp_path, "--steps", 2, "--json")
    assert again.returncode == 0, again.stderr
    answer = json.loads(again.stdout)
    assert answer["run"]["added"] == 0
    assert answer["tables"]["3D"]["volume"]["n"] == 2


def test_another_protocol_in_the_same_folder_is_one_line_and_exit_2(potential, store, tmp_path):
    arguments = ("benchmark", "relaxation", potential, store, "--out", tmp_path, "--steps")
    assert mlip(*arguments, 0).returncode == 0
    run = mlip(*arguments, 5)
    assert run.returncode == 2
    assert len(run.stderr.strip().splitlines()) == 1
    assert "results of another steps: 0, not 5" in run.stderr


@pytest.fixture(scope="module")
def two_results(potential, store, tmp_path_factory):
    """The same benchmark with other step limits, as if of two potentials."""
    folder = tmp_path_factory.mktemp("results")
    for steps in (0, 1):
        run_relaxation_benchmark(potential, store, folder / str(steps), steps=steps, progress=False)
    return folder


@pytest.mark.parametrize(
    ("command", "words"), [("volume", "MAPE %"), ("energy", "ME eV/atom"), ("pbesol", "Median AE")]
)
def test_each_table_has_its_command_and_rows_of_several_potentials(two_results, tmp_path, command, words):
    out = tmp_path / "tables"
    run = mlip("benchmark", command, f"one={two_results / '0'}", f"two={two_results / '1'}", "--out", out)
    assert run.returncode == 0, run.stderr
    assert words in run.stdout
    assert "steps: 0 for one, 1 for two" in run.stdout.replace("\n", " ")
    assert {path.name for path in out.iterdir()} == {f"{command}.{suffix}" for suffix in ("md", "csv", "tex")}


def test_the_papers_rows_stand_beside_where_asked(two_results):
    arguments = ("benchmark", "volume", f"one={two_results / '0'}", "--json")
    assert [row["potential"] for row in json.loads(mlip(*arguments).stdout)] == ["one"]
    rows = {row["potential"]: row for row in json.loads(mlip(*arguments, "--with-paper").stdout)}
    assert rows["M3GNet (paper)"]["MAPE %"] == "4.6"
    assert rows["one"]["MAPE %"]["low"] <= rows["one"]["MAPE %"]["value"] <= rows["one"]["MAPE %"]["high"]


def test_histograms_and_report_are_written_where_asked(two_results, tmp_path):
    results = [f"{name}={two_results / name}" for name in ("0", "1")]
    assert mlip("benchmark", "histograms", *results, "--out", tmp_path).returncode == 0
    assert mlip("benchmark", "report", *results, "--out", tmp_path / "r.html", "--with-paper").returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"volume_errors.png", "energy_errors.png", "r.html"}


def test_results_that_are_not_there_are_one_line_and_exit_2(tmp_path):
    run = mlip("benchmark", "volume", tmp_path / "nothing.jsonl")
    assert run.returncode == 2
    assert "no such results file" in run.stderr
