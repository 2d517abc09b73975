"""Small potentials with matgl's network, and their files without PyTorch."""

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import jax
import numpy as np

from mlip.convert import matgl_export
from mlip.models.m3gnet import M3GNetConfig, matgl_config
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata

REFERENCES = {"H": -3.25, "O": -7.5, "Si": -5.0, "Cu": -3.125}


@cache
def random_parameters(config: M3GNetConfig) -> dict:
    """Any numbers will do, which spares the compilation that true initial ones take. Rows of elements that are not
    known are zero, as they are after a conversion."""
    shapes = jax.eval_shape(partial(init_parameters, config))
    generator = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: generator.normal(scale=0.3, size=leaf.shape).astype(np.float32), shapes)
    known = [1, 8, 14, 29]
    unknown = [z for z in range(config.max_atomic_number + 1) if z not in known]
    params["embedding"]["embedding"][unknown] = 0
    return params


def matgl_potential(smooth: bool = True, **dimensions) -> Potential:
    """Of four elements, small, with matgl's layout and `aggregate` center."""
    small = {"units": 6, "hidden_units": 5, "n_blocks": 1, "max_atomic_number": 29}
    config = matgl_config(smooth=smooth, **small | dimensions)
    metadata = PotentialMetadata(reference_energies=REFERENCES, scale=2.0, functional="PBE")
    return Potential(config, random_parameters(config), metadata)


def description(potential: Potential) -> dict:
    """model.json."""
    return matgl_export._description(potential, matgl_export._arguments(potential))


def write_export(folder: Path, potential: Potential, name: str = "net", alter: Callable | None = None) -> Path:
    """NAME_weights.npz and NAME_config.json; the arrays go through `alter` before."""
    arguments = matgl_export._arguments(potential)["model"]["init_args"]
    (folder / f"{name}_config.json").write_text(json.dumps({"source": name, "init_args": arguments}))
    state = matgl_export._state(potential)
    np.savez(folder / f"{name}_weights.npz", **(alter(state) if alter else state))
    return folder / f"{name}_weights.npz"


def assert_same_parameters(ours: Potential, theirs: Potential) -> None:
    """Bit for bit, in the same precision."""
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)
    assert dtypes(ours) == dtypes(theirs)


def dtypes(potential: Potential) -> list[np.dtype]:
    return [np.asarray(leaf).dtype for leaf in jax.tree.leaves(potential.params)]
