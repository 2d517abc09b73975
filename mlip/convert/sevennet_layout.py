"""Map from SevenNet's tensors to the parameters of `mlip.models.nequip`, in float64.

e3nn stores a linear layer's matrices one after another in a flat array, by irrep of the input; what a modality adds to
the scalars comes last. Before version 0.11, the radial network's columns followed the order in which couplings are
listed, not that of their output irreps. The signs of e3nn's 3j symbols have changed, too: a checkpoint holds the
symbols that it was trained with.
"""

from typing import NamedTuple

import e3nn_jax as e3nn
import numpy as np
from flax.traverse_util import unflatten_dict
from jaxtyping import Float

from mlip.convert.layers import NamedArrays
from mlip.errors import MlipError
from mlip.models.nequip import ACTIVATION_NORMS, SCALAR, Channels, NequIPConfig, couplings
from mlip.models.nequip import Path as Coupling

_SILU = ACTIVATION_NORMS["e3nn"]["silu"]


class Source(NamedTuple):
    """Tensors of a checkpoint, and the parts of its config that describe their layout."""

    config: NequIPConfig
    left: NamedArrays
    species: list[int]
    """Index of each of `config.elements` in the checkpoint."""
    is_sorted: bool
    """Whether couplings are sorted by their output irrep, as they are since version 0.11."""
    where: str


def parameters_from_state(source: Source) -> tuple[dict, Float[np.ndarray, " heads"]]:
    """Our parameters, and the energy that the readout adds to every atom, by head, before scaling.

    Raises:
        MlipError: a tensor is missing, or has another size than the config requires.
    """
    config, left = source.config, source.left
    embedding = _linear(source, "onehot_to_feature_x", {SCALAR: len(config.elements)}, {SCALAR: config.embedding})[0]
    flat = {
        ("frequencies",): left.take("edge_embedding.basis_function.coeffs"),
        ("embedding",): embedding["0e"][source.species],
    }
    for layer in range(config.n_layers):
        flat |= _layer(source, layer)
    last = config.channels_out(config.n_layers - 1)
    n_hidden = last[SCALAR] // 2
    hidden, constants = _linear(source, "reduce_input_to_hidden", last, {SCALAR: n_hidden})
    energy = _linear(source, "reduce_hidden_to_energy", {SCALAR: n_hidden}, {SCALAR: 1})[0]["0e"]
    energy = energy / np.sqrt(n_hidden)
    flat["readout",] = hidden["0e"] @ energy
    return unflatten_dict(flat), (constants @ energy)[:, 0]


def _layer(source: Source, layer: int) -> dict:
    config, name = source.config, f"layer_{layer}"
    inputs, outputs = config.channels_in(layer), config.channels_out(layer)
    wanted = outputs | {SCALAR: outputs[SCALAR] + sum(n for irrep, n in outputs.items() if irrep.order > 0)}
    coupled: Channels = {}
    for path in couplings(inputs, config.harmonics, outputs):
        coupled[path.out] = coupled.get(path.out, 0) + inputs[path.node]
    linear_1, bias_1 = _linear(source, f"{layer}_self_interaction_1", inputs, inputs)
    linear_2, bias_2 = _linear(source, f"{layer}_self_interaction_2", coupled, wanted)
    skip, _ = _linear(source, f"{layer}_self_connection_intro", inputs, wanted)
    flat = {
        (name, group, irrep): kernel
        for group, kernels in (("linear_1", linear_1), ("linear_2", linear_2), ("skip", skip))
        for irrep, kernel in kernels.items()
    }
    if config.head_biases:
        flat |= {(name, "bias_1"): bias_1, (name, "bias_2"): bias_2}
    for k, kernel in enumerate(_radial(source, layer)):
        flat[name, "neighbor_sum", "radial", f"layer_{k}"] = kernel
    return flat


def _linear(
    source: Source, name: str, inputs: Channels, outputs: Channels
) -> tuple[dict[str, Float[np.ndarray, "i o"]], Float[np.ndarray, "heads o"]]:
    """Kernels by irrep, and the bias of the scalars by head (zeros if the layer has no modality)."""
    shapes = {str(irrep): (n, outputs[irrep]) for irrep, n in inputs.items() if irrep in outputs}
    weight = source.left.take(f"{name}.linear.weight").astype(np.float64)
    n_heads, n_scalars = len(source.config.heads), outputs[SCALAR]
    n_kernels = sum(n * m for n, m in shapes.values())
    is_told = n_heads > 1 and weight.size == n_kernels + n_heads * n_scalars
    if weight.size != n_kernels and not is_told:
        raise MlipError(f"{name} has {weight.size} weights, and by the config {n_kernels}", where=source.where)
    kernels = {}
    for irrep, (n, m) in shapes.items():
        kernels[irrep], weight = weight[: n * m].reshape(n, m), weight[n * m :]
    if not is_told:
        return kernels, np.zeros((n_heads, n_scalars))
    # e3nn divides by the square root of the number of all inputs, our network by that of the scalars.
    n_inputs = inputs[SCALAR]
    kernels["0e"] *= np.sqrt(n_inputs / (n_inputs + n_heads))
    return kernels, weight.reshape(n_heads, n_scalars) / np.sqrt(n_inputs + n_heads)


def _radial(source: Source, layer: int) -> list[Float[np.ndarray, "i o"]]:
    """Kernels of the radial network, with its norms included and the last layer's columns in our order."""
    config, name = source.config, f"{layer}_convolution"
    kernels = []
    for k in range(len(config.radial_hidden) + 1):
        kernel = source.left.take(f"{name}.weight_nn.layer{k}.weight").astype(np.float64)
        kernels.append(kernel * ((_SILU if k else 1.0) / np.sqrt(len(kernel))))
    inputs = config.channels_in(layer)
    ours = couplings(inputs, config.harmonics, config.channels_out(layer))
    theirs = (
        ours if source.is_sorted else sorted(ours, key=lambda path: (path.node.rank, path.edge.rank, path.out.rank))
    )
    widths = [inputs[path.node] for path in theirs]
    if kernels[-1].shape[1] != sum(widths):
        raise MlipError(
            f"{name}.weight_nn gives {kernels[-1].shape[1]} functions, and by the config {sum(widths)}",
            where=source.where,
        )
    columns = dict(zip(theirs, np.split(kernels[-1], np.cumsum(widths)[:-1], axis=1), strict=True))
    signs = {path: _sign(source, name, path) for path in theirs}
    for left_over in sorted({f"{path.node.order}_{path.edge.order}_{path.out.order}" for path in theirs}):
        source.left.discard(f"{name}.convolution._compiled_main_left_right._w3j_{left_over}")
    kernels[-1] = np.concatenate([signs[path] * columns[path] for path in ours], axis=1)
    return kernels


def _sign(source: Source, name: str, path: Coupling) -> float:
    """Ratio of the checkpoint's 3j symbol to ours, 1 or -1.

    Raises:
        MlipError: the checkpoint lacks the symbol, or the symbols differ by more than a sign.
    """
    orders = (path.node.order, path.edge.order, path.out.order)
    if 0 in orders:
        return 1.0
    tensor = f"{name}.convolution._compiled_main_left_right._w3j_{orders[0]}_{orders[1]}_{orders[2]}"
    theirs, ours = source.left.take(tensor), e3nn.clebsch_gordan(*orders)
    sign = float(np.sign(np.sum(theirs * ours))) if theirs.shape == ours.shape else 0.0
    if not np.allclose(theirs, sign * ours, atol=1e-5):
        raise MlipError(f"{tensor} is no 3j symbol as e3nn has them", where=source.where)
    source.left.put(tensor, theirs)  # several couplings share it
    return sign
