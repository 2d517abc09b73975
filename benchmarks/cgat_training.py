"""What a CGAT learns from real geometries of ALEXANDRIA, and what that is worth where labels are few.

The paper's recipe (recipes/cgat-hull.yaml) with smaller networks and fewer epochs, on the data pack's open structures:

- 8,253 geometries with volumes and densities of states at the Fermi level: DS-A is learned from (19 of 20) and
  validated on, DS-B is the test, as published;
- 278 of ALEXANDRIA's phases with formation energies and distances to the hull, split by composition 8 : 1 : 1 in each
  of `--folds` ways: from scratch, and going on from the network that has learned volumes.

    python benchmarks/cgat_training.py .../data --out runs/cgat --report cgat_training.md

Beside the errors stand those of two predictors that see the formula alone: the training set's mean, and a linear
model of the elements' fractions (ridge; its strength chosen on the validation split). Runs that are done are not done
again; a killed one is resumed.
"""

import argparse
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlip.benchmark.tables import Table
from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.property_model import PropertyModel
from mlip.training.loop import train
from mlip.training.recipe_file import load_recipe

RECIPE = Path(__file__).parent.parent / "recipes" / "cgat-hull.yaml"
GEOMETRIES = "properties/alexandria_superconductors.json.gz"
PHASES = "hull/alexandria_structures_with_hull_labels.json.gz"
SMALLER = (
    "model.features=32",
    "model.shell_features=64",
    "model.heads=3",
    "model.n_steps=3",
    "model.composition_steps=2",
    "model.output_widths=[128,64]",
    "model.element_features=32",
)
UNITS = {"volume": "Å³/atom", "dos_ef_per_atom": "states/eV", "e_form": "eV/atom", "e_above_hull": "eV/atom"}


class Material(NamedTuple):
    name: str
    frame: Frame
    split: str
    properties: dict[str, float]
    """As the store holds them: the volume is the cell's."""


def read(path: Path) -> list[dict[str, Any]]:
    return json.loads(gzip.decompress(path.read_bytes()))


def frame_of(record: dict[str, Any]) -> Frame:
    cell = np.array(record["lattice"])
    numbers = np.array([atomic_numbers[symbol] for symbol in record["species"]], np.int16)
    return Frame(numbers, np.array(record["frac_coords"]) @ cell, cell, np.ones(3, bool))


def geometries(data: Path) -> Iterator[Material]:
    rng = np.random.default_rng(0)
    for record in read(data / GEOMETRIES):
        split = "test" if record["split"] == "DS-B" else "val" if rng.random() < 0.05 else "train"
        n_atoms, volume = len(record["species"]), abs(float(np.linalg.det(record["lattice"])))
        properties = {"volume": volume, "dos_ef_per_atom": record["dos_ef"] / n_atoms}
        yield Material(record["mat_id"], frame_of(record), split, properties)


def phases(data: Path, fold: int) -> Iterator[Material]:
    """Of one composition, all on one side of the split."""
    records = read(data / PHASES)
    compositions = sorted({reduced(record["species"]) for record in records})
    order = np.random.default_rng(fold).permutation(len(compositions))
    rank = {composition: k / len(compositions) for composition, k in zip(compositions, order, strict=True)}
    for record in records:
        place = rank[reduced(record["species"])]
        split = "train" if place < 0.8 else "val" if place < 0.9 else "test"
        properties = {"e_form": record["e_form_pbe"], "e_above_hull": record["e_above_hull_pbe"]}
        yield Material(record["mat_id"], frame_of(record), split, properties)


def reduced(species: list[str]) -> str:
    return Atoms(species).symbols.formula.reduce()[0].format("hill")


def write_store(path: Path, materials: Iterator[Material]) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with StoreWriter(path) as writer:
            for material in materials:
                trajectory = Trajectory(material.name, [material.frame], "PBE", 3, material.properties)
                writer.add(trajectory, material.split)
    return path


def trained(store: Path, target: str, out: Path, epochs: int, *overrides: str) -> PropertyModel:
    """A run from its beginning to its end, or what it has left."""
    settings = (
        f"data.store={store}",
        "data.workers=0",
        f"property.name={target}",
        "train.batch_size=128",
        "train.accumulate=1",
        f"train.epochs={epochs}",
        "train.learning_rate=0.001",
        f"train.schedule.period={epochs}",
        f"out={out}",
    )
    exported = out / "model.safetensors"
    if not exported.exists():
        train(load_recipe(RECIPE, [*SMALLER, *settings, *overrides]), resume=out.exists())
    return PropertyModel.load(exported)


class Labeled(NamedTuple):
    """A split's structures, their elements' fractions and labels an atom."""

    frames: list[Frame]
    fractions: np.ndarray
    labels: np.ndarray


def labeled(path: Path, split: str, target: str) -> Labeled:
    with Store(path) as store:
        found = [m for m in store.materials() if m.split == split and m.relaxed is not None]
        frames = [store.relaxed_frame(material) for material in found]
    sizes = [len(frame.numbers) if target == "volume" else 1 for frame in frames]
    labels = [material.properties[target] / size for material, size in zip(found, sizes, strict=True)]
    fractions = np.array([np.bincount(f.numbers, minlength=119) / len(f.numbers) for f in frames])
    return Labeled(frames, fractions, np.array(labels))


def linear_error(train: Labeled, validation: Labeled, test: Labeled) -> float:
    """MAE of the best of some ridge regressions on the elements' fractions."""

    def predict(strength: float, of: Labeled) -> np.ndarray:
        x, mean = train.fractions, train.labels.mean()
        weights = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ (train.labels - mean))
        return mean + of.fractions @ weights

    def error(strength: float, of: Labeled) -> float:
        return float(np.abs(predict(strength, of) - of.labels).mean())

    return error(min(np.logspace(-4, 2, 13), key=lambda strength: error(strength, validation)), test)


def errors(store: Path, target: str, model: PropertyModel) -> dict[str, float]:
    """Mean absolute errors on the test split, of what the model knows the elements of."""
    train_set, validation, test = (labeled(store, split, target) for split in ("train", "val", "test"))
    known = {atomic_numbers[element] for element in model.elements}
    kept = [k for k, frame in enumerate(test.frames) if known.issuperset(frame.numbers)]
    test = Labeled([test.frames[k] for k in kept], test.fractions[kept], test.labels[kept])
    return {
        "structures": len(test.frames),
        "mean": float(np.abs(train_set.labels.mean() - test.labels).mean()),
        "linear": linear_error(train_set, validation, test),
        "cgat": float(np.abs(model.predict(test.frames) - test.labels).mean()),
    }


def row(label: str, target: str, found: list[dict[str, float]]) -> tuple:
    def cell(key: str) -> str:
        values = [one[key] for one in found]
        spread = f" ({min(values):.3g} to {max(values):.3g})" if len(values) > 1 else ""
        return f"{np.mean(values):.3g}{spread}"

    n_structures = sum(one["structures"] for one in found)
    return label, f"{target}, {UNITS[target]}", str(n_structures), cell("mean"), cell("linear"), cell("cgat")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data pack's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for stores and runs")
    parser.add_argument("--epochs", type=int, default=30, help="on the 8,253 geometries")
    parser.add_argument("--fine-epochs", type=int, default=100, help="on the phases")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--report", type=Path, help="a Markdown file")
    arguments = parser.parse_args()

    many = write_store(arguments.out / "geometries.h5", geometries(arguments.data))
    rows = []
    for target in ("volume", "dos_ef_per_atom"):
        model = trained(many, target, arguments.out / target, arguments.epochs, "property.largest=null")
        rows.append(row("8,253 geometries", target, [errors(many, target, model)]))
        print(*rows[-1], flush=True)
    start = f"init_from={arguments.out / 'volume' / 'model.safetensors'}"
    stores = [write_store(arguments.out / f"phases-{k}.h5", phases(arguments.data, k)) for k in range(arguments.folds)]
    for target in ("e_form", "e_above_hull"):
        for label, more in (("from scratch", ()), ("from volumes", (start,))):
            found = []
            for fold, few in enumerate(stores):
                out = arguments.out / f"{target}-{label.replace(' ', '-')}-{fold}"
                model = trained(few, target, out, arguments.fine_epochs, "train.batch_size=32", *more)
                found.append(errors(few, target, model))
            rows.append(row(f"278 phases, {label}", target, found))
            print(*rows[-1], flush=True)
    columns = ("learned from", "test: property", "structures", "mean of all", "linear in fractions", "CGAT")
    table = Table("cgat", "Mean absolute errors on the test split", columns, tuple(rows))
    print(table.to_markdown())
    if arguments.report:
        arguments.report.write_text(table.to_markdown())


if __name__ == "__main__":
    main()
