"""What a potential that was trained before is worth on new data, and what it forgets there.

A published potential goes on with another functional's or dimensionality's data, and the same network starts from
scratch there: the same frames of the new data, steps and learning rate schedule. What is forgotten is measured on
crystals of the kind that the potential was trained on. Variants: reference energies E0 refitted or kept, lower layers
frozen, and frames of the old kind replayed in every batch on top of the new ones, with their labels or with what the
potential predicted for them before: then nothing new is to be learned from them.

    mlip convert .../goldens/m3gnet m3gnet.safetensors
    python benchmarks/transfer.py m3gnet.safetensors .../data --out runs/transfer --report transfer.md

Variants that are done are not done again.
"""

import argparse
import gzip
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ase.io
from ase import Atoms

import mlip
from mlip import Potential
from mlip.benchmark.tables import Table
from mlip.data import Store
from mlip.data.build import BuildSettings, build
from mlip.evaluation.evaluate import evaluate, store_frames
from mlip.evaluation.relabel import relabel
from mlip.training.loop import train
from mlip.training.potentials.potential_dataset import frames_of_elements
from mlip.training.recipe import (
    DataRecipe,
    InitRecipe,
    LossRecipe,
    Recipe,
    ReplayRecipe,
    ScheduleRecipe,
    TrainRecipe,
)

BATCH = 16
"""New frames a step; the replayed ones come on top."""
REPLAYED = 8
"""Old frames a step, on average."""
OLD = "benchmarks/mptrj-random-1k"
LOWER_LAYERS = ("embedding/*", "bond_embedding/*", "three_body_[01]/*", "convolution_[01]/*")
"""Of an M3GNet: all but the last block and the readout."""


class NewData(NamedTuple):
    """What the potential is to learn."""

    title: str
    frames: Callable[[Path], list[Atoms]]
    """Of the data pack's folder; `material_id` in info says which frames must not be torn apart."""
    functional: str
    fractions: tuple[float, float, float]
    """Of train, val and test."""
    epochs: int


class Variant(NamedTuple):
    """A way to learn it."""

    title: str
    learning_rate: float
    from_scratch: bool = False
    reference_energies: str = "refit"
    frozen: tuple[str, ...] = ()
    replay: Literal["labels", "predictions"] | None = None
    """What the replayed frames are labeled with."""


def read(path: Path) -> list[Atoms]:
    return ase.io.read(io.StringIO(gzip.decompress(path.read_bytes()).decode()), ":", format="extxyz")


def layers(data: Path) -> list[Atoms]:
    """Relaxation paths of phosphorene, GeSe2 and graphene at many strains; a run is a material."""
    return [labeled(atoms, atoms.info["run_id"]) for atoms in read(data / "lowdim/pbe_2d_relaxations_mech2d.extxyz.gz")]


def pbesol(data: Path) -> list[Atoms]:
    """Molecular dynamics of Li10GeP2S12, in blocks of 12 steps so that hardly a test frame has a neighbor in the
    training set, and random displacements in Si and NaCl, which are independent of each other."""
    steps = read(data / "trajectories/pbesol_md_LGPS.extxyz.gz")[::2]
    displaced = read(data / "static/pbesol_phonon_displacements_phono3py.extxyz.gz")
    small = [atoms for atoms in displaced if len(atoms) <= 64][::2]
    return [labeled(atoms, f"md-{k // 6:03d}") for k, atoms in enumerate(steps)] + [
        labeled(atoms, f"displaced-{k:03d}") for k, atoms in enumerate(small)
    ]


def crystals(data: Path) -> list[Atoms]:
    """The old kind: small crystals of MPtrj, relaxation steps of the Materials Project."""
    small = [atoms for atoms in read(data / f"{OLD}.extxyz.gz") if len(atoms) <= 16]
    return [labeled(atoms, atoms.info["mptrj_traj_id"]) for atoms in small]


def labeled(atoms: Atoms, material_id: str) -> Atoms:
    """With its id alone as info."""
    atoms.info = {"material_id": material_id}
    return atoms


NEW = {
    "2d": NewData("2D relaxation paths (PBE)", layers, "PBE", (0.5, 0.1, 0.4), 15),
    "pbesol": NewData("PBEsol: molecular dynamics, phonon displacements", pbesol, "PBEsol", (0.5, 0.1, 0.4), 10),
}
VARIANTS = {
    "scratch": Variant("from scratch", 1e-3, from_scratch=True),
    "refit": Variant("fine-tuned, E0 refitted", 3e-4),
    "keep": Variant("fine-tuned, E0 kept", 3e-4, reference_energies="keep"),
    "replay": Variant("fine-tuned, E0 refitted, replay", 3e-4, replay="labels"),
    "keep-replay": Variant("fine-tuned, E0 kept, replay", 3e-4, reference_energies="keep", replay="labels"),
    "recall": Variant("fine-tuned, E0 refitted, replay of its predictions", 3e-4, replay="predictions"),
    "keep-recall": Variant(
        "fine-tuned, E0 kept, replay of its predictions", 3e-4, reference_energies="keep", replay="predictions"
    ),
    "frozen": Variant("fine-tuned, E0 refitted, all but the last block frozen", 3e-4, frozen=LOWER_LAYERS),
    "fast": Variant("fine-tuned, E0 refitted, learning rate 0.001", 1e-3),
}


def store_of(name: str, frames: list[Atoms], settings: BuildSettings, out: Path) -> Path:
    """Built when it is not there."""
    path = out / "stores" / f"{name}.h5"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        source = path.with_suffix(".extxyz")
        ase.io.write(source, frames)
        build([source], path, settings)
    return path


def recipe_of(variant: Variant, new: NewData, store: Path, replayed: Path | None, potential: Path, out: Path) -> Recipe:
    """A short run; Huber's loss, as a few of the old crystals have forces of tens of eV/A."""
    batch = BATCH + REPLAYED if replayed else BATCH
    replay = ReplayRecipe(store=replayed, share=REPLAYED / (BATCH + REPLAYED)) if replayed else None
    start = InitRecipe(potential=potential, reference_energies=variant.reference_energies)
    return Recipe(
        data=DataRecipe(store=store, workers=0, replay=replay),
        model=mlip.load(potential).config,
        init_from=None if variant.from_scratch else start,
        loss=LossRecipe(kind="huber", huber_delta=0.01, energy=1.0, forces=1.0, stress=0.1, stress_unit="GPa"),
        train=TrainRecipe(
            epochs=new.epochs,
            batch_size=batch,
            learning_rate=variant.learning_rate,
            schedule=ScheduleRecipe(kind="cosine"),
            frozen=variant.frozen,
            ema_decay=0.99,
            validate_every=4,
        ),
        out=out,
    )


def errors_of(potential: Potential, store: Path) -> list[float] | None:
    """MAEs on the test set, meV/atom, eV/A and GPa; None if the potential does not know all of its elements."""
    with Store(store) as opened:
        known = frames_of_elements(opened, "test", None, potential.elements)
        if len(known) < len(opened.indices("test")):
            return None
        row = evaluate(potential, store_frames(opened, "test")).rows[-1]
    return [row.energy_mae, row.forces_mae, row.stress_mae]


def measure(name: str, recipe: Recipe, new: Path, old: Path) -> dict[str, Any]:
    """Train and evaluate on both test sets, unless that is done."""
    result, trained = recipe.out / "result.json", recipe.out / "potential.safetensors"
    if not trained.exists():
        shutil.rmtree(recipe.out, ignore_errors=True)  # of a run that was killed
        train(recipe, quiet=True)
    if not result.exists():
        potential = mlip.load(trained)
        found = {"variant": name, "new": errors_of(potential, new), "old": errors_of(potential, old)}
        result.write_text(json.dumps(found))
    return json.loads(result.read_text())


def table(name: str, rows: list[dict[str, Any]], n_test: tuple[int, int], n_steps: int) -> Table:
    columns = ("", "new: E meV/atom", "F eV/Å", "S GPa", "old: E meV/atom", "F eV/Å", "S GPa")
    title = f"{NEW[name].title}: test errors (MAE) on {n_test[0]} new and {n_test[1]} old frames, {n_steps} steps"
    return Table(name, title, columns, tuple(row_of(row) for row in rows))


def row_of(row: dict[str, Any]) -> tuple[str, ...]:
    title = VARIANTS[row["variant"]].title if row["variant"] in VARIANTS else row["variant"]
    return (title, *cells(row["new"]), *cells(row["old"]))


def cells(errors: list[float] | None) -> list[str]:
    if errors is None:
        return ["-"] * 3
    return [f"{error:.{digits}f}" for error, digits in zip(errors, (1, 4, 3), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential", type=Path, help="an M3GNet, .safetensors")
    parser.add_argument("data", type=Path, help="the data pack's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for stores, runs and results")
    parser.add_argument("--new", nargs="+", choices=NEW, default=list(NEW))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--report", type=Path, help="write the tables here as Markdown")
    options = parser.parse_args()

    old_settings = BuildSettings(fractions=(0.6, 0.1, 0.3), functional="PBE")
    old = store_of("old", crystals(options.data), old_settings, options.out)
    published, recalled = mlip.load(options.potential), options.out / "stores" / "recalled.h5"
    if not recalled.exists():
        with Store(old) as opened:
            relabel(published, opened, recalled)
    replayed = {"labels": old, "predictions": recalled, None: None}
    tables = []
    for name in options.new:
        new = NEW[name]
        settings = BuildSettings(fractions=new.fractions, functional=new.functional)
        store = store_of(name, new.frames(options.data), settings, options.out)
        rows = [{"variant": "before", "new": errors_of(published, store), "old": errors_of(published, old)}]
        for variant in options.variants:
            out = options.out / f"{name}-{variant}"
            chosen = VARIANTS[variant]
            recipe = recipe_of(chosen, new, store, replayed[chosen.replay], options.potential, out)
            rows.append(measure(variant, recipe, store, old))
            print(*row_of(rows[-1]), flush=True)
        with Store(store) as opened_new, Store(old) as opened_old:
            n_test = len(opened_new.indices("test")), len(opened_old.indices("test"))
            n_steps = new.epochs * -(-len(opened_new.indices("train")) // BATCH)
        tables.append(table(name, rows, n_test, n_steps).to_markdown())
        print(tables[-1], flush=True)
    if options.report:
        options.report.write_text("\n".join(tables))


if __name__ == "__main__":
    main()
