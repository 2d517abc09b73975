"""A checkpoint folder of the original M3GNet with random weights."""

from functools import cache, partial

import jax
import numpy as np
import pytest
from made_checkpoints import write_json, write_tensor_bundle

from mlip.convert import m3gnet
from mlip.convert.layers import layers_from_parameters
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters


@cache
def random_parameters(config: M3GNetConfig) -> dict:
    """Any numbers will do, which spares the compilation that true initial ones take."""
    shapes = jax.eval_shape(partial(init_parameters, config))
    generator = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: generator.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a checkpoint folder of random weights; gives the folder, the config and the parameters."""

    def write(**dimensions):
        config = M3GNetConfig(**({"units": 4, "n_blocks": 1, "max_atomic_number": 9} | dimensions))
        params = random_parameters(config)
        tensors = {m3gnet._EMBEDDING: params["embedding"]["embedding"]}
        for layer, arrays in layers_from_parameters(config, params).items():
            tensors |= {f"{m3gnet._name(layer)}/{name}": array for name, array in arrays.items()}
        folder = tmp_path / "m3gnet"
        folder.mkdir()
        named = {key + m3gnet._VARIABLE: array for key, array in tensors.items()}
        write_tensor_bundle(folder / "m3gnet", named | {"save_counter" + m3gnet._VARIABLE: np.int64(3)})
        values = {
            "cutoff": config.cutoff,
            "threebody_cutoff": config.three_body_cutoff,
            "units": config.units,
            "n_blocks": config.n_blocks,
            "max_n": config.max_n,
            "max_l": config.max_l,
            "n_atom_types": config.max_atomic_number,
            "include_states": False,
            "readout": "weighted_atom",
            "is_intensive": False,
            "mean": 0.0,
            "std": 2.5,
            "element_refs": [0.0, -3.5, 1e-14, -1.5, 0.0, 0.0, -8.0, 0.0, -5.0, 0.0],
        }
        write_json(folder, values)
        return folder, config, params

    return write
