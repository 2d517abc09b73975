"""ALIGNN, CGAT and CrabNet on one split of a real property: does structure beat composition? And a learning curve.

    python benchmarks/property_networks.py .../data --out runs/properties --report property_networks.md

3,940 binary compounds of Materials Project with bulk moduli (Voigt, Reuss, Hill), split by composition 8 : 1 : 1. The
recipes of the three networks, made small (below) and short (`--epochs`): what two shared cores allow, and no statement
about networks of full size. Beside them the best constant, and a linear model of the elements' fractions. The learning
curve has training sets of `--sizes` within each other, each with the same number of steps. Runs that are done are not
done again; a killed one is resumed.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from cgat_training import Labeled, Material, errors, frame_of, labeled, linear_error, read, reduced, write_store

from mlip.benchmark.tables import Table
from mlip.data import Store
from mlip.evaluation.property_errors import evaluate_property
from mlip.property_model import PropertyModel
from mlip.training.loop import train
from mlip.training.recipe_file import load_recipe

BINARIES = "properties/mp_binary_elasticity.json.gz"
TARGET, UNIT = "bulk_modulus", "GPa"
COMMON = ("data.workers=0", f"property.name={TARGET}", "train.validate_every=1", "train.early_stopping=null")
NETWORKS = {
    "ALIGNN": (
        "alignn",
        "model.features=64",
        "model.embedding_features=32",
        "model.n_pair_layers=2",
        "model.n_bond_layers=2",
        "property.mean=null",
        "property.std=null",
        "train.batch_size=32",
        "train.learning_rate=0.002",
    ),
    "CGAT": (
        "cgat-hull",
        "model.features=32",
        "model.shell_features=64",
        "model.heads=3",
        "model.n_steps=3",
        "model.composition_steps=2",
        "model.output_widths=[128,64]",
        "model.element_features=32",
        "property.largest=null",
        "train.batch_size=32",
        "train.accumulate=1",
        "train.learning_rate=0.001",
    ),
    "CrabNet": (
        "crabnet",
        "model.features=128",
        "model.hidden=256",
        "model.output_widths=[128,64]",
        "train.batch_size=128",
        "train.validate_every=2",
    ),
}
"""A recipe of mlip, and what is changed in it."""


def binaries(data: Path) -> Iterator[Material]:
    """Of one composition, all on one side of the split."""
    records = [record for record in read(data / BINARIES) if 0 < record["bulk_modulus_vrh"] < 600]
    compositions = sorted({reduced(record["species"]) for record in records})
    order = np.random.default_rng(0).permutation(len(compositions))
    rank = {composition: k / len(compositions) for composition, k in zip(compositions, order, strict=True)}
    for record in records:
        place = rank[reduced(record["species"])]
        split = "train" if place < 0.8 else "val" if place < 0.9 else "test"
        yield Material(record["mp_id"], frame_of(record), split, {TARGET: record["bulk_modulus_vrh"]})


def trained(network: str, store: Path, out: Path, epochs: int, *overrides: str) -> PropertyModel:
    """A run from its beginning to its end, or what it has left."""
    recipe, *changes = NETWORKS[network]
    settings = [f"data.store={store}", f"out={out}", f"train.epochs={epochs}", *COMMON, *changes, *overrides]
    if network == "CGAT":
        settings.append(f"train.schedule.period={epochs}")
    exported = out / "model.safetensors"
    if not exported.exists():
        train(load_recipe(recipe, settings), resume=out.exists())
    return PropertyModel.load(exported)


def compared(store: Path, out: Path, epochs: int, seeds: int) -> Table:
    sets: dict[str, Labeled] = {split: labeled(store, split, TARGET) for split in ("train", "val", "test")}
    constant = np.abs(np.median(sets["train"].labels) - sets["test"].labels).mean()
    linear = linear_error(sets["train"], sets["val"], sets["test"])
    rows = [("best constant", "-", f"{constant:.2f}", "-"), ("linear in fractions", "-", f"{linear:.2f}", "-")]
    for network in NETWORKS:
        found, n_parameters = [], 0
        for seed in range(seeds):
            model = trained(network, store, out / f"{network}-{seed}", epochs, f"train.seed={seed}")
            found.append(errors(store, TARGET, model)["cgat"])  # of whatever model it is given
            n_parameters = model.n_parameters
            print(network, seed, found[-1], flush=True)
        rows.append((network, f"{n_parameters:,}", f"{np.mean(found):.2f}", " ".join(f"{mae:.2f}" for mae in found)))
    n_train, n_test = len(sets["train"].labels), len(sets["test"].labels)
    title = f"MAE of the bulk modulus, {UNIT}: {n_train:,} compounds to learn from, {n_test} to test, {epochs} epochs"
    return Table("networks", title, ("", "parameters", "MAE", "each seed"), tuple(rows))


def curve(store: Path, out: Path, epochs: int, sizes: list[int]) -> Table:
    """Errors of ALIGNN against the size of the training set; each run takes as many steps as that of all."""
    with Store(store) as opened:
        n_all = sum(material.split == "train" for material in opened.materials())
    rows = []
    for size in sorted({min(size, n_all) for size in sizes}):
        its_epochs = max(epochs, round(epochs * n_all / size))
        more = [f"property.materials={size}", f"train.validate_every={max(1, its_epochs // epochs)}"]
        model = trained("ALIGNN", store, out / f"curve-{size}", its_epochs, *more)
        with Store(store) as opened:
            found = evaluate_property(model, opened, "test")
        rows.append(
            (
                f"{size:,}",
                str(its_epochs),
                f"{found.mae:.2f}",
                f"{found.mae / found.mean_label:.3f}",
                str(len(found.ids)),
            )
        )
        print(*rows[-1], flush=True)
    columns = ("training materials", "epochs", f"MAE, {UNIT}", "MAE / mean", "compounds tested")
    return Table("curve", f"ALIGNN's learning curve: steps of {epochs} epochs of the largest set", columns, tuple(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the data pack's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the store and the runs")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--curve-epochs", type=int, default=20, help="of the learning curve's largest set")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 300, 1000, 3000])
    parser.add_argument("--report", type=Path, help="a Markdown file")
    arguments = parser.parse_args()

    store = write_store(arguments.out / "binaries.h5", binaries(arguments.data))
    text = [compared(store, arguments.out, arguments.epochs, arguments.seeds).to_markdown()]
    if arguments.sizes:
        text.append(curve(store, arguments.out, arguments.curve_epochs, arguments.sizes).to_markdown())
    print("\n".join(text))
    if arguments.report:
        arguments.report.write_text("\n".join(text))


if __name__ == "__main__":
    main()
