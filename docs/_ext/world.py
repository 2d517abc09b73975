"""What the tutorials run on: a store, a small potential, CIFs, VASP runs; made once, from what the repository bundles.

The potential is that of `recipes/quickstart.yaml`: minutes on two cores. Each notebook works in a folder of its own
that has copies of all this.
"""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from vasp_runs import write_run

from mlip.data import Store
from mlip.data.records import Frame

_REPOSITORY = Path(__file__).resolve().parents[2]
_FUNCTIONAL = "surrogate-CHGNet-0.3.0"
_N_CIFS = 30


def make_world(folder: Path) -> Path:
    """The folder, made if it is not there."""
    if (folder / "made").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    store, run, potential = folder / "store.h5", folder / "run", folder / "potential.safetensors"
    if not store.is_file():
        _mlip(
            "data", "build", _REPOSITORY / "datasets" / "quickstart", "--out", store, "--functional", _FUNCTIONAL,
            "--subsample", "0.05", "--per-atom", "--outliers", "pbesol", "--split", "0.85,0.05,0.10",
        )  # fmt: skip
    if not potential.is_file():
        shutil.rmtree(run, ignore_errors=True)
        recipe = _REPOSITORY / "recipes" / "quickstart.yaml"
        _mlip("train", recipe, f"data.store={store}", f"out={run}")
        shutil.copy(run / "potential.safetensors", potential)
    _write_cifs(store, folder / "cifs")
    _write_vasp_runs(store, folder / "vasp_runs")
    _write_table(store, folder / "volumes.csv")
    (folder / "made").touch()
    return folder


def _mlip(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "mlip", *map(str, arguments)], check=True, cwd=_REPOSITORY)


def _write_cifs(store: Path, folder: Path) -> None:
    """First structures of held-out relaxation paths."""
    folder.mkdir(exist_ok=True)
    with Store(store) as data:
        materials = [one for one in data.materials() if one.split == "test" and one.dimensionality == 3]
        for material in materials[:: max(1, len(materials) // _N_CIFS)][:_N_CIFS]:
            ase.io.write(folder / f"{material.id}.cif", _as_atoms(data.frame(material.frames[0])))


def _write_vasp_runs(store: Path, folder: Path) -> None:
    """Paths of held-out oxides and sulfides as VASP runs: what a user would bring."""
    with Store(store) as data:
        for material in data.materials():
            frames = [data.frame(k) for k in material.frames]
            is_wanted = material.dimensionality == 3 and {8, 16} & set(frames[0].numbers.tolist())
            if is_wanted and material.split != "train":
                number = len(list(folder.glob("*"))) + 1
                write_run(folder / f"{number:02d}_{material.formula}", [_as_atoms(frame) for frame in frames])


def _write_table(store: Path, path: Path) -> None:
    """Formulas and volumes of the relaxed crystals."""
    with Store(store) as data, path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["formula", "volume_per_atom"])
        for material in data.materials():
            frame = data.relaxed_frame(material)
            if frame is not None and material.dimensionality == 3:
                table.writerow([material.formula, f"{abs(np.linalg.det(frame.cell)) / len(frame.numbers):.4f}"])


def _as_atoms(frame: Frame) -> Atoms:
    """Equal elements together, as a POSCAR has them; with the labels."""
    order = np.argsort(frame.numbers, kind="stable")
    atoms = Atoms(frame.numbers[order], frame.positions[order], cell=frame.cell, pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces[order], stress=frame.stress)
    return atoms
