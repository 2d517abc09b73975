"""Errors of CrabNet on the tables that its authors published with it, beside their published errors.

The recipe that comes with mlip, recipes/crabnet.yaml, with mat2vec's vectors of the elements, on CSVs of formulas and
targets: where a table states its split, on that, else 70 / 15 / 15 by composition. A material of a table is its formula
letter by letter, as for the authors, who average the targets of equal ones. Where two CPU cores are too few for the
original's dimensions and epochs, `--features 128 --epochs 20 --minutes 25` makes them smaller; the report says what was
run. With --peer-python, an environment with pip's `crabnet`, that is trained on the same rows with the same widths,
epochs and batches.

    python benchmarks/crabnet_accuracy.py .../data/crabnet --tables aflow__ael_debye_temperature --out runs/crabnet

Runs that are done are not done again; a killed one, or one that is out of minutes, is resumed. Compositions a second,
from formulas to predictions with their uncertainties, are timed at the end.
"""

import argparse
import csv
import gzip
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
from side_by_side import machine

from mlip.benchmark.tables import Table
from mlip.data import Store
from mlip.data.build import BuildSettings, build
from mlip.data.element_vectors import read_element_vectors, vectors_by_number
from mlip.data.properties import property_of
from mlip.evaluation.property_errors import PropertyErrors, evaluate_property
from mlip.graph.composition import compositions_of_formulas
from mlip.property_model import PropertyModel
from mlip.training.loop import train
from mlip.training.recipe_file import load_recipe
from mlip.training.run_export import export_run
from mlip.training.run_folder import RunFolder

PUBLISHED = {
    "aflow__ael_debye_temperature": (33.46, "K", "the same split"),
    "mp_bulk_modulus": (11.21, "GPa", "the same split"),
    "matbench_expt_gap": (0.338, "eV", "mean of five folds"),
    "matbench_castelli": (0.127, "eV/atom", "another split"),
}
"""MAE of CrabNet, unit, and of which split: metrics/all_metrics.csv of anthony-wang/CrabNet, commit 7436ccdf."""
SOURCE = "published: anthony-wang/CrabNet, metrics/all_metrics.csv at 7436ccdf"
SCREENED = 4_096


def build_store(table: Path, out: Path) -> Path:
    """The store of a table: ids are the formulas, with their split where one is stated."""
    if out.exists():
        return out
    with gzip.open(table, "rt") as file:
        rows = list(csv.DictReader(file))
    targets: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        targets.setdefault((row.get("split", ""), row["formula"]), []).append(float(row["target"]))
    plain = out.with_suffix(".csv")
    with plain.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "split", "formula", "target"))
        for (split, formula), of_one in targets.items():
            writer.writerow((f"{formula} {split}".strip(), split, formula, np.mean(of_one)))
    build([plain], out, BuildSettings(fractions=(0.7, 0.15, 0.15), split_by="composition"))
    return out


def batch_size(n: int) -> int:
    """The authors' rule."""
    return int(np.clip(2 ** round(np.log2(n) - 4), 128, 4096))


def trained(store: Path, vectors: Path, out: Path, options) -> tuple[PropertyModel, int]:
    """The best model so far, and how many epochs its run has behind it."""
    with Store(store) as opened:
        n = len(opened.indices("train"))
    recipe = load_recipe(
        Path(__file__).parent.parent / "recipes" / "crabnet.yaml",
        [
            *(f"data.store={store}", f"out={out}", "data.workers=0", f"train.epochs={options.epochs}"),
            *("property.name=target", f"property.element_vectors={vectors}", "model.element_vectors=fixed"),
            *(f"model.features={options.features}", f"train.batch_size={batch_size(n)}"),
        ],
    )
    folder, model = RunFolder(out), out / "model.safetensors"
    if not model.exists() and not (options.minutes == 0 and folder.has_checkpoints()):
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.alarm(round(60 * options.minutes))
        try:
            train(recipe, resume=folder.has_checkpoints())
        except KeyboardInterrupt:
            print(f"{out}: out of minutes")
        signal.alarm(0)
    last = folder.last_checkpoint()
    if not model.exists():
        model = export_run(out, out / "best.safetensors").path
    return PropertyModel.load(model), last // -(-n // recipe.train.batch_size)


def write_rows(store: Path, vectors: Path, out: Path) -> Path:
    """The rows of all splits and the elements' vectors, as the peer's side reads them."""
    arrays = {"vectors": vectors_by_number(read_element_vectors(vectors), 118)[1:]}
    with Store(store) as opened:
        rows = list(opened.materials())
        targets = np.array([property_of(opened, row, "target") for row in rows])
    many = compositions_of_formulas([row.formula for row in rows])
    for split in ("train", "val", "test"):
        chosen = np.array([row.split == split for row in rows])
        arrays[f"species_{split}"], arrays[f"fractions_{split}"] = many[chosen]
        arrays[f"targets_{split}"] = targets[chosen]
    np.savez(out, **arrays)
    return out


def peer_mae(store: Path, vectors: Path, errors: PropertyErrors, options) -> str:
    """Mean absolute error of pip's `crabnet` on the same test rows, and its epochs."""
    predictions = store.with_suffix(".peer.npy")
    if not predictions.exists():
        with Store(store) as opened:
            batch = batch_size(len(opened.indices("train")))
        data = write_rows(store, vectors, store.with_suffix(".npz"))
        script = Path(__file__).parent / "sides" / "crabnet_train_side.py"
        sizes = ("--features", options.features, "--epochs", options.epochs, "--batch", batch)
        subprocess.run(list(map(str, [options.peer_python, script, data, predictions, *sizes])), check=True)
    *predicted, epochs = np.load(predictions)
    return f"{np.abs(np.array(predicted) - errors.labels).mean():.4g} ({epochs:.0f} epochs)"


def row_of(name: str, model: PropertyModel, epochs: int, errors: PropertyErrors, peer: str) -> tuple[str, ...]:
    published, unit, of_split = PUBLISHED[name]
    correlation = np.corrcoef(*(np.argsort(np.argsort(x)) for x in (np.abs(errors.errors), errors.uncertainties)))[0, 1]
    return (
        f"{name}, {unit}",
        str(len(errors.ids)),
        str(epochs),
        f"{model.n_parameters / 1e6:.1f} M",
        f"{errors.mae_of_median:.4g}",
        f"{errors.mae:.4g}",
        peer,
        f"{100 * errors.mae / errors.mean_label:.1f}",
        f"{published:g} ({of_split})",
        f"{100 * errors.within_uncertainty:.0f} %, {correlation:.2f}",
    )


def compositions_a_second(model: PropertyModel, formulas: list[str]) -> float:
    """From formulas to predictions, after compilation."""
    many = [formulas[k % len(formulas)] for k in range(SCREENED)]
    model.predict(many)
    start = time.perf_counter()
    model.predict_with_uncertainty(many)
    return SCREENED / (time.perf_counter() - start)


def _header(options) -> str:
    where = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in machine().items())
    widths = "" if options.features == 512 else f" with {options.features} features of an element, not 512"
    return (
        f"# CrabNet on its authors' tables\n\nWritten by `benchmarks/crabnet_accuracy.py`: "
        f"recipes/crabnet.yaml{widths}, at most {options.epochs} epochs of the original's 300, one seed. {where}.\n\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of the tables")
    parser.add_argument("--tables", nargs="+", default=list(PUBLISHED), choices=list(PUBLISHED))
    parser.add_argument("--out", type=Path, required=True, help="folder of stores and runs")
    parser.add_argument("--features", type=int, default=512, choices=(512, 256, 128, 64))
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=24 * 60, help="of training, a table; 0 takes what is there")
    parser.add_argument("--report", type=Path, help="write the table here as Markdown")
    parser.add_argument("--peer-python", help="of an environment with PyTorch and pip's crabnet")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    vectors = options.data / "mat2vec_embedding.csv.gz"
    rows, rate = [], 0.0
    for name in options.tables:
        store = build_store(options.data / f"{name}.csv.gz", options.out / f"{name}.h5")
        model, epochs = trained(store, vectors, options.out / name, options)
        with Store(store) as opened:
            errors = evaluate_property(model, opened, "test")
        peer = peer_mae(store, vectors, errors, options) if options.peer_python else "-"
        rows.append(row_of(name, model, epochs, errors, peer))
        rate = compositions_a_second(model, errors.formulas)
    table = Table(
        "crabnet_accuracy",
        "Mean absolute errors on the test split",
        (
            *(
                "",
                "materials",
                "epochs",
                "parameters",
                "median",
                "CrabNet, here",
                "pip's crabnet, here",
                "err %",
                "CrabNet, published",
            ),
            "errors within uncertainty, rank correlation",
        ),
        tuple(rows),
        (
            "median: the median of the test labels as the prediction for all. err %: MAE over the mean of the labels' "
            "absolute values. Rank correlation: of error and uncertainty.",
            f"{SOURCE}.",
            f"Screening with the last model: {rate:,.0f} compositions a second, from formulas.",
        ),
    )
    print(table.to_markdown())
    if options.report:
        options.report.write_text(_header(options) + table.to_markdown())


if __name__ == "__main__":
    main()
