"""Nequix's side of train_quality.py: its own `nequix.train.train`, and what the network it saved predicts.

    python nequix_train_side.py settings.json

Runs with nequix and its dependencies alone. The settings hold what both sides have in common, the extended XYZ files of
the frames (labels as REF_energy, REF_forces, REF_stress) and the one to be written, with predictions as those files
have labels. The last line of output is JSON: number of parameters, versions, CPU seconds from the start to the trained
network.

Four things of nequix are replaced, none of which changes what it computes: the logger, sixteen loader processes that
wait busily, a function that JAX no longer has, and the random key, which is always zero.
"""

import json
import sys
import time
import types
from functools import partial
from pathlib import Path

import ase.db
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


def database(frames: Path, folder: Path) -> str:
    """The frames of an extended XYZ file as a database that nequix reads."""
    path = folder / f"{frames.stem}.db"
    with ase.db.connect(path) as file:
        for atoms in ase.io.read(frames, ":"):
            file.write(with_calculator(atoms))
    return str(path)


def configuration(settings: dict, out: Path) -> dict:
    """Its configuration file: the keys of configs/nequix-mp-1.yml."""
    own = ("hidden_irreps", "lmax", "n_layers", "learning_rate", "weight_decay", "grad_clip_norm", "ema_decay")
    weights = ("energy_weight", "force_weight", "stress_weight")
    frames = ase.io.read(settings["train"], ":")
    return {name: settings[name] for name in (*own, *weights, "cutoff", "batch_size")} | {
        "train_path": database(Path(settings["train"]), out),
        "valid_path": database(Path(settings["val"]), out),
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

    nequix.data.DataLoader = in_process(nequix.data.DataLoader)
    nequix.train.DataLoader = partial(nequix.data.DataLoader, seed=settings["seed"])
    if not hasattr(jax, "device_put_replicated"):
        jax.device_put_replicated = lambda tree, devices: jax.tree.map(
            lambda leaf: jnp.stack([leaf] * len(devices)) if isinstance(leaf, jax.Array) else leaf, tree
        )
    random_key = jax.random.key
    jax.random.key = lambda _: random_key(settings["seed"])
    path = out / "configuration.yaml"
    path.write_text(yaml.safe_dump(configuration(settings, out)))
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
