"""The original M3GNet's side of a comparison (TensorFlow): calculator, batches, and training.

    python m3gnet_side.py FOLDER --threads 2      (FOLDER holds m3gnet.json and the checkpoint)

Runs with m3gnet and its dependencies alone.
"""

import argparse
from functools import partial
from itertools import cycle

import ase.io
import numpy as np
import tensorflow as tf
from ase.data import chemical_symbols
from m3gnet.graph import Index, MaterialGraphBatchEnergyForceStress, assemble_material_graph
from m3gnet.models import M3GNet, M3GNetCalculator, Potential
from protocol import Job, serve, versions

EV_PER_A3_IN_GPA = 160.21766208  # theirs


def calculator(potential: Potential, structures: str) -> Job:
    """A step is a new frame of the file through the ASE calculator: energy, forces, stress."""
    frames = ase.io.read(structures, ":")
    atoms = frames[0].copy()
    atoms.calc = M3GNetCalculator(potential, stress_weight=1 / EV_PER_A3_IN_GPA)
    trajectory = cycle([frame.positions for frame in frames])

    def step():
        atoms.positions = next(trajectory)
        return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)

    energy, forces, stress = step()
    for _ in frames[:8]:  # another number of triplets is another trace, until TensorFlow relaxes the shapes
        step()
    return Job(step, {"energy": [energy], "forces": forces, "stress": _voigt(stress[None])})


def predict(potential: Potential, structures: str) -> Job:
    """All structures of the file as one batch, from atoms to results."""
    frames = ase.io.read(structures, ":")

    def run():
        return [tensor.numpy() for tensor in potential.get_efs_tensor(_batch(potential, frames))]

    energy, forces, stress = run()
    return Job(run, {"energy": energy.ravel(), "forces": forces, "stress": _voigt(stress / EV_PER_A3_IN_GPA)})


def model(potential: Potential, structures: str) -> Job:
    """Energies, forces and stresses of one batch whose graphs, triplets included, are ready."""
    graph = _batch(potential, ase.io.read(structures, ":"))
    return Job(lambda: [tensor.numpy() for tensor in potential.get_efs_tensor(graph)], {})


def training_step(potential: Potential, structures: str) -> Job:
    """The step inside `PotentialTrainer.train` (a closure there, hence repeated): loss, its gradient, Adam."""
    frames = ase.io.read(structures, ":")
    results = [atoms.calc.results for atoms in frames]
    batches = MaterialGraphBatchEnergyForceStress(
        [potential.graph_converter(atoms) for atoms in frames],
        energies=[result["energy"] for result in results],
        forces=[result["forces"] for result in results],
        stresses=[_tensor(result["stress"]) * EV_PER_A3_IN_GPA for result in results],
        batch_size=len(frames),
        shuffle=False,
    )
    graph, targets = batches[0]
    graph, targets = graph.as_tf().as_list(), [tf.constant(target, tf.float32) for target in targets]
    optimizer = tf.keras.optimizers.Adam(1e-6)  # the same weights, but for noise, whatever the number of repeats

    @tf.function(experimental_relax_shapes=True)
    def train_one_step(graph, targets):
        with tf.GradientTape() as tape:
            predictions = potential.get_efs_tensor(graph, include_stresses=True)
            n_atoms = tf.cast(graph[Index.N_ATOMS], tf.float32)
            pairs = [
                (targets[0] / n_atoms, tf.reshape(predictions[0], (-1,)) / n_atoms),
                (targets[1], predictions[1]),
                (targets[2], predictions[2]),
            ]
            losses = [tf.reduce_mean(tf.square(target - prediction)) for target, prediction in pairs]
            loss = losses[0] + losses[1] + 0.1 * losses[2]
        errors = [tf.reduce_mean(tf.abs(target - prediction)) for target, prediction in pairs]
        return tape.gradient(loss, potential.model.trainable_variables), errors  # none before the first call

    def step():
        gradients, errors = train_one_step(graph, targets)
        optimizer.apply_gradients(zip(gradients, potential.model.trainable_variables, strict=True))
        return [error.numpy() for error in errors], gradients

    (energy_mae, forces_mae, _), gradients = step()
    norm = tf.linalg.global_norm([tf.convert_to_tensor(gradient) for gradient in gradients]).numpy()  # dense, that is
    return Job(step, {"energy_mae": energy_mae, "forces_mae": forces_mae, "gradient_norm": norm})


def _batch(potential: Potential, frames) -> list:
    return assemble_material_graph([potential.graph_converter(atoms) for atoms in frames]).as_tf().as_list()


def _voigt(stress: np.ndarray) -> np.ndarray:
    """(k, 3, 3) -> (k, 6)."""
    return stress.reshape(-1, 9)[:, [0, 4, 8, 5, 2, 1]]


def _tensor(voigt: np.ndarray) -> np.ndarray:
    xx, yy, zz, yz, xz, xy = voigt
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    network = M3GNet.from_dir(options.folder)
    potential = Potential(network)
    tasks = (calculator, predict, model, training_step)
    introduction = {
        "versions": versions("m3gnet", "tensorflow-cpu", "numpy", "ase"),
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "elements": chemical_symbols[1 : network.n_atom_types + 1],
        "cutoff": float(network.cutoff),
    }
    serve({task.__name__: partial(task, potential) for task in tasks}, introduction)


if __name__ == "__main__":
    main()
