"""Our side of a comparison: a potential of any model through the calculator, in batches, and in training.

python mlip_side.py POTENTIAL --threads 2 [--config '{"aggregate": "center"}']
"""

import argparse
import json
import tempfile
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from unittest.mock import patch

import ase.io
import jax
import numpy as np
from protocol import Job, serve, versions

import mlip.potential
from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.energy_gradient import evaluate_batch
from mlip.graph.labeled_graphs import EnergyLabels, LabeledGraphs
from mlip.graph.loader import TrainingLoader
from mlip.potential import Potential
from mlip.programs import Jitted
from mlip.runtime import set_up_jax
from mlip.training import parallel
from mlip.training.recipe import DataRecipe, LossRecipe, Recipe, TrainRecipe
from mlip.training.schedule import Plan
from mlip.training.step import initial_state, train_step_of
from mlip.training.task_of_recipe import task_of


def calculator(potential: Potential, structures: str, skin: float | None = None) -> Job:
    """A step is a new frame of the file through the ASE calculator: energy, forces, stress."""
    frames = ase.io.read(structures, ":")
    atoms = frames[0].copy()
    atoms.calc = mlip.MLIPCalculator(potential, **({} if skin is None else {"skin": skin}))
    trajectory = cycle([frame.positions for frame in frames])

    def step():
        atoms.positions = next(trajectory)
        return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()

    energy, forces, stress = step()
    for _ in frames:
        step()
    return Job(step, {"energy": [energy], "forces": forces, "stress": [stress]})


def predict(potential: Potential, structures: str) -> Job:
    """All structures of the file, from atoms to results."""
    frames = ase.io.read(structures, ":")
    return Job(lambda: potential.predict(frames), _check(potential.predict(frames)))


def model(potential: Potential, structures: str, batch_edges: int | None = None) -> Job:
    """The program alone, in the very batches that `predict` makes, on the device before the clock starts."""
    calls, evaluate = [], Jitted.__call__

    def record(self, network, params, batch, *constants):
        calls.append((network, params, jax.device_put(batch), *constants))
        return evaluate(self, *calls[-1])

    with patch.object(Jitted, "__call__", record):
        results = potential.predict(ase.io.read(structures, ":"), batch_edges=batch_edges)
    programs = [evaluate_batch.lower(*call).compile() for call in calls]
    runs = [partial(program, *call[1:]) for program, call in zip(programs, calls, strict=True)]  # [0] is compiled in
    return Job(lambda: jax.block_until_ready([run() for run in runs]), _check(results), max(map(_memory, programs)))


def _check(results: list[dict]) -> dict:
    return {
        "energy": [result["energy"] for result in results],
        "forces": np.concatenate([result["forces"] for result in results]),
        "stress": [result["stress"] for result in results],
    }


def training_step(potential: Potential, structures: str) -> Job:
    """A step of `mlip train` on all structures of the file: loss, its gradient, Adam; the batch is ready."""
    frames = ase.io.read(structures, ":")
    with tempfile.TemporaryDirectory() as folder:
        batch = _training_batch(potential, frames, Path(folder) / "store.h5")
    recipe = Recipe(
        data=DataRecipe(store=Path("unused")),
        model=potential.config,
        # The means of squares run over the stress's nine components here and there: the gradients are equal.
        loss=LossRecipe(kind="mse", energy=1.0, forces=1.0, stress=0.1),
        train=TrainRecipe(
            epochs=1,
            batch_size=len(frames),
            learning_rate=1e-6,  # the same weights, but for noise, whatever the number of repeats
            schedule="constant",
            clip_norm=None,
            ema_decay=None,
        ),
        out=Path("unused"),
    )
    task = task_of(recipe)
    take_step = train_step_of(task)
    scale = parallel.replicate(np.asarray(potential.metadata.scale, np.float32))
    batch = jax.tree.map(jax.numpy.asarray, batch)
    state = parallel.replicate(jax.tree.map(np.asarray, initial_state(potential.cast("float32"), recipe.train)))
    knobs = Plan(task, 1).knobs(1)
    program = take_step.lower(state, batch, scale, knobs).compile()

    def step():
        nonlocal state
        state, report = program(state, batch, scale, knobs)
        return jax.block_until_ready((state, report))

    report = parallel.fetch(step()[1])
    errors = {"energy_mae": report.terms["energy"], "forces_mae": report.terms["forces"]}
    check = {name: sums.absolute_error / sums.count for name, sums in errors.items()}
    return Job(step, check | {"gradient_norm": report.gradient_norm}, _memory(program))


def _memory(program: jax.stages.Compiled) -> int:
    """Bytes of the arguments, the results and all between them."""
    taken = program.memory_analysis()
    buffers = taken.temp_size_in_bytes + taken.argument_size_in_bytes + taken.output_size_in_bytes
    return buffers - taken.alias_size_in_bytes  # results that lie where donated arguments were


def _training_batch(potential: Potential, frames, path: Path):
    """All frames in the one batch that the training loader makes of them."""
    with StoreWriter(path) as writer:
        for index, atoms in enumerate(frames):
            results = atoms.calc.results
            frame = Frame(
                atoms.numbers.astype(np.int16),
                atoms.positions,
                atoms.cell.array,
                atoms.pbc,
                results["energy"],
                results["forces"],
                results["stress"],
            )
            writer.add(Trajectory(f"crystal{index}", [frame], "unknown", 3), "train")
    with Store(path) as store:
        build_graph = LabeledGraphs(store, potential.config.inputs, EnergyLabels(potential.reference_energies_by_z))
        loader = TrainingLoader(build_graph, store.indices(), batch_size=len(frames))
        batch, _ = next(loader)
        loader.close()
    return batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential", type=Path)
    parser.add_argument("--threads", type=int, required=True, help="how many cores this process is pinned to")
    parser.add_argument("--config", type=json.loads, default={}, help="JSON: fields of the model's config to change")
    options = parser.parse_args()
    set_up_jax()
    potential = mlip.load(options.potential)
    potential = replace(potential, config=potential.config.model_copy(update=options.config))
    tasks = (calculator, predict, model, training_step)
    introduction = {
        "versions": versions("alexandria-mlip", "jax", "jaxlib", "flax", "numpy", "ase"),
        "threads": options.threads,
        "device": parallel.describe_devices(),
        "elements": potential.elements,
        "cutoff": potential.cutoff,
    }
    serve({task.__name__: partial(task, potential) for task in tasks}, introduction)


if __name__ == "__main__":
    main()
