"""Dynamical matrices from one cell are those of supercells, of every kind of network."""

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, make_supercell

from mlip.errors import MlipError
from mlip.models import parse_config
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata

RADIAL = {"cutoff": 4.0, "elements": (11, 17, 29), "radial_hidden": (6,), "mean_neighbors": 12.0}
NETWORKS = {
    "m3gnet": {"model": "m3gnet", "units": 8, "n_blocks": 2, "cutoff": 4.0, "three_body_cutoff": 3.5},
    "m3gnet-neighbor": {
        "model": "m3gnet",
        "units": 8,
        "n_blocks": 2,
        "cutoff": 4.0,
        "three_body_cutoff": 3.5,
        "aggregate": "neighbor",
        "zbl": True,
    },
    "nequip": {"model": "nequip", "hidden": "4x0e + 3x1o", "max_ell": 2, "n_layers": 2, **RADIAL},
    "mace": {
        "model": "mace",
        "channels": 4,
        "correlation": 2,
        "distance_transform": "agnesi",
        "normalization": "density",
        "zbl": True,
        **RADIAL,
    },
    "mattersim": {"model": "mattersim", "units": 8, "n_blocks": 2, "cutoff": 4.0, "three_body_cutoff": 3.5},
    "ensemble": {"model": "ensemble", "n_members": 2},
}


def potential_of(name: str) -> Potential:
    described = NETWORKS[name] | ({"network": NETWORKS["m3gnet"]} if name == "ensemble" else {})
    config = parse_config(described)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: (np.asarray(leaf) + rng.normal(0, 0.2, leaf.shape)).astype(np.float32), init_parameters(config)
    )
    scale = 1.0 if name == "ensemble" or "zbl" in described else 1.5
    return Potential(
        config, params, PotentialMetadata(reference_energies={"Na": -1.0, "Cl": -2.0, "Cu": -3.5}, scale=scale)
    )


@pytest.fixture(scope="module")
def potential() -> Potential:
    return potential_of("m3gnet")


def salt() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.3)
    atoms.rattle(0.1, seed=0)
    return atoms


def folded(potential: Potential, atoms: Atoms, multiples: tuple[int, int, int], q: np.ndarray) -> np.ndarray:
    """The sum over the atoms of a supercell that the wave vector is commensurate with: exact whatever its size."""
    supercell = make_supercell(atoms, np.diag(multiples))
    n = len(atoms)
    hessian = potential.hessian(supercell, atoms=range(n))
    place = (supercell.positions - supercell.positions[:n][np.arange(len(supercell)) % n]) @ np.linalg.inv(
        atoms.cell.complete().array
    )
    scaled = atoms.cell.complete().scaled_positions(atoms.positions)
    found = np.zeros((n, 3, n, 3), complex)
    for k in range(len(supercell)):
        j = k % n
        phases = np.exp(2j * np.pi * (place[k] + scaled[j] - scaled) @ q)
        found[:, :, j] += hessian[:, k] * phases[:, None, None]
    roots = np.repeat(np.sqrt(atoms.get_masses()), 3)
    return found.reshape(3 * n, 3 * n) / np.outer(roots, roots)


@pytest.mark.parametrize("name", [name if name.startswith("m3") else pytest.param(name) for name in NETWORKS])
def test_one_cell_gives_what_a_commensurate_supercell_gives(name):
    potential, atoms = potential_of(name), salt()
    q_points = [[0.5, 1 / 3, 0.0], [0.0, -1 / 3, 0.0], [0.0, 0.0, 0.0]]
    found = potential.dynamical_matrix(atoms, q_points)
    for q, matrix in zip(q_points, found, strict=True):
        expected = folded(potential, atoms, (2, 3, 1), np.array(q))
        largest = np.abs(expected).max()
        assert largest > 1e-4
        np.testing.assert_allclose(matrix, expected, atol=1e-11 * largest, err_msg=f"{name} {q}")
        np.testing.assert_allclose(matrix, matrix.conj().T, atol=1e-11 * largest)
    assert np.abs(found[0].imag).max() > 1e-3 * np.abs(found[0]).max()
