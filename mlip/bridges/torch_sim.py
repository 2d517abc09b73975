"""A potential as a torch-sim model: pass `MLIPModel("mace-mp-0a-small")` wherever torch-sim takes a model.

Structures and results pass through host memory: JAX uses the device for the network, torch-sim for its integrators.
"""

import os
from typing import Any

import numpy as np

from mlip.data.records import Frame
from mlip.errors import MlipError
from mlip.potential import Potential, open_potential
from mlip.units import tensor_from_voigt

try:
    import torch
    from torch_sim.models.interface import ModelInterface
except ImportError as error:
    raise MlipError(
        f"torch-sim is not installed ({error})",
        where="mlip.bridges.torch_sim",
        fix="pip install torch-sim-atomistic",
    ) from None


class MLIPModel(ModelInterface):
    """torch-sim model that computes energies (eV), forces (eV/A) and stresses (eV/A^3, ASE's sign) with a `Potential`.

    Args:
        potential: a `Potential`, or the path or name of one.
        device: device of the returned tensors; the CPU by default.
        dtype: torch.float64 (default) or torch.float32, for the returned tensors and for the network's arithmetic.
        head: name of the head to use, for a potential that has several.

    Raises:
        MlipError: the potential or head does not exist, or the dtype is neither of the two.
    """

    def __init__(
        self,
        potential: Potential | str | os.PathLike,
        device: Any = "cpu",
        dtype: Any = None,
        head: str | None = None,
    ):
        super().__init__()
        dtype = torch.float64 if dtype is None else dtype
        if dtype not in (torch.float32, torch.float64):
            raise MlipError(f"unknown precision {dtype}", where="dtype", fix="torch.float32 or torch.float64")
        self.potential = open_potential(potential, head)
        self._device, self._dtype = torch.device(device), dtype
        self._compute_forces = self._compute_stress = True
        self._memory_scales_with = "n_atoms_x_density"

    def forward(self, state: Any, **_: Any) -> dict[str, Any]:
        """Evaluate all systems of a state.

        Args:
            state: a `SimState`, or a dict with its fields. `pbc` is one bool or three, the same for all systems.

        Returns:
            `energy` (n_systems,), `forces` (n_atoms, 3), `stress` (n_systems, 3, 3).

        Raises:
            MlipError: any error of `Potential.predict`; it names the system.
        """
        frames = _frames(state)
        predictions = self.potential.predict(frames, dtype="float64" if self._dtype == torch.float64 else "float32")
        found = {
            "energy": np.array([one["energy"] for one in predictions]),
            "forces": np.concatenate([one["forces"] for one in predictions]),
            "stress": np.stack([tensor_from_voigt(one["stress"]) for one in predictions]),
        }
        return {key: torch.as_tensor(array, dtype=self._dtype, device=self._device) for key, array in found.items()}


def _frames(state: Any) -> list[Frame]:
    def field(name: str) -> Any:
        return state[name] if isinstance(state, dict) else getattr(state, name)

    def on_host(name: str) -> np.ndarray:
        return field(name).detach().cpu().numpy()

    numbers, positions = on_host("atomic_numbers"), on_host("positions").astype(np.float64)
    cells = np.swapaxes(on_host("cell"), -1, -2).astype(np.float64)  # torch-sim has lattice vectors as columns
    pbc = field("pbc")
    pbc = np.broadcast_to(np.asarray(pbc.detach().cpu() if isinstance(pbc, torch.Tensor) else pbc, bool), 3)
    system = on_host("system_idx")
    members = (np.flatnonzero(system == k) for k in range(len(cells)))
    return [Frame(numbers[atoms], positions[atoms], cell, pbc) for atoms, cell in zip(members, cells, strict=True)]
