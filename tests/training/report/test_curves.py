"""Learning curves show every loss there is."""

import json

import pytest
from matplotlib.figure import Figure

from mlip.training.log import METRICS
from mlip.training.quantity import Quantity
from mlip.training.report import curves


@pytest.mark.parametrize(("losses", "scale"), [((1.0, 0.1, 0.01), "log"), ((0.5, -0.2, -0.9), "linear")])
def test_a_loss_below_zero_is_on_a_linear_axis(losses, scale, tmp_path, monkeypatch):
    records = [{"kind": "train", "step": k, "loss": loss, "mass_mae": None} for k, loss in enumerate(losses)]
    (tmp_path / METRICS).write_text("".join(json.dumps(record) + "\n" for record in records))
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    curves.plot_learning_curves(tmp_path, [Quantity("mass", "mass", "M", "u")])
    (panel,) = drawn[0].axes  # masses have no labels: there is nothing to draw
    assert panel.get_yscale() == scale
    assert panel.get_ylabel() == "loss"
    assert panel.lines[0].get_ydata() == pytest.approx(losses)
