"""`mlip hull` as a user meets it."""

import json

import pytest

from tests.command_line import mlip


@pytest.fixture
def phases(tmp_path):
    old = [("na", {"Na": 1}, 0.0), ("salt", {"Na": 1, "Cl": 1}, -2.0), ("more", {"Na": 1, "Cl": 3}, -0.4)]
    for name, records in (("old", old), ("new", [("better", {"Na": 2, "Cl": 2}, -2.1), ("bad", {}, 0.0)])):
        keys = ("mat_id", "composition", "e_form")
        (tmp_path / f"{name}.json").write_text(json.dumps([dict(zip(keys, one, strict=True)) for one in records]))
    return tmp_path


def test_distances_are_written_and_new_vertices_told(phases):
    run = mlip("hull", phases / "old.json", "--add", phases / "new.json", "--out", phases / "hull.json.gz", "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert (told["phases"], told["on_the_hull"], told["written"]) == (4, 2, 4)
    assert (told["new_vertices"], told["fallen_vertices"]) == (["better"], ["salt"])
    assert told["left_out"] == {"no composition of one to nine elements": 1}
    shown = mlip("hull", phases / "hull.json.gz", "--figures", phases / "figures")
    assert shown.returncode == 0, shown.stderr
    assert "on the hull" in shown.stdout
    assert (phases / "figures" / "elements.png").exists()


def test_the_hull_alone_can_be_written(phases):
    run = mlip("hull", phases / "old.json", "--out", phases / "hull.csv", "--within", 0, "--json")
    assert json.loads(run.stdout)["written"] == 2
    assert len((phases / "hull.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.json"], "absent.json: no such file or folder"),
        (["old.json", "--out", "hull.txt"], "hull.txt: has no known ending"),
        (["old.json", "--out", "new.json"], "new.json: exists already"),
        (["old.json", "--within", "0.1"], "--within says what is written"),
    ],
)
def test_mistakes_are_one_line(phases, monkeypatch, arguments, message):
    monkeypatch.chdir(phases)
    run = mlip("hull", *arguments)
    assert run.returncode == 2
    assert run.stderr.startswith(f"mlip: error: {message}")
    assert run.stderr.count("\n") == 1
