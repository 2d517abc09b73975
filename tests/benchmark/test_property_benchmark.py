"""Tables 1 and 2: a row for each property and model."""

import numpy as np
import pytest

from mlip.benchmark.property_benchmark import average_errors, run_property_benchmark
from mlip.benchmark.results import name_and_path
from mlip.data.build import build
from mlip.errors import MlipError
from mlip.models.crabnet import CrabNetConfig
from mlip.network import init_parameters
from mlip.property_model import PropertyMetadata, PropertyModel

SMALL = CrabNetConfig(features=8, heads=2, n_layers=1, hidden=8, output_widths=(8,), element_features=4)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A table of oxides with two properties, and a model of each that has learned nothing."""
    folder = tmp_path_factory.mktemp("properties")
    rows = [f"test,{metal}{n}O{m},{0.1 * n},{-2.0 * m}" for metal in ("Mg", "Ti") for n in (1, 2) for m in (1, 3)]
    (folder / "oxides.csv").write_text("\n".join(["split,formula,band_gap,e_form", *rows]))
    build([folder / "oxides.csv"], folder / "oxides.h5")
    for name in ("band_gap", "e_form"):
        metadata = PropertyMetadata(property=name, elements=["O", "Mg", "Ti"], knows_uncertainty=name == "e_form")
        PropertyModel(SMALL, init_parameters(SMALL), metadata).save(folder / f"{name}.safetensors")
    return folder


def test_every_model_is_judged_on_the_property_that_it_predicts(world):
    models = [f"mine={world / 'e_form.safetensors'}", str(world / "band_gap.safetensors")]
    table = run_property_benchmark(world / "oxides.h5", models)
    gap, form = table.rows
    assert gap[:2] == ("band_gap, eV", "band_gap")
    assert form[:2] == ("e_form, eV/atom", "mine")
    assert (gap[2].value, form[2].value) == (pytest.approx(0.15), pytest.approx(-4.0))
    assert gap[3].value == pytest.approx(0.05)
    assert form[4].interval.low < form[4].value < form[4].interval.high
    assert form[5].value == pytest.approx(100 * form[4].value / 4.0)
    assert gap[7].text == "-"
    assert form[8] == "8"
    assert "err %" in table.to_markdown()


def test_the_error_is_relative_to_the_mean_size_of_the_labels():
    found = average_errors(np.array([1.0, -1.0]), np.array([2.0, -4.0]), np.ones(2))
    assert (found.mean, found.mae, found.relative_percent) == (-1.0, 2.0, pytest.approx(200 / 3))


def test_a_store_without_the_property_is_told(world):
    with pytest.raises(MlipError, match="no material of split 'val' has e_form"):
        run_property_benchmark(world / "oxides.h5", [str(world / "e_form.safetensors")], split="val")


@pytest.mark.parametrize("named", [False, True])
def test_a_path_may_have_an_equals_sign_as_folders_of_learning_curves_do(tmp_path, named):
    path = tmp_path / "materials=400" / "model.safetensors"
    path.parent.mkdir()
    path.touch()
    assert name_and_path(f"CrabNet={path}" if named else str(path)) == ("CrabNet" if named else "", path)
