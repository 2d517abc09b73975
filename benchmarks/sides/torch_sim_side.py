"""A peer's side of a race of relaxations: torch-sim's batched FIRE with a MACE of mace-torch.

    python torch_sim_side.py MODEL.model --threads 2

Runs with torch-sim, mace-torch and their dependencies alone. The file is a pickle: give it only what you made.
"""

import argparse
import os
import time
from functools import partial

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # e3nn 0.4.4 reads its constants from a pickle

import ase.io
import torch
import torch_sim
from ase.data import chemical_symbols
from protocol import Job, serve, versions
from torch_sim.autobatching import InFlightAutoBatcher
from torch_sim.models.mace import MaceModel

_STEPS_BETWEEN_SWAPS = 5
_NO_LIMIT = 10**9


class PatientAutoBatcher(InFlightAutoBatcher):
    """With a number of steps for each structure.

    `torch_sim.optimize` 0.3.0 counts `max_steps` over the whole run: once so many are over, it swaps after every single
    step, and the structures that come then have a fifth of the steps. So it gets no limit, and the batcher this one.
    """

    steps: int

    @property
    def max_attempts(self) -> int:
        return self.steps // _STEPS_BETWEEN_SWAPS

    @max_attempts.setter
    def max_attempts(self, _: int) -> None:
        """`optimize` sets it by its own limit."""


def relax(model: MaceModel, structures: str, fmax: float, steps: int, atoms_at_once: int) -> Job:
    """
    Args:
        atoms_at_once: torch-sim measures what fits into a GPU's memory; on a CPU it must be told.
    """
    crystals = ase.io.read(structures, ":")
    _relax(model, crystals[:1], fmax, _STEPS_BETWEEN_SWAPS, atoms_at_once)
    start = time.perf_counter()
    state = _relax(model, crystals, fmax, steps, atoms_at_once)
    seconds = time.perf_counter() - start
    forces = torch_sim.runners.systemwise_max_force(state)
    cell_forces = state.cell_forces.norm(dim=2).max(dim=1).values
    check = {
        "seconds": seconds,
        "converged": ((forces < fmax) & (cell_forces < fmax)).tolist(),
        "energy": state.energy.tolist(),
    }
    return Job(lambda: None, check)


def _relax(model: MaceModel, crystals, fmax: float, steps: int, atoms_at_once: int):
    batcher = PatientAutoBatcher(model=model, memory_scales_with="n_atoms", max_memory_scaler=atoms_at_once)
    batcher.steps = steps
    return torch_sim.optimize(
        system=crystals,
        model=model,
        optimizer=torch_sim.frechet_cell_fire,
        convergence_fn=torch_sim.generate_force_convergence_fn(fmax),
        autobatcher=batcher,
        max_steps=_NO_LIMIT,
        steps_between_swaps=_STEPS_BETWEEN_SWAPS,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = torch.load(options.model, map_location=device, weights_only=False)
    model = MaceModel(network, device=device, dtype=torch.float32)
    introduction = {
        "versions": versions("torch-sim-atomistic", "mace-torch", "torch", "numpy", "ase"),
        "threads": torch.get_num_threads(),
        "elements": [chemical_symbols[int(number)] for number in network.atomic_numbers],
    }
    serve({"relax": partial(relax, model)}, introduction)


if __name__ == "__main__":
    main()
