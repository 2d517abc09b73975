"""mace-torch's side of a comparison: a ScaleShiftMACE through its calculator, in batches, and in training.

    python mace_torch_side.py CONFIG_config.json --threads 2 [--variant compile]

Runs with mace-torch and its dependencies alone. The config is like those that `mlip convert` reads beside weights.
Those are random here, and written as CONFIG_weights.npz, so that the other side can hold the same. Single precision,
which mace-torch documents as the faster one.
"""

import argparse
import json
import os
import time
from functools import partial
from itertools import cycle
from pathlib import Path

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # e3nn 0.4.4 reads its own constants as a pickle

import ase.io
import numpy as np
import torch
from e3nn import o3
from mace import data, modules
from mace.calculators import MACECalculator
from mace.modules.loss import WeightedEnergyForcesStressLoss
from mace.tools import torch_geometric, utils
from mace.tools.train import take_step
from protocol import Job, serve, versions

EV_PER_A3_IN_GPA = 160.21766208
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def build(config: dict) -> modules.ScaleShiftMACE:
    """With random weights, always the same: of order one, so that products of every degree count in the energy."""
    network = modules.ScaleShiftMACE(
        r_max=config["r_max"],
        num_bessel=config["num_bessel"],
        num_polynomial_cutoff=config["p"],
        max_ell=config["max_ell"],
        interaction_cls_first=modules.interaction_classes[config["first"]],
        interaction_cls=modules.interaction_classes[config["inter"]],
        num_interactions=config["nint"],
        num_elements=len(config["zs"]),
        hidden_irreps=o3.Irreps(config["hidden"]),
        MLP_irreps=o3.Irreps(config["MLP"]),
        atomic_energies=np.array(config["atomic_energies"]),
        avg_num_neighbors=config["avgn"],
        atomic_numbers=config["zs"],
        correlation=config["corr"],
        gate=torch.nn.functional.silu,
        radial_MLP=config["radial_MLP"],
        atomic_inter_scale=config["scale"],
        atomic_inter_shift=config["shift"],
    )
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return network.to(DEVICE)


def calculator(model, options: dict, structures: str) -> Job:
    """A step is a new frame of the file through the ASE calculator: energy, forces, stress."""
    frames = ase.io.read(structures, ":")
    atoms = frames[0].copy()
    atoms.calc = MACECalculator(models=[model], device=DEVICE, default_dtype="float32", **options)
    trajectory = cycle([frame.positions for frame in frames])

    def step():
        atoms.positions = next(trajectory)
        return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()

    energy, forces, stress = step()
    _warm_up(step)
    return Job(step, {"energy": [energy], "forces": forces, "stress": [stress]})


def many(model, structures: str) -> Job:
    """Each structure of the file once, with a calculator of its own. Timed here: a second time is not asked for."""
    frames = ase.io.read(structures, ":")
    started = time.perf_counter()
    for atoms in frames:
        atoms.calc = MACECalculator(models=[model], device=DEVICE, default_dtype="float32")
        atoms.get_potential_energy()
        atoms.get_forces()
    return Job(lambda: None, {"seconds": time.perf_counter() - started})


def predict(network, structures: str) -> Job:
    """All structures of the file as one batch, from atoms to results, as mace_eval_configs does."""
    frames = ase.io.read(structures, ":")

    def run():
        return _fetched(network(_batch(network, frames).to_dict(), compute_stress=True))

    _warm_up(run)
    return Job(run, _check(*run()))


def model(network, structures: str) -> Job:
    """Energies, forces and stresses of one batch whose graphs are ready."""
    batch = _batch(network, ase.io.read(structures, ":"))

    def run():
        output = network(batch.to_dict(), compute_stress=True)
        _wait()
        return output

    _warm_up(run)
    return Job(run, _check(*_fetched(run())), _memory(run))


def _fetched(output: dict) -> list[np.ndarray]:
    return [output[name].detach().cpu().numpy() for name in ("energy", "forces", "stress")]


def _check(energy, forces, stress) -> dict:
    return {"energy": energy, "forces": forces, "stress": stress.reshape(-1, 9)[:, [0, 4, 8, 5, 2, 1]]}


def training_step(network, structures: str) -> Job:
    """`take_step` of mace_run_train on all structures of the file: loss, its gradient, Adam; the batch is ready."""
    for parameter in network.parameters():
        parameter.requires_grad = True  # the calculator has frozen them
    frames = ase.io.read(structures, ":")
    batch = _batch(network, frames)
    loss = WeightedEnergyForcesStressLoss(1.0, 1.0, 0.1 * EV_PER_A3_IN_GPA**2).to(DEVICE)
    # The learning rate keeps the weights, but for noise, whatever the number of repeats.
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-6, amsgrad=False)
    wanted = {"forces": True, "virials": False, "stress": True}

    def step():
        taken = take_step(network, loss, batch, optimizer, None, wanted, None, torch.device(DEVICE))
        _wait()
        return taken

    output = network(batch.to_dict(), training=True, compute_stress=True)
    n_atoms = (batch.ptr[1:] - batch.ptr[:-1]).to(output["energy"].dtype)
    errors = {
        "energy_mae": ((output["energy"] - batch.energy) / n_atoms).abs().mean().item(),
        "forces_mae": (output["forces"] - batch.forces).abs().mean().item(),
    }
    _warm_up(step)
    memory = _memory(step)
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return Job(step, errors | {"gradient_norm": torch.nn.utils.get_total_norm(gradients).item()}, memory)


def _warm_up(run) -> None:
    for _ in range(4):  # TorchScript optimizes in the first calls
        run()


def _wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def _memory(run) -> int | None:
    """Bytes on the GPU at the peak of a run; torch does not count those of a CPU."""
    if DEVICE == "cpu":
        run()
        return None
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated()


def _batch(network, frames) -> torch_geometric.Batch:
    keys = data.KeySpecification(info_keys={"energy": "energy", "stress": "stress"}, arrays_keys={"forces": "forces"})
    table = utils.AtomicNumberTable(network.atomic_numbers.tolist())
    graphs = []
    for frame in frames:
        atoms = frame.copy()
        if frame.calc is not None:  # labels, where mace-torch looks for them
            results = frame.calc.results
            atoms.info |= {"energy": results["energy"], "stress": results["stress"]}
            atoms.arrays["forces"] = results["forces"]
        configuration = data.config_from_atoms(atoms, key_specification=keys)
        graphs.append(data.AtomicData.from_config(configuration, z_table=table, cutoff=float(network.r_max)))
    return torch_geometric.Batch.from_data_list(graphs).to(DEVICE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--variant", choices=["compile", "cueq"], help="its opt-ins: torch.compile, or cuEquivariance")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = json.loads(options.config.read_text())
    network = build(config)
    weights = {name: tensor.cpu().numpy() for name, tensor in network.state_dict().items()}
    np.savez(options.config.with_name(options.config.name.replace("_config.json", "_weights.npz")), **weights)
    packages = ["mace-torch", "e3nn", "torch", "numpy", "ase"]
    if options.variant == "cueq":
        from mace.cli.convert_e3nn_cueq import run as with_cuequivariance  # an extra of theirs

        network = with_cuequivariance(network, device=DEVICE)
        packages += ["cuequivariance", "cuequivariance-torch"]
    introduction = {
        "versions": versions(*packages),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        "elements": [ase.data.chemical_symbols[z] for z in config["zs"]],
        "cutoff": config["r_max"],
    }
    tasks = {task.__name__: partial(task, network) for task in (many, predict, model, training_step)}
    compilation = {"compile_mode": "default"} if options.variant == "compile" else {}
    serve(tasks | {"calculator": partial(calculator, network, compilation)}, introduction)


if __name__ == "__main__":
    main()
