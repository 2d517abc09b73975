"""Results files side by side: whose rows they are, what cannot be compared, and the report of them."""

import json
import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mlip.benchmark.benchmark_page import write_benchmark_page
from mlip.benchmark.paper_tables import energy_table, pbesol_table, volume_table
from mlip.benchmark.results import differences, load_results
from mlip.errors import MlipError
from mlip.relaxation.results_file import ResultsFile
from tests.browser import OpenPage


def record(name: str, dimensionality: int = 3, **changes) -> dict:
    """A relaxation of two Cu atoms, 10 % too large and 0.5 eV/atom too high."""
    return {
        "material": 0,
        "id": name,
        "formula": "Cu2",
        "functional": "PBE",
        "dimensionality": dimensionality,
        "n_atoms": 2,
        "dft_energy": -4.0,
        "dft_volume": 20.0,
        "volume": 22.0,
        "seconds": 0.5,
        "initial_cell": [[3, 0, 0], [0, 3, 0], [0, 0, 3]],
        "initial_positions": [[0, 0, 0], [1.5, 1.5, 1.5]],
        "reason": "converged",
        "converged": True,
        "n_steps": 10,
        "energy": -3.0,
        "message": None,
        "numbers": [29, 29],
        "cell": [[3.1, 0, 0], [0, 3.1, 0], [0, 0, 3.1]],
        "positions": [[0, 0, 0], [1.55, 1.55, 1.55]],
        "pbc": [True, True, True],
        **changes,
    }


def write(path, records, potential="m.safetensors", sha256="a", store="s.h5", **settings):
    header = {
        "benchmark": "relaxation",
        "potential": {"name": potential, "sha256": sha256},
        "store": {"name": store},
        **({"start": "last", "fmax": 0.05, "steps": 500, "dtype": "float32"} | settings),
    }
    with ResultsFile(path, header) as results:
        for one in records:
            results.append(one)
    return str(path)


FAILED = {"reason": "exploded", "converged": False, "volume": None, "cell": [[None] * 3] * 3, "message": "<b> & co"}


def test_a_row_is_called_as_its_potential_or_as_the_user_says(tmp_path):
    path = write(tmp_path / "results.jsonl", [record("agm1")])
    assert [results.name for results in load_results([path])] == ["m"]
    assert [results.name for results in load_results([f"M3GNet={path}"])] == ["M3GNet"]
    assert [results.name for results in load_results([f"M3GNet={tmp_path}"])] == ["M3GNet"]


def test_crystals_and_layers_of_one_potential_are_one_row_each_of_the_same_name(tmp_path):
    crystals = write(tmp_path / "3d.jsonl", [record("agm1")], store="3d.h5")
    layers = write(tmp_path / "2d.jsonl", [record("agm2", 2)], store="2d.h5")
    (results,) = load_results([crystals, layers])
    table = volume_table([results])
    assert [row[:2] for row in table.rows] == [("3D", "m"), ("2D", "m")]
    with pytest.raises(MlipError, match="same store a second time"):
        load_results([crystals, crystals])


def test_two_potentials_of_one_name_must_be_named(tmp_path):
    paths = [write(tmp_path / f"{sha}.jsonl", [record("agm1")], sha256=sha) for sha in "ab"]
    with pytest.raises(MlipError, match=r"two potentials are called 'm' \(name them: NAME=PATH\)"):
        load_results(paths)
    assert len(load_results([f"one={paths[0]}", f"two={paths[1]}"])) == 2


def test_results_of_something_else_and_of_nothing_are_refused(tmp_path):
    with ResultsFile(tmp_path / "speed.jsonl", {"benchmark": "speed"}) as results:
        results.append({})
    with pytest.raises(MlipError, match="holds no results of relaxations"):
        load_results([str(tmp_path / "speed.jsonl")])
    with pytest.raises(MlipError, match="has no results yet"):
        load_results([write(tmp_path / "empty.jsonl", [])])


def test_a_store_is_told_by_its_content_and_not_by_its_name(tmp_path):
    def results(name, store, content, *ids):
        path = write(tmp_path / f"{name}.jsonl", [record(one) for one in ids], store=store)
        text = Path(path).read_text().replace('"store": {', f'"store": {{"content_sha256": "{content}", ')
        Path(path).write_text(text)
        return path

    one, copy = results("1", "a.h5", "x", "agm1"), results("2", "copy.h5", "x", "agm1")
    with pytest.raises(MlipError, match="same store a second time"):
        load_results([one, copy])
    overlapping, other = results("3", "a.h5", "y", "agm2", "agm1"), results("4", "a.h5", "z", "agm3")
    with pytest.raises(MlipError, match="have materials twice: agm1"):
        load_results([one, overlapping])
    assert len(load_results([one, other])[0].records) == 2


def test_two_records_of_one_material_are_refused_and_two_materials_of_one_id_are_two(tmp_path):
    with pytest.raises(MlipError, match="have materials twice: agm1"):
        load_results([write(tmp_path / "twice.jsonl", [record("agm1"), record("agm1")])])
    path = write(tmp_path / "two.jsonl", [record("agm1"), record("agm1", material=1, energy=-4.0)])
    (row,) = energy_table(load_results([path])).as_records()
    assert row["materials"] == "2"
    assert row["ME eV/atom"]["value"] == pytest.approx(0.25)


def test_rows_that_cannot_be_compared_say_why(tmp_path):
    one = write(tmp_path / "1.jsonl", [record("agm1"), record("agm2")], "one.safetensors", fmax=0.05)
    two = write(tmp_path / "2.jsonl", [record("agm2")], "two.safetensors", "b", fmax=0.01)
    lines = differences(load_results([one, two]))
    assert lines == [
        "fmax: 0.05 for one, 0.01 for two",
        "not the same 3D materials: 2 for one, 1 for two; 1 in common",
    ]
    assert all(any(line in note for note in volume_table(load_results([one, two])).notes) for line in lines)
    assert differences(load_results([one])) == []


MAE = "MAE without outliers Å³/atom"


def test_tables_have_the_papers_columns_in_its_order_and_then_the_cost(tmp_path):
    results = load_results([write(tmp_path / "r.jsonl", [record("agm1"), record("agm2", **FAILED)])])
    cost = ("materials", "of", "steps", "s each", "not converged")
    volume, energy, pbesol = volume_table(results), energy_table(results), pbesol_table(results)
    assert volume.columns == ("", "potential", "Failed %", "Outliers %", "MPE %", "MAPE %", MAE, *cost)
    inliers = "MAE without outliers eV/atom"
    assert energy.columns[2:-5] == ("Failed %", "Outliers %", "ME eV/atom", "MPE %", "MAPE %", inliers)
    assert [column.removesuffix(" eV/atom") for column in pbesol.columns[2:-5]] == [
        "Failed %",
        "MAE with outliers",
        "RMSE with outliers",
        "Outliers %",
        "RMSE without outliers",
        "90th percentile of AE",
        "Median AE",
        "Volume MAE with outliers Å³/atom",
    ]
    (row,) = volume.as_records()
    assert row["Failed %"]["value"] == 50
    assert row["MPE %"]["value"] == pytest.approx(10)
    assert row[MAE]["value"] == pytest.approx(1)
    assert (row["materials"], row["of"], row["steps"], row["s each"]) == ("1", "2", 10, 0.5)
    assert row["not converged"] == "1 exploded"
    (row,) = energy.as_records()
    assert row["ME eV/atom"]["value"] == pytest.approx(0.5)  # potential minus reference
    assert row["MPE %"]["value"] == pytest.approx(-25)


def test_the_pbesol_table_says_by_which_protocol(tmp_path):
    def run(name: str, fmax: float) -> str:
        path = write(tmp_path / f"{name}.jsonl", [record("agm1")], start="first", symmetry=True, fmax=fmax)
        return f"{name}={path}"

    alike = [run("a", 0.01), run("b", 0.01)]
    protocol = "from the first structure of each path, symmetry conserved, fmax {} eV/Å, at most 500 steps."
    assert pbesol_table(load_results(alike)).notes[0] == "All: " + protocol.format(0.01)
    notes = pbesol_table(load_results([*alike, run("c", 0.001)])).notes
    assert notes[:2] == ("a, b: " + protocol.format(0.01), "c: " + protocol.format(0.001))


def test_a_reason_that_is_new_is_told_like_any_other(tmp_path):
    results = load_results([write(tmp_path / "r.jsonl", [record("agm1", **{**FAILED, "reason": "melted"})])])
    assert volume_table(results).rows[0][-1] == "1 melted"


def test_a_table_too_wide_for_the_terminal_goes_on_below(tmp_path):
    table = energy_table(load_results([write(tmp_path / "r.jsonl", [record("agm1"), record("agm2")])]))
    for width in (60, 80, 300):
        console = Console(width=width, file=StringIO())
        console.print(table.to_rich(width))
        text = console.file.getvalue()
        assert all(column in text for column in table.columns)
        assert max(map(len, text.splitlines())) <= width


@pytest.fixture
def report(tmp_path) -> Path:
    records = [record("agm1"), record("agm2", **FAILED), record("agm3", volume=30.0, energy=-4.1)]
    results = load_results([write(tmp_path / "r.jsonl", records)])
    write_benchmark_page(results, [volume_table(results)], tmp_path / "report.html")
    return tmp_path / "report.html"


def test_the_report_stands_alone(report):
    text = report.read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|<link|<iframe| src=", text)


def test_the_report_shows_failed_and_worst_structures_before_and_after(report):
    text = report.read_text()
    views = [json.loads(data) for data in re.findall(r"<figure class='view'>.*?json'>(.*?)</script>", text)]
    # the failed one ended without finite coordinates: only its start is seen; two others, in two lists of the worst
    assert len(views) == 1 + 2 * 2 * 2
    assert views[0]["fractional"][1] == [0.5, 0.5, 0.5]
    volumes = text[text.index("largest volume errors") : text.index("largest energy errors")]
    assert volumes.index("agm3") < volumes.index("agm1")
    assert "&lt;b&gt; &amp; co" in text  # a message is text, not markup


def test_a_browser_draws_the_report_without_an_error_or_a_request(report, browser):
    page = OpenPage(browser, report)
    canvases = page.evaluate("Array.from(document.querySelectorAll('canvas'), (canvas) => canvas.toDataURL().length)")
    assert len(canvases) == 9
    assert min(canvases) > 5000  # an empty one is far shorter
    assert page.evaluate("document.querySelectorAll('.chart .bars').length") == 2
    assert page.problems == []
    assert page.requests == [report.as_uri()]
