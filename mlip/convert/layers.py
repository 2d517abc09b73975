"""Map from the dense layers of published M3GNets, and of MatterSim, to the parameters of `mlip.models.m3gnet`.

The original (TensorFlow) and matgl (PyTorch) have the same layers under different names. Core and gate are separate
there and fused here, side by side, where they have the same input. One list of layers serves import and export.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from mlip.errors import MlipError
from mlip.models import parse_config
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import check_parameters

Branch = Literal["core", "gate"]
Arrays = dict[str, np.ndarray]

_BRANCHES: tuple[Branch, ...] = ("core", "gate")


@dataclass(frozen=True)
class Layer:
    """One dense layer of the published networks."""

    stage: str
    """The layer's role: bond_embedding, neighbour_gate (or center_gate), three_body, {atom,bond}_{message,weight} or
    readout; in the readout of a property model also query_{input,hidden}."""
    path: tuple[str, ...]
    """Path of the layer's arrays in our parameters."""
    block: int = 0
    branch: Branch = "core"
    depth: int = 0
    """Index of the layer in its MLP."""
    is_half: bool = False
    """Whether our array is fused: the columns of the core, followed by those of the gate."""


def dense_layers(config: M3GNetConfig) -> list[Layer]:
    """Dense layers in the order in which the original code creates them, by which Keras numbers them."""
    layers = [Layer("bond_embedding", ("bond_embedding",))]
    for block in range(config.n_blocks):
        three_body = f"three_body_{block}"
        gate = "center_gate" if config.model == "mattersim" else "neighbour_gate"
        layers.append(Layer(gate, (three_body, gate), block))
        layers += [
            Layer("three_body", (three_body, "core_and_gate"), block, branch, is_half=True) for branch in _BRANCHES
        ]
    for block in range(config.n_blocks):
        for kind in ("atom", "bond"):
            message = (f"convolution_{block}", f"{kind}_message")
            for branch in _BRANCHES:
                layers.append(Layer(f"{kind}_message", message, block, branch, is_half=True))
                names = [f"{branch}_{depth}" for depth in range(1, config.hidden_layers)] + [branch]
                layers += [
                    Layer(f"{kind}_message", (*message, name), block, branch, depth)
                    for depth, name in enumerate(names, start=1)
                ]
            layers.append(Layer(f"{kind}_weight", (f"convolution_{block}", f"{kind}_weight"), block))
    if config.model == "m3gnet-property":
        layers += [
            Layer(f"query_{part}", ("set2set", f"{part}_{depth}"), depth=depth)
            for depth in range(config.readout_layers)
            for part in ("input", "hidden")
        ]
        return layers + [Layer("readout", (f"readout_{depth}",), depth=depth) for depth in range(3)]
    layers += [
        Layer("readout", ("readout", f"{branch}_{depth}"), branch=branch, depth=depth)
        for branch in _BRANCHES
        for depth in range(config.hidden_layers + 2)
    ]
    return layers


def parameters_from_layers(
    config: M3GNetConfig, embedding: np.ndarray, arrays_of: Callable[[Layer], Arrays], where: str
) -> dict:
    """Complete parameters of our network, with checked shapes.

    Args:
        embedding: (max_atomic_number + 1, units), indexed by atomic number.
        arrays_of: returns a layer's "kernel" (in, out) and, if it has one, "bias" (out,).

    Raises:
        MlipError: an array is missing, superfluous, or has another shape than the config requires.
    """
    flat = {("embedding", "embedding"): embedding}
    for layer in dense_layers(config):
        for name, array in arrays_of(layer).items():
            key = (*layer.path, name)
            if key in flat and flat[key].shape != array.shape:
                raise MlipError(
                    f"parameter {'.'.join(key)}: core {flat[key].shape} and gate {array.shape} differ", where=where
                )
            flat[key] = np.concatenate([flat[key], array], axis=-1) if key in flat else array
    params = unflatten_dict({key: np.ascontiguousarray(array) for key, array in flat.items()})
    check_parameters(config, params, where)
    return params


def layers_from_parameters(config: M3GNetConfig, params: dict) -> dict[Layer, Arrays]:
    """Inverse of `parameters_from_layers`: "kernel" (in, out) and "bias" (out,) of every layer."""
    flat = flatten_dict(params)
    layers: dict[Layer, Arrays] = {}
    for layer in dense_layers(config):
        arrays = {name: flat[*layer.path, name] for name in ("kernel", "bias") if (*layer.path, name) in flat}
        if layer.is_half:
            half = _BRANCHES.index(layer.branch)
            arrays = {name: np.split(np.asarray(array), 2, axis=-1)[half] for name, array in arrays.items()}
        layers[layer] = {name: np.asarray(array) for name, array in arrays.items()}
    return layers


def checked_config(where: str, **values: Any) -> M3GNetConfig:
    """Config with the given values; the model is m3gnet unless `values` name another.

    Raises:
        MlipError: the model cannot have one of the values.
    """
    try:
        return parse_config({"model": "m3gnet"} | values)
    except MlipError as error:
        raise MlipError(error.what, where=where) from None


class NamedArrays:
    """Arrays of a checkpoint, each to be taken once, so that arrays without a place in our network are noticed."""

    def __init__(self, arrays: Arrays, where: str):
        self._left, self._where = dict(arrays), where

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str) -> np.ndarray:
        """Remove an array and return it.

        Raises:
            MlipError: there is no such array.
        """
        if name not in self._left:
            raise MlipError(f"{name} is missing", where=self._where)
        return self._left.pop(name)

    def put(self, name: str, array: np.ndarray) -> None:
        """Put back an array that was taken and changed."""
        self._left[name] = array

    def discard(self, name: str) -> None:
        """Drop an array that is not used; it may be absent."""
        self._left.pop(name, None)

    def check_all_taken(self) -> None:
        """Check that no array is left over.

        Raises:
            MlipError: there are arrays that no layer has taken.
        """
        if self._left:
            raise MlipError(
                f"{len(self._left)} arrays have no place in the model, such as {min(self._left)}",
                where=self._where,
                fix="a variant of the model that is not implemented",
            )


def linear_layer(left: NamedArrays, theirs: str, ours: tuple[str, ...], use_bias: bool = True) -> Arrays:
    """Kernel (in, out) and bias (out,) of a PyTorch linear layer, by their paths in our parameters."""
    arrays = {(*ours, "kernel"): left.take(f"{theirs}.weight").T}
    return arrays | ({(*ours, "bias"): left.take(f"{theirs}.bias")} if use_bias else {})


def count_layers(arrays: Arrays, pattern: str) -> int:
    """Number of distinct values that the pattern's group takes in the arrays' names."""
    return len({match[1] for name in arrays if (match := re.match(pattern, name))})
