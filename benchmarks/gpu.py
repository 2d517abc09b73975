"""Everything worth knowing of a GPU, in minutes: whether it computes what a CPU does, then how fast it is.

    python benchmarks/gpu.py --minutes 9 --out results/            (on a CPU, to see that all of it runs: --small)
    python benchmarks/gpu.py --tune --minutes 9 --out results/     (numbers for mlip/hardware.py)

Needs jax, flax, optax, orbax-checkpoint, h5py and mlip's other dependencies, which may be carried as wheels; what is
missing is named. No data are needed: crystals are built here.

Parts, most valuable first; each is written to OUT/gpu.json and OUT/gpu.md as soon as it has ended, one that fails says
why, and no new case begins when the time is up:

  parity       energies, forces, stresses, a training step's gradient and the end of relaxations, float32 in full, TF32
               and bfloat16 products, against float64 on the CPU
  limits       a float32 matrix product, a copy, the logistic function: the roofline
  inference    energies, forces and stresses a second against the batch size, until memory is short (the share of the
               roofline counts bytes as XLA does, and may exceed one where caches serve)
  training     the step of `mlip train`: structures/s, share of the peak, memory, seconds to compile
  relaxation   `mlip.relax`: relaxations/s, padding, share of the time that the device is idle
  feeding      a training run from a store: share of the time that it waits for the loader
  properties   CGAT on one prototype with many assignments of elements: crystals/s
"""

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

NEEDED = ("jax", "flax", "optax", "orbax.checkpoint", "h5py", "ase", "jraph", "e3nn_jax", "vesin", "pydantic", "grain")


def missing() -> list[str]:
    """Modules that cannot be imported here."""
    return [name for name in NEEDED if importlib.util.find_spec(name.partition(".")[0]) is None]


if lacking := missing():  # before anything imports them
    sys.exit(f"benchmarks/gpu.py needs {', '.join(lacking)}: pip install them, or carry their wheels here")

import jax
import numpy as np
from ase import Atoms
from ase.build import bulk
from flops import matmul_flops
from random_potential import random_potential
from roofline import Limits, measure, measure_limits, padded_batch, programs, seconds_of
from side_by_side import machine
from training_speed import measure_step, outcome, recipe_of

import mlip
from mlip.data import Frame, StoreWriter, Trajectory
from mlip.graph.labeled_graphs import EnergyLabels, labeled_graphs
from mlip.graph.prototype import Prototype
from mlip.hardware import Hardware, hardware, in_place
from mlip.models.cgat import CGATConfig
from mlip.models.m3gnet import M3GNetConfig
from mlip.models.mace import MACEConfig
from mlip.models.nequip import NequIPConfig
from mlip.network import init_parameters
from mlip.potential import Potential
from mlip.property_model import property_outputs
from mlip.relaxation.queue import relaxations
from mlip.relaxation.statistics import Statistics
from mlip.runtime import ProductPrecision, jax_facts, set_up_jax
from mlip.training import parallel

STEPS = 20
"""Of each relaxation, about as many as ALEXANDRIA's crystals take."""
NEVER = 1e-12
"""Force below which a relaxation would end, eV/A: random weights are not asked for minima."""
ROCK_SALT_METALS = ("Li", "Na", "Mg", "Ca", "Ti", "V", "Mn", "Fe", "Co", "Ni", "Zr", "Ba")
ANIONS = ("O", "N", "C", "S", "F", "Cl")


@dataclass
class Plan:
    """How much of it is done."""

    models: dict[str, Any]
    batch_sizes: tuple[int, ...]
    training_batch: int
    n_relaxed: int
    n_parity: int
    store_frames: int
    assignments: int
    cgat: CGATConfig


FULL = Plan(
    models={"M3GNet": M3GNetConfig(), "MACE, medium": MACEConfig(), "Nequix": NequIPConfig()},
    batch_sizes=(64, 256, 1024, 4096, 16384),
    training_batch=256,
    n_relaxed=2_000,
    n_parity=32,
    store_frames=20_000,
    assignments=40_000,
    cgat=CGATConfig(),
)
SMALL = Plan(
    models={"M3GNet": M3GNetConfig(units=8, n_blocks=1, max_n=2, max_l=2)},
    batch_sizes=(2, 4),
    training_batch=2,
    n_relaxed=4,
    n_parity=2,
    store_frames=32,
    assignments=64,
    cgat=CGATConfig(features=8, shell_features=8, heads=2, n_steps=1, composition_steps=1, output_widths=(8,)),
)


@dataclass
class Bench:
    """What all parts share."""

    plan: Plan
    ends: float
    """`time.monotonic` from which on no new case begins."""
    limits: Limits | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_time_up(self) -> bool:
        return time.monotonic() > self.ends


def precisions() -> tuple[ProductPrecision, ...]:
    """Those of matrix products that this device has; a CPU makes all of them in full."""
    return ("highest",) if jax.default_backend() == "cpu" else ("highest", "tf32", "bf16")


def crystals(n: int, seed: int = 0) -> list[Atoms]:
    """Rock salts, elements and their supercells, strained and rattled, of 1 to 32 atoms: like ALEXANDRIA's in size."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(n):
        metal, anion = rng.choice(ROCK_SALT_METALS), rng.choice(ANIONS)
        if k % 3:
            atoms = bulk(f"{metal}{anion}", "rocksalt", a=4.2 + 1.5 * rng.random(), cubic=bool(k % 2))
        else:
            atoms = bulk(metal, ("fcc", "bcc")[k % 2], a=3.3 + rng.random())
        atoms = atoms * (int(rng.integers(1, 3)), 1, int(rng.integers(1, 3)))
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.03 * rng.standard_normal((3, 3))), scale_atoms=True)
        atoms.positions += 0.03 * rng.standard_normal(atoms.positions.shape)
        found.append(atoms)
    return found


def graphs_of(potential: Potential, structures: list[Atoms]) -> list[Any]:
    """Labeled graphs; zeros are labels as good as any: the work is the same."""
    frames = [
        Frame(a.numbers, a.positions, a.cell[:], a.pbc, 0.0, np.zeros_like(a.positions), np.zeros(6))
        for a in structures
    ]
    return labeled_graphs(frames, potential.config.inputs, EnergyLabels(np.zeros(119)))


def parity(bench: Bench) -> Iterator[dict[str, Any]]:
    """Differences from float64 on the CPU."""
    structures = crystals(bench.plan.n_parity, seed=1)
    cpu = jax.devices("cpu")[0]
    for name, config in bench.plan.models.items():
        with jax.default_device(cpu):
            reference = random_potential(config).predict(structures, "float64")
        potential = random_potential(config)
        for dtype in ("float32", "float64"):
            found = potential.predict(structures, dtype)
            yield {"case": f"{name}, {dtype}", **_differences(found, reference, structures)}
        batch = padded_batch(graphs_of(potential, structures), len(structures))
        full = None
        for precision in precisions():
            result = outcome(potential, batch, recipe_of(config, precision, len(structures)))
            full = full or result
            apart = [
                float(np.linalg.norm(mine - theirs) / np.linalg.norm(theirs))
                for mine, theirs in zip(result, full, strict=True)
            ]
            numbers = dict(zip(("energy", "forces", "gradient"), apart, strict=True))
            yield {"case": f"{name}, a training step, products in {precision}", "relative to highest": numbers}
        ends = mlip.relax(structures[:4], potential, NEVER, STEPS, dtype="float64", progress=False)
        with jax.default_device(cpu):
            there = mlip.relax(structures[:4], random_potential(config), NEVER, STEPS, dtype="float64", progress=False)
        apart = max(abs(a.energy - b.energy) / len(a.atoms) for a, b in zip(ends, there, strict=True))
        yield {"case": f"{name}, {STEPS} steps of relaxation in float64", "eV/atom": apart}


def _differences(found: list[dict], reference: list[dict], structures: list[Atoms]) -> dict[str, float]:
    pairs = list(zip(found, reference, structures, strict=True))
    return {
        "eV/atom": max(abs(a["energy"] - b["energy"]) / len(s) for a, b, s in pairs),
        "eV/A": max(float(np.abs(a["forces"] - b["forces"]).max()) for a, b, _ in pairs),
        "eV/A^3": max(float(np.abs(a["stress"] - b["stress"]).max()) for a, b, _ in pairs),
    }


def limits(bench: Bench) -> Iterator[dict[str, Any]]:
    bench.limits = measure_limits()
    yield {
        "case": "matrix product, copy, logistic function",
        "Gflop/s": bench.limits.flops / 1e9,
        "GB/s": bench.limits.bytes / 1e9,
        "G/s": bench.limits.transcendentals / 1e9,
    }


def inference(bench: Bench) -> Iterator[dict[str, Any]]:
    for name, config in bench.plan.models.items():
        potential = random_potential(config)
        graphs = graphs_of(potential, crystals(64))
        (function,) = (run for what, run in programs(potential).items() if what.startswith("energy"))
        for size in bench.plan.batch_sizes:
            if bench.is_time_up:
                return
            batch = padded_batch(graphs, size)
            started = time.perf_counter()
            found = measure(function, potential.cast("float32"), jax.device_put(batch), _limits(bench))
            yield {
                "case": f"{name}, {size} crystals",
                "per second": size / found["milliseconds"] * 1e3,
                "share of its roofline": max(found["share_of_limit"].values()),
                "bound by": found["bound"],
                "GB": found["memory_taken_bytes"] / 1e9,
                "seconds in all": time.perf_counter() - started,
            }


def training(bench: Bench) -> Iterator[dict[str, Any]]:
    for name, config in bench.plan.models.items():
        potential = random_potential(config)
        batch = padded_batch(graphs_of(potential, crystals(64)), bench.plan.training_batch)
        for precision in precisions():
            if bench.is_time_up:
                return
            step = measure_step(potential, batch, recipe_of(config, precision, bench.plan.training_batch), repeats=3)
            yield {
                "case": f"{name}, {bench.plan.training_batch} crystals, products in {precision}",
                "per second": bench.plan.training_batch / step["step_seconds"],
                "share of its roofline": step["matmul_flops"] / step["step_seconds"] / _limits(bench).flops,
                "bound by": "matrix products",
                "GB": step["memory_bytes"] / 1e9,
                "seconds to compile": step["compile_seconds"],
            }


def relaxation(bench: Bench) -> Iterator[dict[str, Any]]:
    for name, config in bench.plan.models.items():
        potential, structures = random_potential(config), crystals(bench.plan.n_relaxed, seed=2)
        costs, reasons, started = Statistics(), [], time.monotonic()
        for _, result in relaxations(structures, potential, fmax=NEVER, steps=STEPS, statistics=costs):
            reasons.append(result.reason)
            if bench.is_time_up and len(reasons) < len(structures):
                break
        seconds = time.monotonic() - started - costs.compile_seconds
        yield {
            "case": f"{name}, {len(reasons)} of {len(structures)} relaxations of {STEPS} steps",
            "per second": len(reasons) / seconds,
            "evaluations per second": costs.n_force_calls / seconds,
            "idle": costs.idle_fraction,
            "padding": costs.padded_fraction,
            "seconds to compile": costs.compile_seconds,
        }


def feeding(bench: Bench) -> Iterator[dict[str, Any]]:
    (name, config), *_ = bench.plan.models.items()
    with tempfile.TemporaryDirectory() as folder:
        store, structures = Path(folder) / "store.h5", crystals(200)
        with StoreWriter(store) as writer:
            for k in range(bench.plan.store_frames // 4):
                atoms = structures[k % len(structures)]
                frames = [
                    Frame(
                        atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc, -1.0, 0 * atoms.positions, np.zeros(6)
                    )
                ] * 4
                writer.add(Trajectory(f"m{k}", frames, "PBE", 3), "val" if k % 10 == 0 else "train")
        train = {"epochs": 1, "batch_size": bench.plan.training_batch, "learning_rate": 1e-4}
        out = Path(folder) / "run"
        recipe = {"data": {"store": str(store)}, "model": config.model_dump(), "train": train, "out": str(out)}
        (Path(folder) / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
        mlip.train(Path(folder) / "recipe.yaml")
        lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
        told = [line for line in lines if "data_wait_share" in line]
        keys = ("structures_per_second", "data_wait_share", "padded_fraction")
        yield {"case": f"{name}, an epoch from a store", **{key: told[-1][key] for key in keys}}


def properties(bench: Bench) -> Iterator[dict[str, Any]]:
    config = bench.plan.cgat
    model, params = mlip.models.build_model(config), init_parameters(config)
    prototype = Prototype.of(bulk("NaCl", "rocksalt", a=5.6))
    size = max(16, min(2048, hardware().screening_slots // prototype.senders.size))
    rng = np.random.default_rng(0)
    batch = jax.device_put(prototype.batch(rng.integers(1, 90, (size, 2))))
    seconds = seconds_of(lambda: property_outputs(model, params, batch))
    flops = matmul_flops(lambda p, b: model.apply({"params": p}, b), params, batch)
    yield {
        "case": f"CGAT, rock salt with {size} assignments at once",
        "per second": size / seconds,
        "share of its roofline": flops / seconds / _limits(bench).flops,
        "bound by": "matrix products",
    }


def _limits(bench: Bench) -> Limits:
    if bench.limits is None:
        bench.limits = measure_limits()
    return bench.limits


PARTS: tuple[Callable[[Bench], Iterator[dict[str, Any]]], ...] = (
    parity, limits, inference, training, relaxation, feeding, properties,
)  # fmt: skip


def tuned(bench: Bench) -> Hardware:
    """The entry for this device: of each number the best of several, the others as they are."""
    (_, config), *_ = bench.plan.models.items()
    potential, structures = random_potential(config), crystals(bench.plan.n_relaxed, seed=3)
    device = jax.local_devices()[0]
    source = f"measured by benchmarks/gpu.py --tune on {device.device_kind}, {time.strftime('%Y-%m-%d')}"
    best = replace(hardware(), device=device.device_kind, source=source)

    def rate(numbers: Hardware, run: Callable[[], Any]) -> float:
        with in_place(numbers):
            run()  # compiles
            started = time.perf_counter()
            run()
            return len(structures) / (time.perf_counter() - started)

    def predict() -> None:
        potential.predict(structures)

    def relax() -> None:
        mlip.relax(structures, potential, NEVER, STEPS, progress=False)

    trials: list[tuple[str, tuple[float, ...], Callable[[], None]]] = [
        ("prediction_edges", (2**11, 2**13, 2**15, 2**17, 2**19), predict),
        ("largest_relaxation", (2**10, 2**11, 2**13, 2**15, 2**17, 2**19), relax),
        ("relaxation_skin", (0.1, 0.15, 0.25, 0.4, 0.6), relax),
    ]
    for name, values, run in trials:
        rates = {}
        for value in values:
            if bench.is_time_up:
                break
            rates[value] = rate(_consistent(replace(best, **{name: value})), run)
            bench.rows.append({"part": "tuning", "case": f"{name} = {value:g}", "per second": rates[value]})
        if rates:
            best = _consistent(replace(best, **{name: max(rates, key=rates.__getitem__)}))
    return best


def _consistent(numbers: Hardware) -> Hardware:
    smallest = min(numbers.smallest_relaxation, numbers.largest_relaxation)
    return replace(numbers, smallest_relaxation=smallest)


def write(bench: Bench, out: Path, facts: dict[str, Any]) -> None:
    """Both files, anew after each case: a run that is ended leaves what it had."""
    (out / "gpu.json").write_text(json.dumps({**facts, "rows": bench.rows}, indent=1) + "\n")
    lines = [f"# {facts['device']}", "", f"JAX {facts['jax']['jax']}, {facts['machine']['date']}.", ""]
    lines += ["| part | case | |", "|---|---|---|"]
    for row in bench.rows:
        others = {key: value for key, value in row.items() if key not in ("part", "case")}
        lines.append(f"| {row['part']} | {row['case']} | {_told(others)} |")
    (out / "gpu.md").write_text("\n".join(lines) + "\n")


def _told(numbers: dict[str, Any]) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{name} {cell(one)}" for name, one in value.items())
        if not isinstance(value, float):
            return str(value)
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

    shares = ("share of its roofline", "idle", "padding", "data_wait_share", "padded_fraction")
    return "; ".join(f"{name}: {f'{v:.1%}' if name in shares else cell(v)}" for name, v in numbers.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="no new case begins after them")
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md")
    parser.add_argument("--small", action="store_true", help="tiny models and few crystals: minutes on a CPU")
    parser.add_argument("--only", nargs="+", choices=[part.__name__ for part in PARTS], help="these parts")
    parser.add_argument("--tune", action="store_true", help="measure the numbers of mlip/hardware.py instead")
    options = parser.parse_args()
    set_up_jax()
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(SMALL if options.small else FULL, time.monotonic() + 60 * options.minutes)
    facts = {"device": parallel.describe_devices(), "machine": machine(), "jax": jax_facts(), "small": options.small}
    if options.tune:
        facts["hardware"] = asdict(tuned(bench))
        write(bench, options.out, facts)
        print(json.dumps(facts["hardware"], indent=1))
        return
    failed = 0
    for part in PARTS:
        if options.only and part.__name__ not in options.only:
            continue
        if bench.is_time_up:
            bench.rows.append({"part": part.__name__, "case": "not begun", "reason": "the time was up"})
            continue
        try:
            for row in part(bench):
                bench.rows.append({"part": part.__name__, **row})
                write(bench, options.out, facts)
                print(
                    f"{part.__name__}: {row['case']}: {_told({k: v for k, v in row.items() if k != 'case'})}",
                    flush=True,
                )
        except Exception as error:  # the other parts go on
            failed += 1
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            bench.rows.append({"part": part.__name__, "case": "failed", "reason": why})
            print(f"{part.__name__}: {why}", file=sys.stderr, flush=True)
    write(bench, options.out, facts)
    print(f"{options.out / 'gpu.md'}, {options.out / 'gpu.json'}: {len(bench.rows)} rows, {failed} parts failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
