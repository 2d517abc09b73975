"""Do we train as well as the codes that these networks come from? Test errors on equal terms, and CPU time.

M3GNet by matgl's `MGLPotentialTrainer`, MACE by mace-torch's `mace_run_train`, NequIP by nequix's `train`, and each by
`mlip train`: the same network, frames, loss, batches, epochs and learning rate, on one CPU core, one after the other.
The frames are those of a labeled extended XYZ file with at most --max-atoms atoms, each by itself in the training,
validation or test set: they must be independent of each other, like random distortions, and not steps of a path.

    taskset -c 0 python benchmarks/train_quality.py .../static/pbe_distorted_pypolymlp.extxyz.gz --out runs/quality \
        --peer-python matgl=PYTHON --peer-python mace-torch=PYTHON --peer-python nequix=PYTHON --seeds 0 1 \
        --report quality.md

Trainings that are done are not done again; errors come from one and the same few lines for all.
"""

import argparse
import gzip
import io
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from side_by_side import SIDES

import mlip
from mlip.benchmark.tables import Table
from mlip.data.build import BuildSettings, build
from mlip.data.schema import SPLITS
from mlip.data.split import assign_split
from mlip.models.m3gnet import matgl_config
from mlip.models.mace import MACEConfig
from mlip.models.nequip import NequIPConfig
from mlip.training.recipe import DataRecipe, LossRecipe, Recipe, ScheduleRecipe, TrainRecipe
from mlip.units import EV_PER_A3_IN_GPA

FRACTIONS = (0.55, 0.1, 0.35)
"""Of train, val and test: a large test set, so that the errors compared say something."""
CUTOFF = 5.0
M3GNET = {"units": 32, "n_blocks": 3, "three_body_cutoff": 4.0, "learning_rate": 1e-3, "final_fraction": 0.01}
M3GNET |= {"energy": 1.0, "forces": 1.0, "stress": 0.1, "huber_delta": 0.01, "clip_norm": 10.0}
"""recipes/m3gnet_matgl.yaml, narrower and without warm-up and moving average, which matgl's trainer does not have."""
MACE = {"channels": 32, "max_l": 1, "learning_rate": 0.01, "weight_decay": 5e-7, "ema_decay": 0.99}
MACE |= {"energy": 1.0, "forces": 100.0, "stress": 1.0, "clip_norm": 10.0}
"""mace-torch's defaults, as in recipes/mace-*.yaml, narrower; --ema."""
NEQUIP = {
    "hidden_irreps": "32x0e + 16x1o + 8x2e",
    "lmax": 2,
    "n_layers": 3,
    "learning_rate": 0.01,
    "weight_decay": 1e-3,
}
NEQUIP |= {"ema_decay": 0.999, "grad_clip_norm": 100.0, "warmup_epochs": 0.1, "warmup_factor": 0.2}
NEQUIP |= {"energy_weight": 20.0, "force_weight": 20.0, "stress_weight": 5.0}
"""recipes/nequix-mp.yaml, narrower and flatter."""


class Task(NamedTuple):
    """One training: where its files are, how long it goes on."""

    frames: Path
    """Folder of store.h5 and of train, val and test as extended XYZ."""
    out: Path
    seed: int
    epochs: int
    batch_size: int


class Trained(NamedTuple):
    """What came of it: predictions of the test frames, with labels' names."""

    predictions: list[Atoms]
    parameters: int | None
    seconds: float
    versions: dict[str, str]


def read_frames(path: Path) -> list[Atoms]:
    """All of a file; labels as REF_energy (eV), REF_forces (eV/A), REF_stress (eV/A^3), where peers look for them."""
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    frames = ase.io.read(io.StringIO(text), ":", format="extxyz")
    for atoms in frames:
        atoms.info = {"REF_energy": atoms.get_potential_energy(), "REF_stress": atoms.get_stress()}
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
    return frames


def write_frames(frames: list[Atoms], folder: Path, batch_size: int) -> None:
    """The sets for all sides alike. Training batches are full: mace-torch would leave out the rest of an epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    sets: dict[str, list[Atoms]] = {split: [] for split in SPLITS}
    for k, atoms in enumerate(frames):
        atoms.info["material_id"] = f"frame-{k:06d}"
        sets[assign_split(atoms.info["material_id"], 0, FRACTIONS)].append(atoms)
    del sets["train"][len(sets["train"]) // batch_size * batch_size :]
    for split, members in sets.items():
        ase.io.write(folder / f"{split}.extxyz", members)
    labeled = folder / "all.extxyz"
    ase.io.write(labeled, [with_calculator(atoms) for members in sets.values() for atoms in members])
    build([labeled], folder / "store.h5", BuildSettings(fractions=FRACTIONS, seed=0, functional="PBE"))


def with_calculator(atoms: Atoms) -> Atoms:
    """A copy with its labels where ASE has them."""
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    copy.info["material_id"] = atoms.info["material_id"]
    results = {"energy": atoms.info["REF_energy"], "stress": atoms.info["REF_stress"]}
    copy.calc = SinglePointCalculator(copy, forces=atoms.arrays["REF_forces"], **results)
    return copy


def m3gnet_recipe(task: Task) -> Recipe:
    of = M3GNET
    return Recipe(
        data=DataRecipe(store=task.frames / "store.h5", workers=0),
        model=matgl_config(
            units=of["units"], n_blocks=of["n_blocks"], cutoff=CUTOFF, three_body_cutoff=of["three_body_cutoff"]
        ),
        loss=LossRecipe(
            kind="huber",
            huber_delta=of["huber_delta"],
            stress_unit="GPa",
            **{name: of[name] for name in ("energy", "forces", "stress")},
        ),
        train=TrainRecipe(
            epochs=task.epochs,
            batch_size=task.batch_size,
            learning_rate=of["learning_rate"],
            schedule=ScheduleRecipe(kind="cosine", final_fraction=of["final_fraction"]),
            clip_norm=of["clip_norm"],
            ema_decay=None,
            seed=task.seed,
        ),
        out=task.out / "run",
    )


def mace_recipe(task: Task) -> Recipe:
    of = MACE
    return Recipe(
        data=DataRecipe(store=task.frames / "store.h5", workers=0),
        model=MACEConfig.model_validate(
            {"cutoff": CUTOFF, "channels": of["channels"], "max_l": of["max_l"], "n_bessel": 8}
        ),
        loss=LossRecipe(
            kind="mse", stress_unit="eV/A^3", **{name: of[name] for name in ("energy", "forces", "stress")}
        ),
        train=TrainRecipe(
            epochs=task.epochs,
            batch_size=task.batch_size,
            learning_rate=of["learning_rate"],
            schedule=ScheduleRecipe(kind="plateau", patience=50, factor=0.8, final_fraction=0.0),
            optimizer="amsgrad",
            weight_decay=of["weight_decay"],
            decayed=("interaction_*/linear/*", "product_*", "update_*"),
            clip_norm=of["clip_norm"],
            ema_decay=of["ema_decay"],
            seed=task.seed,
        ),
        out=task.out / "run",
    )


def nequip_recipe(task: Task) -> Recipe:
    of = NEQUIP
    n_batches = len(ase.io.read(task.frames / "train.extxyz", ":")) // task.batch_size
    return Recipe(
        data=DataRecipe(store=task.frames / "store.h5", workers=0),
        model=NequIPConfig(
            cutoff=CUTOFF,
            hidden=of["hidden_irreps"],
            max_ell=of["lmax"],
            n_layers=of["n_layers"],
            n_bessel=8,
            cutoff_power=6,
            radial_hidden=(64, 64),
            norm=True,
            skip="common",
        ),
        loss=LossRecipe(
            kind="mae",
            energy=of["energy_weight"],
            forces=of["force_weight"],
            forces_as="vectors",
            stress=of["stress_weight"],
            stress_unit="eV/A^3",
        ),
        train=TrainRecipe(
            epochs=task.epochs,
            batch_size=task.batch_size,
            learning_rate=of["learning_rate"],
            schedule=ScheduleRecipe(
                kind="cosine",
                warmup_steps=round(of["warmup_epochs"] * n_batches),
                warmup_from=of["warmup_factor"],
                final_fraction=1e-6 / of["learning_rate"],
            ),
            optimizer="muon",
            weight_decay=of["weight_decay"],
            clip_norm=of["grad_clip_norm"],
            ema_decay=of["ema_decay"],
            seed=task.seed,
        ),
        out=task.out / "run",
    )


def by_us(recipe_of: Callable[[Task], Recipe]) -> Callable[[Task, str], Trained]:
    def train(task: Task, _: str) -> Trained:
        recipe = recipe_of(task)
        path = task.out / "recipe.yaml"
        recipe.save(path)
        seconds = run([sys.executable, "-m", "mlip.cli", "train", path], task.out)
        potential = mlip.load(recipe.out / "potential.safetensors")
        frames = ase.io.read(task.frames / "test.extxyz", ":")
        for atoms, result in zip(frames, potential.predict(frames), strict=True):
            atoms.info |= {"REF_energy": result["energy"], "REF_stress": result["stress"]}
            atoms.arrays["REF_forces"] = result["forces"]
        return Trained(frames, potential.n_parameters, seconds, {"mlip": mlip.__version__})

    return train


def by_a_side(script: str, of: dict[str, Any]) -> Callable[[Task, str], Trained]:
    """Training by a script among the sides, with these settings and those of the task."""

    def train(task: Task, python: str) -> Trained:
        files = {split: str(task.frames / f"{split}.extxyz") for split in SPLITS}
        predictions = task.out / "predictions.extxyz"
        common = {"cutoff": CUTOFF, "epochs": task.epochs, "batch_size": task.batch_size, "seed": task.seed}
        path = task.out / "settings.json"
        path.write_text(json.dumps(of | common | files | {"out": str(task.out), "predictions": str(predictions)}))
        run([python, SIDES / script, path], task.out)
        said = json.loads((task.out / "output.txt").read_text().splitlines()[-1])
        return Trained(ase.io.read(predictions, ":"), said["parameters"], said["cpu_seconds"], said["versions"])

    return train


def by_mace_torch(task: Task, python: str) -> Trained:
    """Its two commands: mace_run_train and mace_eval_configs."""
    of = MACE
    commands = Path(python).parent
    arguments = {
        "name": "mace",
        "seed": task.seed,
        "work_dir": task.out,
        "train_file": task.frames / "train.extxyz",
        "valid_file": task.frames / "val.extxyz",
        "model": "ScaleShiftMACE",
        "E0s": "average",
        "r_max": CUTOFF,
        "num_channels": of["channels"],
        "max_L": of["max_l"],
        "loss": "stress",
        "energy_weight": of["energy"],
        "forces_weight": of["forces"],
        "stress_weight": of["stress"],
        "compute_stress": True,
        "error_table": "PerAtomMAEstressvirials",
        "batch_size": task.batch_size,
        "valid_batch_size": task.batch_size,
        "max_num_epochs": task.epochs,
        "lr": of["learning_rate"],
        "weight_decay": of["weight_decay"],
        "ema_decay": of["ema_decay"],
        "clip_grad": of["clip_norm"],
        "default_dtype": "float32",
        "device": "cpu",
        "plot": False,
    }
    options = [f"--{name}={value}" for name, value in arguments.items()]
    seconds = run([commands / "mace_run_train", *options, "--ema", "--amsgrad"], task.out)
    predictions, model = task.out / "predictions.extxyz", task.out / "mace.model"
    files = [f"--configs={task.frames / 'test.extxyz'}", f"--model={model}", f"--output={predictions}"]
    run(
        [commands / "mace_eval_configs", *files, "--compute_stress", "--info_prefix=REF_", "--default_dtype=float32"],
        task.out,
    )
    said = {"mace-torch": version_of(python, "mace-torch"), "torch": version_of(python, "torch")}
    return Trained(ase.io.read(predictions, ":"), None, seconds, said)


def version_of(python: str, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def run(command: list, out: Path) -> float:
    """CPU seconds that a command takes, with one thread; what it says goes to output.txt and errors.txt.

    Raises:
        SystemExit: it failed.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = os.environ | threads | {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}  # e3nn's constants are a pickle
    start = cpu_seconds()
    with (out / "output.txt").open("w") as output, (out / "errors.txt").open("w") as errors:
        status = subprocess.run(list(map(str, command)), stdout=output, stderr=errors, env=environment).returncode
    if status:
        raise SystemExit(f"{command[0]} ended with status {status}: {out / 'errors.txt'}")
    return cpu_seconds() - start


def cpu_seconds() -> float:
    """Of all commands so far, user and system: unlike the clock, no matter to what else the machine does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


CONTESTANTS: dict[tuple[str, str], Callable[[Task, str], Trained]] = {
    ("M3GNet", "matgl"): by_a_side("matgl_train_side.py", M3GNET),
    ("M3GNet", "mlip"): by_us(m3gnet_recipe),
    ("MACE", "mace-torch"): by_mace_torch,
    ("MACE", "mlip"): by_us(mace_recipe),
    ("NequIP", "nequix"): by_a_side("nequix_train_side.py", NEQUIP),
    ("NequIP", "mlip"): by_us(nequip_recipe),
}
NETWORKS = tuple(dict.fromkeys(network for network, _ in CONTESTANTS))
PEERS = tuple(code for _, code in CONTESTANTS if code != "mlip")


def errors(labeled: list[Atoms], predicted: list[Atoms]) -> dict[str, float]:
    """Mean absolute errors: meV/atom, meV/A over all components, GPa over six."""
    pairs = list(zip(labeled, predicted, strict=True))
    energy = [(p.info["REF_energy"] - q.info["REF_energy"]) / len(p) for p, q in pairs]
    forces = np.concatenate([p.arrays["REF_forces"] - q.arrays["REF_forces"] for p, q in pairs])
    stress = [voigt(p.info["REF_stress"]) - voigt(q.info["REF_stress"]) for p, q in pairs]
    sizes = {"energy": 1000 * np.array(energy), "forces": 1000 * forces, "stress": EV_PER_A3_IN_GPA * np.array(stress)}
    return {name: float(np.abs(values).mean()) for name, values in sizes.items()}


def voigt(stress: np.ndarray) -> np.ndarray:
    """Six components, also of nine."""
    stress = np.asarray(stress, float)
    return stress if stress.size == 6 else stress.reshape(9)[[0, 4, 8, 5, 2, 1]]


def measure(model: str, code: str, task: Task, python: str) -> dict[str, Any]:
    """Train, unless that is done, and compare the test frames with their labels."""
    result = task.out / "result.json"
    if not result.exists():
        shutil.rmtree(task.out, ignore_errors=True)  # of a training that was killed
        task.out.mkdir(parents=True)
        trained = CONTESTANTS[model, code](task, python)
        test = ase.io.read(task.frames / "test.extxyz", ":")
        found = {"model": model, "code": code, "seed": task.seed, "errors": errors(test, trained.predictions)}
        found |= {"parameters": trained.parameters, "seconds": trained.seconds, "versions": trained.versions}
        result.write_text(json.dumps(found))
    return json.loads(result.read_text())


def table(results: list[dict[str, Any]]) -> Table:
    """A row for each code: mean over seeds, and their range."""
    rows = []
    for model, code in CONTESTANTS:
        mine = [result for result in results if (result["model"], result["code"]) == (model, code)]
        if mine:
            columns = [[result["errors"][name] for result in mine] for name in ("energy", "forces", "stress")]
            packages = {name: version for name, version in mine[0]["versions"].items() if name != "python"}
            versions = ", ".join(f"{name} {version}" for name, version in packages.items())
            seconds = np.mean([result["seconds"] for result in mine])
            cells = [mean_and_range(column, digits) for column, digits in zip(columns, (1, 1, 3), strict=True)]
            rows.append((model, f"{code} ({versions})", str(len(mine)), *cells, f"{seconds:.0f} s"))
    header = ("network", "trained by", "seeds", "E meV/atom", "F meV/Å", "S GPa", "CPU time")
    return Table("quality", "Mean absolute errors of the test frames", header, tuple(rows))


def mean_and_range(values: list[float], digits: int) -> str:
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def peer(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals or name not in PEERS:
        raise argparse.ArgumentTypeError(f"give NAME=PYTHON with a name of {', '.join(PEERS)}")
    return name, path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="extended XYZ (.gz): energy, forces, stress; PBE")
    parser.add_argument("--out", type=Path, required=True, help="folder of frames, runs and results")
    parser.add_argument("--peer-python", type=peer, action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--codes", nargs="+", choices=(*PEERS, "mlip"), help="default: all given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--max-atoms", type=int, default=24)
    parser.add_argument("--report", type=Path, help="write the table here as Markdown")
    options = parser.parse_args()

    frames, pythons = options.out / "frames", dict(options.peer_python) | {"mlip": sys.executable}
    if not (frames / "store.h5").exists():
        small = [atoms for atoms in read_frames(options.data) if len(atoms) <= options.max_atoms]
        write_frames(small, frames, options.batch_size)
    results = []
    codes = options.codes or list(pythons)
    for model, code in CONTESTANTS:
        for seed in options.seeds if model in options.models and code in codes else ():
            task = Task(frames, options.out / f"{model}-{code}-{seed}", seed, options.epochs, options.batch_size)
            results.append(measure(model, code, task, pythons[code]))
            print(json.dumps(results[-1]), flush=True)
    print(table(results).to_markdown())
    if options.report:
        options.report.write_text(table(results).to_markdown())


if __name__ == "__main__":
    main()
