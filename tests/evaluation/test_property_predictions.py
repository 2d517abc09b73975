"""Predictions for formulas, tables and stores; what has none keeps its place with a reason."""

import csv

import numpy as np
import pytest
from typer.testing import CliRunner

import mlip.cli
from mlip.data.build import build
from mlip.errors import MlipError
from mlip.evaluation.property_predictions import predictions
from mlip.models.crabnet import CrabNetConfig
from mlip.network import init_parameters
from mlip.property_model import PropertyMetadata, PropertyModel

SMALL = CrabNetConfig(features=8, heads=2, n_layers=1, hidden=8, output_widths=(8,), element_features=4)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    metadata = PropertyMetadata(property="gap", elements=["O", "Mg", "Ti"], knows_uncertainty=True)
    PropertyModel(SMALL, init_parameters(SMALL), metadata).save(folder / "model.safetensors")
    (folder / "t.csv").write_text("formula\nMgO\nXx\nTiO2\nNaCl\n")
    build([folder / "t.csv"], folder / "t.h5")
    return folder


def test_formulas_tables_and_stores_give_the_same(world):
    model = PropertyModel.load(world / "model.safetensors")
    of_formulas = predictions(model, ["MgO", "TiO2"])
    of_table = predictions(model, [str(world / "t.csv")])
    of_store = predictions(model, [str(world / "t.h5")])
    assert [one.name for one in of_table] == ["Xx", "MgO", "TiO2", "NaCl"]
    assert [one.name for one in of_store] == ["MgO", "TiO2", "NaCl"]
    for found in (of_table[1:3], of_store[:2]):
        np.testing.assert_allclose([one[1:3] for one in found], [one[1:3] for one in of_formulas], rtol=1e-5)
    assert "unknown element" in of_table[0].reason
    assert of_store[2].reason == "the model does not know Na, Cl"
    with pytest.raises(MlipError, match="neither a store nor a CSV"):
        predictions(model, [str(world / "model.safetensors")])


def test_the_command_writes_a_row_for_each(world, tmp_path):
    mlip.cli._register()
    arguments = ["predict", str(world / "model.safetensors"), str(world / "t.csv"), "Mg2O2", "--out"]
    ran = CliRunner().invoke(mlip.cli.app, [*arguments, str(tmp_path / "p.csv")])
    assert ran.exit_code == 1
    assert "5 materials; 2 without a prediction" in ran.output
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["material"] for row in rows] == ["Xx", "MgO", "TiO2", "NaCl", "Mg2O2"]
    assert rows[1]["predicted"] == rows[4]["predicted"] != ""
    assert float(rows[1]["uncertainty"]) > 0
