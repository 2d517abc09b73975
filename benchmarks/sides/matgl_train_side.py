"""matgl's side of train_quality.py: an M3GNet trained by matgl's own `MGLPotentialTrainer`, and what it predicts.

    python matgl_train_side.py settings.json

Runs with matgl and its dependencies alone. The settings hold what both sides have in common, the extended XYZ files of
the frames (labels as REF_energy, REF_forces, REF_stress) and the one to be written, with predictions as those files
have labels. The last line of output is JSON: number of parameters, versions, CPU seconds from the start to the trained
network.
"""

import json
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers
from lightning.pytorch.callbacks import ModelCheckpoint
from matgl.ext.ase import PESCalculator
from matgl.models import M3GNet
from matgl.utils.training import MGLDatasetLoader, MGLPotentialTrainer, fit_element_refs
from protocol import versions
from pymatgen.io.ase import AseAtomsAdaptor

KEYS = {"energy_key": "REF_energy", "forces_key": "REF_forces", "stress_key": "REF_stress"}


def network(settings: dict, elements: tuple[str, ...]) -> M3GNet:
    return M3GNet(
        element_types=elements,
        dim_node_embedding=settings["units"],
        dim_edge_embedding=settings["units"],
        units=settings["units"],
        nblocks=settings["n_blocks"],
        cutoff=settings["cutoff"],
        threebody_cutoff=settings["three_body_cutoff"],
        is_intensive=False,
        use_smooth=True,
    )


def trainer(settings: dict, model: M3GNet, force_rms: float, best: ModelCheckpoint) -> MGLPotentialTrainer:
    return MGLPotentialTrainer(
        model,
        energy_weight=settings["energy"],
        force_weight=settings["forces"],
        stress_weight=settings["stress"],
        loss="huber_loss",
        loss_params={"delta": settings["huber_delta"]},
        data_std=force_rms,  # the "typical recipe" of its docstring
        lr=settings["learning_rate"],
        decay_steps=settings["epochs"],  # its cosine goes by epochs
        decay_alpha=settings["final_fraction"],
        batch_size=settings["batch_size"],
        max_epochs=settings["epochs"],
        accelerator="cpu",
        devices=1,
        seed=settings["seed"],
        loader_kwargs={"num_workers": 0},  # all sides have one process
        trainer_kwargs={
            "callbacks": [best],
            "logger": False,
            "gradient_clip_val": settings["clip_norm"],
            "enable_progress_bar": False,
        },
    )


def train(settings: dict):
    """The potential of the epoch with the lowest validation loss."""
    frames = ase.io.read(settings["train"], ":")
    elements = tuple(sorted({symbol for atoms in frames for symbol in atoms.symbols}, key=atomic_numbers.get))
    sets = {
        name: MGLDatasetLoader.from_extxyz(
            path, cutoff=settings["cutoff"], element_types=elements, save_cache=False, **KEYS
        )
        # Its trainer wants a test set too: the real one is evaluated below.
        for name, path in (("train", settings["train"]), ("valid", settings["val"]), ("test", settings["val"]))
    }
    references = fit_element_refs(
        [AseAtomsAdaptor.get_structure(atoms) for atoms in frames],
        [atoms.info["REF_energy"] for atoms in frames],
        elements,
    )
    force_rms = float(np.sqrt(np.mean(np.concatenate([atoms.arrays["REF_forces"] for atoms in frames]) ** 2)))
    best = ModelCheckpoint(dirpath=settings["out"], monitor="val_Total_Loss", mode="min")
    fitting = trainer(settings, network(settings, elements), force_rms, best)
    fitting.fit(sets, atomrefs=references)
    fitting.lit_module.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])
    return fitting.lit_module.model


def predicted(potential, atoms: Atoms) -> Atoms:
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    atoms.calc = PESCalculator(potential, stress_unit="eV/A3", use_voigt=True)
    atoms.info |= {"REF_energy": atoms.get_potential_energy(), "REF_stress": atoms.get_stress()}
    atoms.arrays["REF_forces"] = atoms.get_forces()
    atoms.calc = None
    return atoms


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    potential = train(settings).eval()
    seconds = time.process_time()
    ase.io.write(settings["predictions"], [predicted(potential, atoms) for atoms in ase.io.read(settings["test"], ":")])
    count = sum(parameter.numel() for parameter in potential.model.parameters())
    said = {"parameters": count, "cpu_seconds": seconds}
    print(json.dumps(said | {"versions": versions("matgl", "torch", "lightning")}))


if __name__ == "__main__":
    main()
