"""Bars and live tables in a notebook: one output of the cell, written anew, without widgets."""

import sys
import time
from types import ModuleType

import pytest
from rich import console as rich_console

from mlip.progress import bytes_bar, count_bar
from mlip.training.log import RunLog
from mlip.training.potentials.potential_loss import QUANTITIES


class Output:
    """An output of a cell, as IPython's display handle: all that it ever showed."""

    def __init__(self, first: str):
        self.shown = [first]

    def update(self, page: str) -> None:
        self.shown.append(page)


@pytest.fixture
def outputs(monkeypatch) -> list[Output]:
    """The outputs of a notebook's cell; IPython is not needed for it."""
    outputs: list[Output] = []

    def display(*pages, display_id: bool = False, **_) -> Output:
        outputs.extend(Output(page) for page in pages)
        return outputs[-1]

    module = ModuleType("IPython.display")
    module.HTML, module.display = str, display
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(rich_console, "_is_jupyter", lambda: True)
    return outputs


def test_a_bar_is_one_output_that_ends_full(outputs):
    with count_bar() as bar:
        assert list(bar.track(range(3), description="relaxing")) == [0, 1, 2]
    (output,) = outputs
    assert output.shown[-1].startswith("<pre")
    assert "relaxing" in output.shown[-1]
    assert "3/3" in output.shown[-1]


def test_it_moves_while_the_cell_runs(outputs):
    with count_bar() as bar:
        task = bar.add_task("slow", total=2)
        bar.advance(task)
        deadline = time.monotonic() + 20
        while not any("1/2" in page for page in outputs[0].shown):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_bar_of_bytes_is_gone_in_the_end(outputs):
    with bytes_bar() as bar:
        bar.update(bar.add_task("weights", total=10), completed=10)
    (output,) = outputs
    assert "weights" in "".join(output.shown)
    assert output.shown[-1] == ""


def test_a_bar_that_is_not_wanted_shows_nothing(outputs):
    with count_bar(shown=False) as bar:
        list(bar.track(range(3)))
    assert outputs == []


def test_a_training_shows_its_table_and_takes_it_away(outputs, tmp_path, monkeypatch):
    with RunLog(tmp_path, n_steps=400, quantities=QUANTITIES) as log:
        log.write("train", 20, {"loss": 0.0123, "energy_mae": 23.14, "structures_per_second": 1234.5})
        log._live.refresh()
        (output,) = outputs
        assert "0.0123" in output.shown[-1]
        assert "20/400" in output.shown[-1]
    assert output.shown[-1] == ""
