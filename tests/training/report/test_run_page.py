"""`mlip report`: what the page of a real, tiny run says and shows."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlip.errors import MlipError
from mlip.training.report.run_page import write_run_page
from tests.browser import OpenPage
from tests.emt_world import TINY_RECIPE, emt_frames, write_store


def command(*arguments) -> str:
    """What `mlip` prints."""
    run = [sys.executable, "-m", "mlip.cli", *map(str, arguments)]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory, emt_store) -> Path:
    """The folder of a run of three epochs, with its report."""
    folder = tmp_path_factory.mktemp("reported")
    recipe = folder / "recipe.yaml"
    recipe.write_text(TINY_RECIPE.replace("STORE", str(emt_store)).replace("OUT", str(folder / "run")))
    command("train", recipe)
    said = command("report", folder / "run", "--frames", 6)
    assert said.startswith(str(folder / "run" / "report.html"))
    assert "6 of 8 validation frames, 6 of 8 test frames" in said
    return folder / "run"


@pytest.fixture
def unfinished(run, tmp_path) -> Path:
    """The run before it ended, as someone looks at it who reads while another writes."""
    folder = tmp_path / "unfinished"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("potential.safetensors", "checkpoints"))
    with (folder / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"kind": "train", "st')
    return folder


def test_a_browser_draws_all_parts_of_the_report_without_an_error_or_a_request(run, browser):
    page = OpenPage(browser, run / "report.html")
    count = "document.querySelectorAll({!r}).length".format
    headings = page.evaluate("Array.from(document.querySelectorAll('h2'), (heading) => heading.textContent)")
    assert headings == [
        "Run",
        "Learning curves",
        "Parity",
        "Errors by element",
        "Distribution of errors",
        "Worst materials",
        "Speed and health",
        "Recipe",
    ]
    assert page.evaluate(count("#learning-curves .chart")) == 2 * 4
    assert page.evaluate(count("#parity .series .dots")) == 3 * 2
    assert page.evaluate(count("#distribution-of-errors .series .bars")) == 3 * 2
    assert page.evaluate(count("#errors-by-element .periodic")) == 4
    assert page.evaluate(count("#errors-by-element .periodic:first-child .known")) == 4 * 4  # Al Ni Cu Ag
    lengths = "Array.from(document.querySelectorAll('canvas'), (canvas) => canvas.toDataURL().length)"
    assert min(page.evaluate(lengths)) > 5000  # an empty canvas is far shorter
    inside = "Array.from(document.querySelectorAll('.chart path'), (p) => p.getAttribute('d')).join('').includes('NaN')"
    assert page.evaluate(inside) is False
    assert page.problems == []
    assert page.requests == [(run / "report.html").as_uri()]


def test_the_report_stands_alone_and_says_where_its_labels_are_from(run):
    text = (run / "report.html").read_text()
    assert not re.search(r"https?://|<link|<iframe| src=", text)
    assert "trained on surrogate labels" in text
    assert "validation: 6 of 8 frames" in text


def test_learning_curves_are_the_records_of_the_run(run):
    text = (run / "report.html").read_text()
    charts = [json.loads(data) for data in re.findall(r"<div class=\"tip\".*?json'>(.*?)</script>", text, re.DOTALL)]
    (forces, _) = [chart for chart in charts if chart["y"]["label"] == "force MAE, eV/Å"]
    validation = next(series for series in forces["series"] if series["name"] == "validation")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    expected = [record["forces_mae"] for record in records if record["kind"] == "validation"]
    assert validation["y"] == pytest.approx(expected, rel=1e-3)  # written with four digits


def test_the_worst_material_comes_first(run, tmp_path):
    frames = emt_frames(12, seed=3)
    frames[9].forces[0, 0] += 50.0  # a wrong label
    folder = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    (folder / "store_fingerprint").unlink()
    write_run_page(folder, folder / "r.html", store=write_store(tmp_path / "s.h5", frames, n_validation=3))
    text = (folder / "r.html").read_text()
    worst = text[text.index("Largest errors of forces") : text.index("Largest errors of stresses")]
    assert re.search(r"<b>(.*?)</b>", worst)[1] == "emt-9"


def test_a_run_that_has_not_ended_has_a_report_of_what_there_is(unfinished):
    assert write_run_page(unfinished, unfinished / "r.html") == ""
    text = (unfinished / "r.html").read_text()
    assert "The run has not ended" in text
    assert "validation" in text
    assert "Parity" not in text


def test_steps_that_went_wrong_are_named(unfinished):
    with (unfinished / "hard_examples.jsonl").open("w") as file:
        spike = {"step": 7, "loss": 9.0, "usual_loss": 0.5, "frames": [3], "materials": ["agm<3>"], "shares": [0.9]}
        file.write(json.dumps(spike) + "\n")
    lines = (unfinished / "metrics.jsonl").read_text().splitlines()
    skipped = {"kind": "skipped", "step": 5, "frames": [1], "materials": ["agm1"]}
    (unfinished / "metrics.jsonl").write_text("\n".join([json.dumps(skipped), *lines]))
    write_run_page(unfinished, unfinished / "r.html")
    text = (unfinished / "r.html").read_text()
    assert "agm&lt;3&gt; (90%)" in text
    assert "Skipped steps (1 of 1)" in text
    assert "agm1" in text


def test_the_end_of_stage_one_is_marked(unfinished):
    assert "stage one" not in (unfinished / "report.html").read_text()
    recipe = yaml.safe_load((unfinished / "recipe.yaml").read_text())
    (unfinished / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"stage_two": {"after_epoch": 2}}))
    write_run_page(unfinished, unfinished / "r.html")
    assert (unfinished / "r.html").read_text().count(">stage one</text>") == 2 * 4 + 3  # errors twice, health


def test_a_store_that_is_another_one_or_not_there_is_an_error_that_says_the_way_out(run, tmp_path):
    other = write_store(tmp_path / "other.h5", emt_frames(12, seed=9), n_validation=3)
    with pytest.raises(MlipError, match="not the store of this run"):
        write_run_page(run, tmp_path / "r.html", store=other)
    with pytest.raises(MlipError, match="--store PATH"):
        write_run_page(run, tmp_path / "r.html", store=tmp_path / "nowhere.h5")
    with pytest.raises(MlipError, match="holds no run"):
        write_run_page(tmp_path, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()
