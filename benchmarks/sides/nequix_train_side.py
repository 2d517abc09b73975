"""Nequix's side of train_quality.py: its own `nequix.train.train`, and what the network it saved predicts.

    python nequix_train_side.py settings.json

Runs with nequix and its dependencies alone. The settings hold what both sides have in common, the extended XYZ files of
the frames (labels as REF_energy, REF_forces, REF_stress) and the one to be written, with predictions as those files
have labels. The last line of output is JSON: number of parameters, versions, CPU seconds from the start to the trained
network.

Five things of nequix are replaced, none of which changes what it computes: the logger, the reader of files, sixteen
loader processes that wait busily, a function that JAX no longer has, and the random key, which is always zero.
"""

import json
import sys
import time
import types
from functools import partial
from pathlib import Path

import ase.io
import jax
import jax.numpy as jnp
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from protocol import versions


class _Logger(types.ModuleType):
    """Stands for wandb: forgets what is logged, and has the folder in which checkpoints are written."""

    def __init__(self, folder: str):
        super().__init__("wandb")
        self.run = types.SimpleNamespace(dir=folder, summary={}, id=None)

    def init(self, **_) -> None:
        pass

    def log(self, *_, **__) -> None:
        pass


def stand_in_for_logger(folder: str) -> None:
    hooks = types.ModuleType("wandb_osh.hooks")
    hooks.TriggerWandbSyncHook = None
    sys.modules |= {"wandb": _Logger(folder), "wandb_osh": types.ModuleType("wandb_osh"), "wandb_osh.hooks": hooks}


def with_calculator(atoms: Atoms) -> Atoms:
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    results = {"energy": atoms.info["REF_energy"], "stress": atoms.info["REF_stress"]}
    copy.calc = SinglePointCalculator(copy, forces=atoms.arrays["REF_forces"], **results)
    return copy


def configuration(settings: dict) -> dict:
    """Its configuration file: the keys of configs/nequix-mp-1.yml."""
    own = ("hidden_irreps", "lmax", "n_layers", "learning_rate", "weight_decay", "grad_clip_norm", "ema_decay")
    weights = ("energy_weight", "force_weight", "stress_weight")
    frames = ase.io.read(settings["train"], ":")
    return {name: settings[name] for name in (*own, *weights, "cutoff", "batch_size")} | {
        "train_path": settings["train"],
        "valid_path": settings["val"],
        "atomic_numbers": sorted({int(number) for atoms in frames for number in atoms.numbers}),
        "n_epochs": settings["epochs"],
        "warmup_epochs": settings["warmup_epochs"],
        "warmup_factor": settings["warmup_factor"],
        "radial_basis_size": 8,
        "radial_mlp_size": 64,
        "radial_mlp_layers": 2,
        "radial_polynomial_p": 6.0,
        "mlp_init_scale": 4.0,
        "index_weights": False,
        "layer_norm": True,
        "kernel": False,
        "optimizer": "muon",
        "loss_type": "mae",
        "log_every": 10**9,
    }


def with_statistics(configuration: dict, dataset: type) -> dict:
    """The configuration with what nequix measures on the training set, without which its checkpoints are not read."""
    from nequix.data import average_atom_energies, dataset_stats

    numbers = configuration["atomic_numbers"]
    frames = dataset(configuration["train_path"], numbers, configuration["cutoff"], "jax")
    energies = average_atom_energies(frames)
    measured = {name: float(value) for name, value in dataset_stats(frames, energies).items()}
    sizes = {name: int(value) for name, value in measured.items() if name.startswith("max")}
    references = dict(zip(numbers, map(float, energies), strict=True))
    return configuration | measured | sizes | {"atom_energies": references}


def dataset_of_frames(dataset: type) -> type:
    """Its dataset, of the frames of an extended XYZ file instead of an aselmdb."""
    from nequix.data import atomic_numbers_to_indices, preprocess_graph

    class Frames(dataset):
        def __init__(self, file_path: str, atomic_numbers: list[int], cutoff: float, backend: str):
            super().__init__(backend=backend)
            self.atomic_indices, self.cutoff = atomic_numbers_to_indices(atomic_numbers), cutoff
            self.frames = [with_calculator(atoms) for atoms in ase.io.read(file_path, ":")]

        def __len__(self) -> int:
            return len(self.frames)

        def _get_graph_dict(self, index: int) -> dict:
            return preprocess_graph(self.frames[index], self.atomic_indices, self.cutoff, True)

    return Frames


def in_process(loader: type) -> type:
    """Its loader, reading frames in this process."""

    class InProcess(loader):
        def _start_workers(self) -> None:
            pass

        def make_generator(self):
            yield from map(self.dataset.__getitem__, self.idxs)

    return InProcess


def train(settings: dict, out: Path) -> Path:
    """Checkpoint of the epoch with the lowest validation loss."""
    stand_in_for_logger(str(out))
    import nequix.data
    import nequix.train

    nequix.train.AseDBDataset = dataset_of_frames(nequix.data.Dataset)
    nequix.data.DataLoader = in_process(nequix.data.DataLoader)
    nequix.train.DataLoader = partial(nequix.data.DataLoader, seed=settings["seed"])
    if not hasattr(jax, "device_put_replicated"):
        jax.device_put_replicated = lambda tree, devices: jax.tree.map(
            lambda leaf: jnp.stack([leaf] * len(devices)) if isinstance(leaf, jax.Array) else leaf, tree
        )
    random_key = jax.random.key
    jax.random.key = lambda _: random_key(settings["seed"])
    path = out / "configuration.yaml"
    path.write_text(yaml.safe_dump(with_statistics(configuration(settings), nequix.train.AseDBDataset)))
    nequix.train.train(str(path))
    return out / "checkpoint.nqx"


def predicted(calculator, atoms: Atoms) -> Atoms:
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    atoms.calc = calculator
    atoms.info |= {"REF_energy": float(atoms.get_potential_energy()), "REF_stress": atoms.get_stress()}
    atoms.arrays["REF_forces"] = atoms.get_forces()
    atoms.calc = None
    return atoms


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    checkpoint = train(settings, Path(settings["out"]))
    seconds = time.process_time()
    from nequix.calculator import NequixCalculator

    calculator = NequixCalculator(model_path=str(checkpoint), use_kernel=False)
    test = ase.io.read(settings["test"], ":")
    ase.io.write(settings["predictions"], [predicted(calculator, atoms) for atoms in test])
    arrays = (leaf for leaf in jax.tree.leaves(calculator.model) if isinstance(leaf, jax.Array))
    said = {"parameters": sum(leaf.size for leaf in arrays), "cpu_seconds": seconds}
    print(json.dumps(said | {"versions": versions("nequix", "jax", "optax")}))


if __name__ == "__main__":
    main()
