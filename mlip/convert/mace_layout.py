"""Map between the tensors of mace-torch's state dict and the parameters of `mlip.models.mace`, for both directions.

e3nn stores the weights of a product flat, block after block in the order of the inputs. A block has the shape (inputs,
outputs) or (inputs, elements, outputs). Normalization factors are not part of the weights, in mace-torch or here.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float, Int

from mlip.convert.layers import Arrays, NamedArrays
from mlip.errors import MlipError
from mlip.models.mace import MACEConfig, coupling_paths
from mlip.models.symmetric_contraction import coupling_polynomials, polynomials_of_tensor


@dataclass(frozen=True)
class Tensor:
    """One tensor of mace-torch, and the positions of our parameters in it when it is flattened."""

    name: str
    shape: tuple[int, ...]
    places: dict[str, Int[np.ndarray, "..."]]
    """Positions by the name of our parameter (levels joined by dots), in the shape of our parameter."""

    @classmethod
    def of_blocks(cls, name: str, block: tuple[int, ...], ours: list[str], axes: tuple[int, ...] = ()) -> "Tensor":
        """Tensor that consists of consecutive blocks of one shape; our parameters are these blocks with permuted
        `axes`."""
        places = np.arange(len(ours) * math.prod(block)).reshape(len(ours), *block)
        parts = places.transpose(0, *(1 + axis for axis in axes or range(len(block))))
        return cls(name, (places.size,), dict(zip(ours, parts, strict=True)))

    @classmethod
    def same(cls, name: str, shape: tuple[int, ...], ours: str) -> "Tensor":
        """Tensor that equals one of our parameters except for its name."""
        return cls(name, shape, {ours: np.arange(math.prod(shape)).reshape(shape)})


def parameters_from_state(config: MACEConfig, left: NamedArrays, where: str) -> dict:
    """Parameters of our network from mace-torch's arrays.

    Raises:
        MlipError: an array is missing, has another size, or is not a coupling of its order.
    """
    _convert_couplings(config, left, where)
    flat = {}
    for tensor in tensors(config):
        array = left.take(tensor.name).ravel()
        if array.size != math.prod(tensor.shape):
            raise MlipError(f"{tensor.name} has {array.size} numbers, not {math.prod(tensor.shape)}", where=where)
        flat |= {ours: array[places] for ours, places in tensor.places.items()}
    return unflatten_dict(flat, sep=".")


def state_from_parameters(config: MACEConfig, params: dict) -> Arrays:
    """Inverse of `parameters_from_state`: tensors by mace-torch's names; weights that its network never uses are 0."""
    flat = {key: np.asarray(array) for key, array in flatten_dict(params, sep=".").items()}
    state = {}
    for tensor in tensors(config):
        array = np.zeros(math.prod(tensor.shape), flat["embedding"].dtype)
        for ours, places in tensor.places.items():
            array[places] = flat[ours]
        state[tensor.name] = array.reshape(tensor.shape)
    return state


def tensors(config: MACEConfig) -> Iterator[Tensor]:
    """All tensors that hold parameters."""
    c, nz = config.channels, len(config.elements)
    yield Tensor.of_blocks("node_embedding.linear.weight", (nz, c), ["embedding"])
    n_orders = 1
    for layer in range(config.n_layers):
        orders = config.orders_out(layer)
        yield from _interaction(config, layer, n_orders)
        is_element_block = layer == 0 and config.first_block == "element"
        kept = range(config.max_ell + 1 if is_element_block else min(n_orders, len(orders)))
        skip = f"interaction_{layer}.skip" if is_element_block else f"skip_{layer}"
        yield Tensor.of_blocks(
            f"interactions.{layer}.skip_tp.weight", (c, nz, c), [f"{skip}.order{order}" for order in kept], (1, 0, 2)
        )
        for order in orders:
            for degree in range(1, config.correlation + 1):
                shape = (nz, len(coupling_polynomials(config.max_ell, degree, order)), c)
                ours = f"product_{layer}.order{order}_degree{degree}"
                yield Tensor.same(coupling_weights(config, layer, order, degree), shape, ours)
        yield Tensor.of_blocks(
            f"products.{layer}.linear.weight", (c, c), [f"update_{layer}.order{order}" for order in orders]
        )
        yield from _readout(config, layer)
        n_orders = len(orders)


def _interaction(config: MACEConfig, layer: int, n_orders: int) -> Iterator[Tensor]:
    c, theirs, ours = config.channels, f"interactions.{layer}", f"interaction_{layer}"
    orders = [f"{ours}.linear_up.order{order}" for order in range(n_orders)]
    yield Tensor.of_blocks(f"{theirs}.linear_up.weight", (c, c), orders)
    out_of_path = np.array([path.out for path in coupling_paths(n_orders - 1, config.max_ell)])
    widths = (config.n_bessel, *config.radial_hidden, len(out_of_path) * c)
    for depth, shape in enumerate(pairwise(widths)):
        yield Tensor.same(f"{theirs}.conv_tp_weights.layer{depth}.weight", shape, f"{ours}.radial.layer_{depth}")
    places = np.arange(len(out_of_path) * c * c).reshape(-1, c, c)
    mixing = {
        f"{ours}.linear.order{order}": places[out_of_path == order].reshape(-1, c)
        for order in range(config.max_ell + 1)
    }
    yield Tensor(f"{theirs}.linear.weight", (places.size,), mixing)
    if config.normalization == "density":
        places = np.arange(config.n_bessel)
        yield Tensor(f"{theirs}.density_fn.layer0.weight", (config.n_bessel, 1), {f"{ours}.density": places})


def _readout(config: MACEConfig, layer: int) -> Iterator[Tensor]:
    """Tensors of a readout. mace-torch's last readout also has weights that connect one head's hidden units with
    another head's energy; they are never used."""
    theirs, ours = f"readouts.{layer}", f"readout_{layer}"
    c, h = config.channels, len(config.heads)
    if not 0 < layer == config.n_layers - 1:
        places = np.arange(c * h).reshape(c, h).T
        yield Tensor(f"{theirs}.linear.weight", (c * h,), {f"{ours}.energy": places if h > 1 else places[0]})
        return
    width = config.readout_hidden
    yield Tensor.of_blocks(f"{theirs}.linear_1.weight", (c, h * width), [f"{ours}.hidden"])
    places = np.arange(h * width * h).reshape(h, width, h)[range(h), :, range(h)]
    yield Tensor(f"{theirs}.linear_2.weight", (h * width * h,), {f"{ours}.energy": places if h > 1 else places[0]})


def coupling_weights(config: MACEConfig, layer: int, order: int, degree: int) -> str:
    """mace-torch's name for the weights (elements, couplings, channels) of one order and degree."""
    place = config.correlation - degree - 1
    contraction = f"products.{layer}.symmetric_contractions.contractions.{order}"
    return f"{contraction}.weights_max" if place < 0 else f"{contraction}.weights.{place}"


def coupling_tensor(layer: int, order: int, degree: int) -> str:
    """mace-torch's name for the coupling coefficients that these weights multiply."""
    return f"products.{layer}.symmetric_contractions.contractions.{order}.U_matrix_{degree}"


def _convert_couplings(config: MACEConfig, left: NamedArrays, where: str) -> None:
    """Replace weights of mace-torch's couplings by weights of ours; mace-torch has several bases of the same span."""
    for layer in range(config.n_layers):
        for order in config.orders_out(layer):
            for degree in range(1, config.correlation + 1):
                name = coupling_tensor(layer, order, degree)
                if name not in left:
                    continue
                theirs = polynomials_of_tensor(left.take(name), degree)
                weights = coupling_weights(config, layer, order, degree)
                ours = coupling_polynomials(config.max_ell, degree, order)
                try:
                    left.put(weights, weights_of_couplings(left.take(weights), theirs, ours))
                except ValueError:
                    raise MlipError(f"{name} is no coupling of order {order}", where=where) from None


def weights_of_couplings(
    weights: Float[np.ndarray, "z k c"], source: Float[np.ndarray, "k m q"], target: Float[np.ndarray, "r m q"]
) -> Float[np.ndarray, "z r c"]:
    """Weights with which the couplings `target` give the same function; unchanged if the couplings are the same.

    Raises:
        ValueError: there are no such weights.
    """
    if source.shape == target.shape and np.allclose(source, target, atol=1e-6):  # float32 checkpoints
        return weights
    source, target = source.reshape(len(source), -1), target.reshape(len(target), -1)
    combinations = np.linalg.lstsq(target.T, source.T, rcond=1e-10)[0]
    if weights.shape[1] != len(source) or not np.allclose(target.T @ combinations, source.T, atol=1e-6):
        raise ValueError("another span")
    return np.einsum("rk,zkc->zrc", combinations, weights).astype(weights.dtype)
