"""A learning curve is a sweep over nested training sets, with one table and one figure."""

import csv

import pytest
from typer.testing import CliRunner

import mlip.cli
from mlip.data import Store
from mlip.data.build import build
from mlip.data.split import nested_choice
from mlip.errors import MlipError
from mlip.training.learning_curve import FIGURE, TABLE, plan_learning_curve, run_learning_curve
from mlip.training.loop import prepare

RECIPE = """
data: {store: STORE, workers: 0}
model: {model: crabnet, features: 16, heads: 2, n_layers: 1, hidden: 16, output_widths: [16], element_features: 8,
        element_vectors: learned}
property: {name: gap, loss: robust_mae}
train: {epochs: 2, batch_size: 16, learning_rate: 0.01, optimizer: lamb, lookahead: {}, average: good, clip_norm: null,
        frozen: ["embedding/encodings"]}
out: OUT
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Salts as a table, and a recipe that reads it."""
    folder = tmp_path_factory.mktemp("curve")
    splits = ("train", "train", "train", "val", "test")
    rows = [
        f"{splits[(n + m) % 5]},{a}{n}{b}{m},{n / (n + m) + len(a)}"
        for a in ("Na", "K", "Li")
        for b in ("Cl", "F")
        for n in range(1, 6)
        for m in (1, 7)
    ]
    (folder / "salts.csv").write_text("\n".join(["split,formula,gap", *rows]))
    build([folder / "salts.csv"], folder / "salts.h5")
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("STORE", str(folder / "salts.h5")).replace("OUT", str(folder / "out")))
    return path


def test_training_sets_are_nested_and_do_not_depend_on_the_order(recipe):
    runs = plan_learning_curve(recipe, (), [20, 5, 10])
    sets = []
    for run in runs:
        _, _, data = prepare(run.recipe, None)
        with Store(run.recipe.data.store) as store:
            sets.append({store.material(store.material_of(int(k))).id for k in data.train})
    assert [len(one) for one in sets] == [5, 10, 20]
    assert sets[0] < sets[1] < sets[2]
    names = [f"m{k}" for k in range(50)]
    chosen = {names[k] for k in nested_choice(names, 7)}
    assert chosen == {names[::-1][k] for k in nested_choice(names[::-1], 7)}


def test_one_table_and_one_figure_of_all_sizes(recipe):
    runs = plan_learning_curve(recipe, (), [16, 1000])
    points = run_learning_curve(runs)
    out = runs[0].recipe.out.parent
    assert [point.materials for point in points] == [16, 1000]
    assert "property.materials is 1,000, and the training split has" in points[1].error
    with (out / TABLE).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["test", ""]
    assert float(rows[0]["mae_over_mean"]) == pytest.approx(points[0].mae / points[0].mean)
    assert (out / FIGURE).stat().st_size > 1000
    model = runs[0].recipe.out / "model.safetensors"
    written = model.stat().st_mtime_ns
    assert run_learning_curve(runs[:1]) == points[:1]  # a run that is done is left alone
    assert model.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("sizes", "told"), [("", "is not numbers"), ("100,100", "different numbers"), ("0,10", "different numbers")]
)
def test_a_mistake_is_one_line(recipe, sizes, told):
    mlip.cli._register()
    ran = CliRunner().invoke(mlip.cli.app, ["train", str(recipe), "--learning-curve", sizes])
    assert isinstance(ran.exception, MlipError)
    assert told in str(ran.exception)


def test_potentials_have_none(emt_store, tmp_path):
    from tests.emt_world import TINY_RECIPE

    (tmp_path / "r.yaml").write_text(TINY_RECIPE.replace("STORE", str(emt_store)).replace("OUT", str(tmp_path)))
    with pytest.raises(MlipError, match="recipes of property models"):
        plan_learning_curve(tmp_path / "r.yaml", (), [10])
