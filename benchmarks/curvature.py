"""Phonon frequencies and forces of a fine-tuned potential, with and without second derivatives in its loss.

The data are displaced supercells of 64 atoms of silicon and rock salt, PBEsol, of phono3py's examples: one or two atoms
displaced by 0.03 A (Si), all atoms at random (NaCl). Every fifth is kept for the error of forces, every fifth for
validation; the others, evenly chosen, are trained on. `mlip data curvature` (`mlip.data.displaced`) makes second
derivatives of consecutive training frames. The runs differ in `loss.curvature` alone; as the frames with second
derivatives make an epoch twice as long, the run without is there once with as many epochs, and once with as many steps.

Phonons of DFT are those of the harmonic force constants that fit the forces of all displaced supercells best, by
least squares with the crystal's symmetry (symfc). Those of a potential are its exact second derivatives in the same
supercell, at DFT's lattice constant. Both go through phonopy, on the same mesh, without the non-analytical term.

    mlip convert .../goldens/m3gnet m3gnet.safetensors
    python benchmarks/curvature.py m3gnet.safetensors .../data --out runs/curvature --report curvature.md

It needs phonopy and symfc. Variants that are done are not done again.
"""

import argparse
import gzip
import io
import json
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np
from ase import Atoms
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

import mlip
from mlip import Potential
from mlip.benchmark.tables import Table
from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.data.displaced import add_curvature
from mlip.evaluation.evaluate import evaluate, store_frames
from mlip.files.checksum import checksum_of
from mlip.files.whole_file import whole_file
from mlip.training.loop import train
from mlip.training.recipe import DataRecipe, InitRecipe, LossRecipe, Recipe, ScheduleRecipe, TrainRecipe

FILE = "static/pbesol_phonon_displacements_phono3py.extxyz.gz"
SETS = {"Si": "Si-PBEsol", "NaCl": "NaCl-rd"}
"""Crystals, and the names of their sets in the file."""
N_ATOMS = 64
SITES = 16
"""Every site of the ideal supercells is a multiple of a sixteenth of its edge."""
PRIMITIVE = np.array([[0, 0.25, 0.25], [0.25, 0, 0.25], [0.25, 0.25, 0]])
"""Of the face-centered cubic lattice, in edges of the supercell."""
MESH = (10, 10, 10)
FARTHEST = 0.3
"""A; atoms that move farther between two frames make no pair."""


class Variant(NamedTuple):
    """A run."""

    title: str
    curvature: float
    """Weight in the loss; 0: frames with second derivatives are left out."""
    longer: int = 1
    """Factor on the epochs."""


VARIANTS = {
    "without": Variant("without curvature, as many epochs", 0.0),
    "steps": Variant("without curvature, as many steps", 0.0, longer=2),
    "with": Variant("with curvature", 0.1),
}


def displaced_cells(data: Path) -> dict[str, list[Atoms]]:
    """The displaced supercells of each crystal, in the order of the file."""
    text = gzip.decompress((data / FILE).read_bytes()).decode()
    frames = ase.io.read(io.StringIO(text), ":", format="extxyz")
    return {
        crystal: [atoms for atoms in frames if atoms.info["set"] == name and len(atoms) == N_ATOMS]
        for crystal, name in SETS.items()
    }


def ideal(atoms: Atoms) -> Atoms:
    """The supercell that a displaced one is of."""
    found = Atoms(atoms.numbers, cell=atoms.cell, pbc=True)
    found.set_scaled_positions(np.round(SITES * atoms.get_scaled_positions()) / SITES)
    return found


def split_of(place: int) -> str:
    return {0: "test", 1: "val"}.get(place % 5, "train")


def frame_of(atoms: Atoms, place: int) -> Frame:
    labels = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    return Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, *labels, ionic_step=place)


def write_stores(cells: dict[str, list[Atoms]], n_train: int, folder: Path) -> tuple[Path, Path]:
    """The store of displaced supercells, and that with second derivatives."""
    plain, curved = folder / "displaced.h5", folder / "curved.h5"
    if not curved.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with StoreWriter(plain) as writer:
            for crystal, frames in cells.items():
                for split in ("train", "val", "test"):
                    places = [k for k in range(len(frames)) if split_of(k) == split]
                    if split == "train":
                        places = [places[k] for k in np.linspace(0, len(places) - 1, n_train).round().astype(int)]
                    chosen = [frame_of(frames[k], k) for k in places]
                    writer.add(Trajectory(f"{crystal}-{split}", chosen, "PBEsol", 3), split)
        with Store(plain) as store:
            print("second derivatives:", dict(add_curvature(store, curved, FARTHEST)))
    return plain, curved


def phonopy_of(cell: Atoms) -> Phonopy:
    """Of a supercell that phonopy keeps the atoms' order of."""
    given = PhonopyAtoms(numbers=cell.numbers, cell=cell.cell.array, scaled_positions=cell.get_scaled_positions())
    return Phonopy(given, supercell_matrix=np.eye(3, dtype=int), primitive_matrix=PRIMITIVE, log_level=0)


def frequencies(phonon: Phonopy) -> tuple[np.ndarray, np.ndarray]:
    """(q, band) THz, ascending, and the weights of q."""
    phonon.run_mesh(MESH, is_gamma_center=True)
    return np.sort(phonon.mesh.frequencies, axis=1), phonon.mesh.weights


def fitted_phonons(frames: list[Atoms]) -> Phonopy:
    """Harmonic force constants by least squares of all frames' forces, with the symmetry of the crystal."""
    cell = ideal(frames[0])
    moved = np.array([atoms.get_scaled_positions() - cell.get_scaled_positions() for atoms in frames])
    phonon = phonopy_of(cell)
    phonon.dataset = {
        "displacements": (moved - moved.round()) @ cell.cell.array,
        "forces": np.array([atoms.get_forces() for atoms in frames]),
    }
    phonon.produce_force_constants(fc_calculator="symfc", calculate_full_force_constants=False, show_drift=False)
    return phonon


def phonons_of(potential: Potential, cell: Atoms) -> Phonopy:
    """Exact second derivatives of a potential in the ideal supercell."""
    phonon = phonopy_of(cell)
    phonon.force_constants = potential.hessian(cell, atoms=phonon.primitive.p2s_map)
    phonon.symmetrize_force_constants(show_drift=False)
    return phonon


def frequency_errors(potential: Potential, cells: dict[str, list[Atoms]], folder: Path) -> dict[str, dict[str, float]]:
    """Of each crystal: MAE and mean error of frequencies on the mesh, the highest and the lowest frequency, THz."""
    found = {}
    for crystal, frames in cells.items():
        reference = folder / f"{crystal}.npy"
        if not reference.exists():
            np.save(reference, frequencies(fitted_phonons(frames))[0])
        expected = np.load(reference)
        values, weights = frequencies(phonons_of(potential, ideal(frames[0])))
        difference = values - expected
        found[crystal] = {
            "mae": float(np.average(np.abs(difference).mean(axis=1), weights=weights)),
            "mean": float(np.average(difference.mean(axis=1), weights=weights)),
            "highest": float(values.max()),
            "lowest": float(values.min()),
            "highest_dft": float(expected.max()),
        }
    return found


def force_errors(potential: Potential, store: Path) -> dict[str, float]:
    """MAE of the test frames' forces, eV/A, by crystal."""
    with Store(store) as opened:
        frames = list(store_frames(opened, "test"))
    return {
        crystal: evaluate(potential, [one for one in frames if one.material_id == f"{crystal}-test"])
        .rows[-1]
        .forces_mae
        for crystal in SETS
    }


def recipe_of(
    variant: Variant, potential: Path, stores: tuple[Path, Path], epochs: int, seed: int, out: Path
) -> Recipe:
    return Recipe(
        data=DataRecipe(store=stores[variant.curvature > 0], workers=0),
        model=mlip.load(potential).config,
        init_from=InitRecipe(potential=potential, reference_energies="refit"),
        loss=LossRecipe(
            kind="huber", huber_delta=0.01, energy=1.0, forces=1.0, stress=0.0, curvature=variant.curvature
        ),
        train=TrainRecipe(
            epochs=epochs * variant.longer,
            batch_size=4,
            learning_rate=3e-4,
            schedule=ScheduleRecipe(kind="cosine"),
            ema_decay=0.95,
            validate_every=variant.longer * max(epochs // 4, 1),
            seed=seed,
        ),
        out=out,
    )


def check_settings(options: argparse.Namespace) -> None:
    """Exit if the folder holds runs of another potential, data or training set, or of another number of epochs."""
    settings = {
        "potential": checksum_of(options.potential),
        "data": checksum_of(options.data / FILE),
        "train": options.train,
        "epochs": options.epochs,
    }
    path = options.out / "settings.json"
    before = json.loads(path.read_text()) if path.exists() else None
    if before != settings and any(options.out.glob("*/result.json")):
        raise SystemExit(f"{options.out} has runs with other settings ({before}); choose another --out")
    options.out.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as new:
        new.write_text(json.dumps(settings) + "\n")


def measure(name: str, recipe: Recipe, cells: dict[str, list[Atoms]], plain: Path) -> dict[str, Any]:
    """Train and evaluate, unless that is done."""
    result = recipe.out / "result.json"
    if not result.exists():
        shutil.rmtree(recipe.out, ignore_errors=True)  # of a run that was killed
        before = time.process_time()
        train(recipe, quiet=True)
        seconds = time.process_time() - before
        found = errors_of(name, mlip.load(recipe.out / "potential.safetensors"), cells, plain)
        result.write_text(json.dumps(found | {"cpu_seconds": seconds}))
    return json.loads(result.read_text())


def errors_of(name: str, potential: Potential, cells: dict[str, list[Atoms]], plain: Path) -> dict[str, Any]:
    frequency = frequency_errors(potential, cells, plain.parent)
    return {"variant": name, "frequencies": frequency, "forces": force_errors(potential, plain)}


def row_of(row: dict[str, Any]) -> tuple[str, ...]:
    title = VARIANTS[row["variant"]].title if row["variant"] in VARIANTS else row["variant"]
    found = [title]
    for crystal in SETS:
        of = row["frequencies"][crystal]
        found += [f"{of['mae']:.3f}", f"{of['mean']:+.3f}", f"{of['highest']:.2f}", f"{row['forces'][crystal]:.4f}"]
    return (*found, f"{row['cpu_seconds']:.0f}" if "cpu_seconds" in row else "-")


def table_of(rows: list[dict[str, Any]]) -> Table:
    columns = ["", *(f"{c} {x}" for c in SETS for x in ("MAE THz", "mean", "highest", "F eV/Å")), "CPU s"]
    highest = ", ".join(f"{crystal} {rows[0]['frequencies'][crystal]['highest_dft']:.2f}" for crystal in SETS)
    title = f"Frequencies against DFT's (highest: {highest} THz), forces of the frames kept out (MAE)"
    return Table("curvature", title, tuple(columns), tuple(row_of(row) for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential", type=Path, help="a potential to start from, .safetensors")
    parser.add_argument("data", type=Path, help="the data pack's folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for stores, runs and results")
    parser.add_argument("--train", type=int, default=16, help="training frames of each crystal")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--report", type=Path, help="write the table here as Markdown")
    options = parser.parse_args()

    check_settings(options)
    cells = displaced_cells(options.data)
    stores = write_stores(cells, options.train, options.out)
    rows = [errors_of("before", mlip.load(options.potential), cells, stores[0])]
    print(*row_of(rows[-1]), sep=" | ", flush=True)
    for name in options.variants:
        out = options.out / f"{name}-{options.seed}"
        recipe = recipe_of(VARIANTS[name], options.potential, stores, options.epochs, options.seed, out)
        rows.append(measure(name, recipe, cells, stores[0]))
        print(*row_of(rows[-1]), sep=" | ", flush=True)
    text = table_of(rows).to_markdown()
    print(text)
    if options.report:
        options.report.write_text(text)


if __name__ == "__main__":
    main()
