"""Self-test of the installation's numerical results, fast enough for `mlip info`.

A tiny M3GNet with weights from a formula evaluates a crystal with 19,000 edges, enough to reveal the sums that JAX
0.10.2 computes wrong. The reference energy, force and stress are from JAX 0.10.2 on a CPU; with and without the fusion
that is wrong elsewhere they agree to 13 digits.
"""

import jax
import numpy as np
from ase import Atoms
from ase.build import bulk

from mlip.models.m3gnet import M3GNetConfig
from mlip.network import check_parameters, init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.runtime import sums_are_right

_EXPECTED = {"energy": -119606.82670474646, "force": -0.009883272566754711, "stress": -0.03382961887507654}
"""Reference values: energy, eV; force on the first atom along x, eV/A; stress xx, eV/A^3."""
_TOLERANCE = 1e-8
"""Relative tolerance in float64; the order of summation differs between machines."""


def faults() -> list[str]:
    """Faults of this installation, one line each; normally empty. Takes seconds on the first call."""
    found = []
    if not sums_are_right():
        found.append(f"JAX {jax.__version__} computes sums of squares wrong on this device (jax issue 39103)")
    (result,) = _potential().predict([_crystal()], dtype="float64")
    computed = {"energy": result["energy"], "force": result["forces"][0, 0], "stress": result["stress"][0]}
    for name, expected in _EXPECTED.items():
        if not abs(computed[name] - expected) <= _TOLERANCE * abs(expected):
            found.append(
                f"JAX {jax.__version__} computes the {name} of a test crystal wrong: {computed[name]}, not {expected}"
            )
    return found


def _potential() -> Potential:
    config = M3GNetConfig(units=4, n_blocks=1, max_l=1, max_n=1)
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda: init_parameters(config)))
    params = jax.tree.unflatten(structure, [_weights(k, leaf.shape) for k, leaf in enumerate(leaves)])
    check_parameters(config, params, "self-test")
    return Potential(config, params, PotentialMetadata(reference_energies={"Na": -1.0, "Cl": -2.0}, scale=1e3))


def _weights(k: int, shape: tuple[int, ...]) -> np.ndarray:
    """Deterministic weights between -0.5 and 0.5, independent of any random number generator."""
    index = np.arange(np.prod(shape, dtype=int)) + 31 * k
    return (0.5 * np.sin(12.9898 * index + 1.0)).astype(np.float32).reshape(shape)


def _crystal() -> Atoms:
    """NaCl with every atom displaced from its site."""
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True) * (5, 5, 4)
    atoms.positions += 0.2 * np.sin(np.arange(3 * len(atoms)).reshape(-1, 3) ** 1.5)
    return atoms
