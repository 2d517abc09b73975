"""A target that nobody has thought of trains through the loop as it is: here masses, by a number for each element."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from ase.data import atomic_masses, atomic_numbers
from pydantic import BaseModel

from mlip.graph.batching import graph_mask
from mlip.graph.ends import graph_of_node
from mlip.graph.labeled_graphs import LabelArrays
from mlip.model_file import read_model_file, write_model_file
from mlip.training import loop
from mlip.training.log import read_metrics
from mlip.training.loop import train
from mlip.training.quantity import Quantity
from mlip.training.report import run_records
from mlip.training.task import Task
from mlip.training.terms import Term

ELEMENTS = ["Al", "Ni", "Cu", "Ag"]


@dataclass
class Metadata:
    provenance: dict[str, Any]


@dataclass
class Scales:
    """Knows what an atom of each element weighs."""

    config: BaseModel
    params: Any
    metadata: Metadata
    elements: list[str] = field(default_factory=lambda: ELEMENTS)
    n_parameters: int = 119

    def save(self, path: Path) -> Path:
        return write_model_file(path, {"metadata": {"provenance": self.metadata.provenance}}, self.params)


@dataclass
class Crystals:
    train: np.ndarray
    validation: np.ndarray
    elements: list[str] = field(default_factory=lambda: ELEMENTS)
    functional: str = "none"
    scale: np.ndarray = field(default_factory=lambda: np.array(1.0))

    def describe(self) -> str:
        return f"{len(self.train)} crystals to be weighed"


@dataclass(frozen=True)
class Masses:
    columns: tuple[str, ...] = ()

    def __call__(self, columns, indices) -> LabelArrays:
        starts = np.cumsum(columns["size"]) - columns["size"]
        means = np.add.reduceat(atomic_masses[columns["number"]], starts) / columns["size"]
        return LabelArrays({}, {"mass": means.astype(np.float32)})


@dataclass(frozen=True)
class Weighing(Task):
    """Of an atom's mean mass: u in the loss, kg/mol in the records and where it is shown."""

    noun = "pair of scales"
    file_name = "scales.safetensors"

    @property
    def quantities(self):
        return (Quantity("mass", "mass", "M", "kg/mol", ".5f", recorded=1e-3),)

    def weights(self, stage):
        return {"mass": 1.0}

    def initial_params(self):
        return {"of_element": np.zeros(119, np.float32)}

    def open_data(self, store, start, folder):
        return Crystals(store.indices("train"), store.indices("val"))

    def labels(self, store, data):
        return Masses()

    def label_counts(self, graph):
        return {"mass": graph_mask(graph).sum().astype(jnp.float32)}

    def terms(self, params, graph, scale, products="highest"):
        n_graphs = len(graph.n_node)
        of_atoms = scale * params["of_element"][graph.nodes["species"]]
        masses = jnp.zeros(n_graphs).at[graph_of_node(graph)].add(of_atoms) / jnp.maximum(graph.n_node, 1)
        error = jnp.where(graph_mask(graph), masses - graph.globals["mass"], 0.0)
        return {"mass": Term(error**2, jnp.abs(error).sum())}

    def export(self, params, data, provenance):
        return Scales(self.recipe.model, params, Metadata(provenance))


@pytest.fixture
def recipe(tiny_recipe, monkeypatch):
    for module in (loop, run_records):
        monkeypatch.setattr(module, "task_of", Weighing)
    return tiny_recipe("train.epochs=20", "train.learning_rate=10", "train.clip_norm=null")


def test_a_made_up_task_is_trained_validated_told_of_and_exported(recipe, capsys):
    path = train(recipe).path
    assert path == recipe.out / "scales.safetensors"
    header, params = read_model_file(path)
    weights = {symbol: params["of_element"][atomic_numbers[symbol]] for symbol in ELEMENTS}
    expected = {symbol: atomic_masses[atomic_numbers[symbol]] for symbol in ELEMENTS}
    assert weights == pytest.approx(expected, rel=0.02)  # 120 steps of Adam with little data

    validations = read_metrics(recipe.out, "validation")
    best = min(validations, key=lambda record: record["loss"])
    assert header["metadata"]["provenance"]["step"] == best["step"]
    said = capsys.readouterr().out
    assert "44 crystals to be weighed" in said
    assert f"M {validations[0]['mass_mae']:.5f} kg/mol" in said
    assert f"pair of scales of step {best['step']}: {path}" in said
    assert (recipe.out / "learning_curves.png").exists()


def test_a_made_up_task_goes_on_where_it_was_stopped(recipe, monkeypatch):
    undisturbed = recipe.model_copy(update={"out": recipe.out.with_name("undisturbed")})
    _, expected = read_model_file(train(undisturbed, quiet=True))
    timed_next, n_batches = loop.timed_next, 0

    def until_the_twentieth(batches):  # 6 steps an epoch
        nonlocal n_batches
        n_batches += 1
        if n_batches == 20:
            raise KeyboardInterrupt
        return timed_next(batches)

    monkeypatch.setattr(loop, "timed_next", until_the_twentieth)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, quiet=True)
    monkeypatch.setattr(loop, "timed_next", timed_next)
    _, params = read_model_file(train(recipe, resume=True, quiet=True))
    assert np.array_equal(params["of_element"], expected["of_element"])
