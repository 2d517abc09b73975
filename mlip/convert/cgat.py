"""Converter for CGAT checkpoints: a Lightning checkpoint (.ckpt), or its arrays in NAME_weights.npz.

All dimensions follow from the shapes of the arrays. A checkpoint lacks the element vectors, which are read from a
separate file, and the name of the predicted property. Arrays without effect on the result are ignored: the attention
networks of edges that a two-layer network updates, and the edge module of the last step.
"""

import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from flax.traverse_util import unflatten_dict

from mlip.convert.checkpoint_files import ReadOptions, check_archive, read_npz
from mlip.convert.layers import Arrays, NamedArrays, count_layers, linear_layer
from mlip.convert.pytorch import import_torch
from mlip.data.element_vectors import read_element_vectors, vectors_by_number
from mlip.errors import MlipError
from mlip.models import parse_config
from mlip.models.cgat import CGATConfig
from mlip.models.hypernetwork import N_LAYERS
from mlip.network import check_parameters
from mlip.property_model import PropertyMetadata, PropertyModel

LAYOUT = "a checkpoint of CGAT (.ckpt), or its arrays (NAME_weights.npz)"

_PREFIX = "model."
_LANDMARKS = ("nbr_embedding.weight", "graphs.0.Node.MH_A.fc_in.weight")


def recognizes(source: Path) -> bool:
    if source.suffix == ".ckpt":
        return source.is_file()
    if not source.name.endswith("_weights.npz"):
        return False
    with np.load(source, allow_pickle=False) as archive:
        return _LANDMARKS[0] in archive.files


def read(source: Path, options: ReadOptions) -> PropertyModel:
    """Read a CGAT checkpoint.

    Raises:
        MlipError: damaged files, no element vectors, or a variant that is not implemented.
    """
    where = str(source)
    if options.element_vectors is None:
        raise MlipError("is without the vectors of its elements", where=where, fix="--element-vectors FILE.json")
    arrays, mean, std = (
        _read_checkpoint(source, options.trust_pickle) if source.suffix == ".ckpt" else (read_npz(source), 0.0, 1.0)
    )
    vectors = read_element_vectors(options.element_vectors)
    config = _config(arrays, vectors, where)
    params = parameters(config, arrays, vectors, where)
    metadata = PropertyMetadata(
        property=options.predicts or "e_above_hull",
        mean=mean,
        std=std,
        elements=sorted(vectors, key=atomic_numbers.__getitem__),
        functional=options.functional or "unknown",
        provenance={"converted_from": "CGAT", "citation": "doi:10.1126/sciadv.abi7948"},
    )
    return PropertyModel(config, params, metadata)


def _read_checkpoint(source: Path, trust_pickle: bool) -> tuple[Arrays, float, float]:
    """Arrays by name, and the mean and standard deviation of the target."""
    check_archive(source)
    torch = import_torch(f"{source} is read")
    try:
        with torch.serialization.safe_globals([Namespace]):  # Lightning stores its command line as a Namespace
            checkpoint = torch.load(source, map_location="cpu", weights_only=not trust_pickle)
    except Exception as error:  # torch raises whatever its unpickler meets in a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MlipError(
            f"cannot be read as tensors alone: {reason}",
            where=str(source),
            fix="--trust-pickle, if you trust its maker: it can run any code",
        ) from None
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise MlipError("is no checkpoint of Lightning: state_dict is missing", where=str(source))
    state = {name: tensor.detach().numpy() for name, tensor in state.items()}
    arrays = {name.removeprefix(_PREFIX): array for name, array in state.items() if name.startswith(_PREFIX)}
    mean, std = (_scalar(state.get(name), name, str(source)) for name in ("mean", "std"))
    return arrays, mean, std


def _scalar(array: np.ndarray | None, name: str, where: str) -> float:
    if array is None or array.size != 1:
        raise MlipError(f"{name} of the target is missing", where=where)
    return float(array.reshape(()))


def _config(arrays: Arrays, vectors: dict[str, np.ndarray], where: str) -> CGATConfig:
    """Config that follows from the shapes of the arrays."""
    for name in (*_LANDMARKS, "embedding.weight", "cry_pool.MH_A.fc_out.weight", "output_nn.fcs.0.weight"):
        if name not in arrays:
            raise MlipError(f"is no CGAT: {name} is missing", where=where)
    features, element_features = arrays["embedding.weight"].shape
    n_rows, shell_features = arrays["nbr_embedding.weight"].shape
    heads = len(arrays["graphs.0.Node.MH_A.fc_in.weight"]) // int((2 * features + shell_features) / 1.5)
    pooled = arrays["output_nn.fcs.0.weight"].shape[1]
    values = {
        "model": "cgat",
        "n_neighbors": n_rows - 1,
        "features": features,
        "shell_features": shell_features,
        "heads": heads,
        "n_steps": count_layers(arrays, r"graphs\.(\d+)\.Node\."),
        "composition_steps": count_layers(arrays, r"roost\.graphs\.(\d+)\."),
        "vector_attention": len(arrays["graphs.0.Node.MH_A.fc_out.weight"]) == heads * features,
        "vector_pooling": len(arrays["cry_pool.MH_A.fc_out.weight"]) == heads * features,
        "edge_update": "shell" if "graphs.0.Edge.Pooling_NN.fcs.0.weight" in arrays else "attention",
        "pooled_heads": "concatenated" if pooled == heads * features else "mean",
        "output_widths": [
            len(arrays[f"output_nn.fcs.{k}.weight"]) for k in range(count_layers(arrays, r"output_nn\.fcs\.(\d+)\."))
        ],
        "rezero": "output_nn.rezeros.0.alpha" in arrays,
        "element_vectors": "fixed",
        "element_features": element_features,
        "max_atomic_number": max(map(atomic_numbers.__getitem__, vectors)),
    }
    if (length := len(next(iter(vectors.values())))) != element_features:
        raise MlipError(f"takes vectors of {element_features} numbers, those given have {length}", where=where)
    try:
        return parse_config(values)
    except MlipError as error:
        raise MlipError(error.what, where=where) from None


def parameters(config: CGATConfig, arrays: Arrays, vectors: dict[str, np.ndarray], where: str) -> dict[str, Any]:
    """Parameters of our network from arrays named as in the original's state dict.

    Raises:
        MlipError: an array is missing, superfluous, or has another shape than the config requires.
    """
    left = NamedArrays(arrays, where)
    flat: dict[tuple[str, ...], np.ndarray] = {
        ("element_vectors",): vectors_by_number(vectors, config.max_atomic_number),
        ("embedding", "kernel"): left.take("embedding.weight").T,
        ("shell_embedding",): left.take("nbr_embedding.weight"),
    }
    for step in range(config.n_steps):
        theirs, ours = f"graphs.{step}", f"atoms_{step}"
        flat |= _heads(config, left, f"{theirs}.Node.MH_A", (ours, "scores"))
        flat |= _heads(config, left, f"{theirs}.Node.MH_M", (ours, "messages"))
        flat |= _hypernetwork(left, f"{theirs}.Node.Pooling_NN", (ours,), has_damping=step > 0)
        if step < config.n_steps - 1:
            flat |= _edges(config, left, f"{theirs}.Edge", step)
    flat |= _composition(config, left)
    flat |= _heads(config, left, "cry_pool.MH_A", ("pooling", "scores"))
    flat |= _heads(config, left, "cry_pool.MH_M", ("pooling", "values"))
    flat |= _output(config, left)
    for name in arrays:
        if name.startswith(f"graphs.{config.n_steps - 1}.Edge.") or (
            config.edge_update == "shell" and re.match(r"graphs\.\d+\.Edge\.MH_[AM]\.", name)
        ):
            left.discard(name)
    left.check_all_taken()
    params = unflatten_dict({path: np.array(array, np.float32, order="C") for path, array in flat.items()})
    check_parameters(config, params, where)
    return params


def _two_layers(left: NamedArrays, theirs: str, ours: tuple[str, ...]) -> dict:
    return linear_layer(left, f"{theirs}.fcs.0", (*ours, "hidden")) | linear_layer(
        left, f"{theirs}.fc_out", (*ours, "out")
    )


def _heads(config: CGATConfig, left: NamedArrays, theirs: str, ours: tuple[str, ...]) -> dict:
    """Kernels and biases of grouped convolutions, which the original stores as the stacked rows of all heads."""
    arrays = {}
    for layer, kernel, bias in (("fc_in", "hidden_kernel", "hidden_bias"), ("fc_out", "kernel", "bias")):
        weight = left.take(f"{theirs}.{layer}.weight")
        arrays[*ours, kernel] = weight.reshape(config.heads, -1, weight.shape[1]).swapaxes(1, 2)
        arrays[*ours, bias] = left.take(f"{theirs}.{layer}.bias").reshape(config.heads, -1)
    return arrays


def _hypernetwork(left: NamedArrays, theirs: str, ours: tuple[str, ...], has_damping: bool) -> dict:
    """Arrays of a hypernetwork. The last layer of each predictor outputs W, row by row, and then b."""
    kernels, biases, tables, offsets = [], [], [], []
    for layer in range(N_LAYERS):
        level = "" if layer == N_LAYERS - 1 else "hyper_linear."
        predictor = f"{theirs}.Hyper.layers.{layer}.{level}hypo_params.net"
        kernels.append([left.take(f"{predictor}.{depth}.net.0.weight").T for depth in range(N_LAYERS)])
        biases.append([left.take(f"{predictor}.{depth}.net.0.bias") for depth in range(N_LAYERS)])
        tables.append(left.take(f"{predictor}.{N_LAYERS}.weight"))
        offsets.append(left.take(f"{predictor}.{N_LAYERS}.bias"))
    tables, offsets, width = np.stack(tables), np.stack(offsets), len(biases[0][0])
    weights, constant = tables[:, : width**2], offsets[:, : width**2]
    name = (*ours, "hypernetwork")
    arrays = {
        (*name, "hidden_kernel"): np.array(kernels),
        (*name, "hidden_bias"): np.array(biases),
        (*name, "kernel"): weights.reshape(N_LAYERS, width, width, width).transpose(0, 3, 2, 1),  # o i h -> h i o
        (*name, "from_input"): constant.reshape(N_LAYERS, width, width).swapaxes(1, 2),
        (*name, "from_hidden"): tables[:, width**2 :].swapaxes(1, 2),
        (*name, "bias"): offsets[:, width**2 :],
    }
    return arrays | ({(*ours, "damping"): left.take(f"{theirs}.damping")[0]} if has_damping else {})


def _edges(config: CGATConfig, left: NamedArrays, theirs: str, step: int) -> dict:
    ours = f"edges_{step}"
    if config.edge_update == "shell":
        return _two_layers(left, f"{theirs}.Pooling_NN", (ours,))
    return (
        _heads(config, left, f"{theirs}.MH_A", (ours, "scores"))
        | _heads(config, left, f"{theirs}.MH_M", (ours, "messages"))
        | _hypernetwork(left, f"{theirs}.Pooling_NN", (ours,), has_damping=step > 0)
    )


def _composition(config: CGATConfig, left: NamedArrays) -> dict:
    arrays = linear_layer(left, "roost.embedding", ("composition", "embedding"))
    for step in range(config.composition_steps):
        theirs, ours = f"roost.graphs.{step}.pooling.0", ("composition", f"messages_{step}")
        for net, name in (("gate_nn", "gate"), ("message_nn", "message")):
            at_self, at_other = np.split(left.take(f"{theirs}.{net}.fcs.0.weight").T, 2)
            arrays[*ours, f"{name}_self", "kernel"], arrays[*ours, f"{name}_other", "kernel"] = at_self, at_other
            arrays[*ours, f"{name}_self", "bias"] = left.take(f"{theirs}.{net}.fcs.0.bias")
        arrays |= linear_layer(left, f"{theirs}.gate_nn.fc_out", (*ours, "gate"))
        arrays[*ours, "message_kernel"] = left.take(f"{theirs}.message_nn.fc_out.weight").T
        arrays[*ours, "message_bias"] = left.take(f"{theirs}.message_nn.fc_out.bias")
        arrays[*ours, "power"] = left.take(f"{theirs}.pow")[0]
    arrays |= _two_layers(left, "roost.cry_pool.0.gate_nn", ("composition", "pool_gate"))
    return arrays | {("composition", "pool_power"): left.take("roost.cry_pool.0.pow")[0]}


def _output(config: CGATConfig, left: NamedArrays) -> dict:
    arrays = {}
    for block in range(len(config.output_widths)):
        arrays |= linear_layer(left, f"output_nn.fcs.{block}", ("output", f"block_{block}"))
        if f"output_nn.res_fcs.{block}.weight" in left:
            arrays |= linear_layer(left, f"output_nn.res_fcs.{block}", ("output", f"residual_{block}"), use_bias=False)
        if config.rezero:
            arrays["output", f"weight_{block}"] = left.take(f"output_nn.rezeros.{block}.alpha")[0]
    return arrays | linear_layer(left, "output_nn.fc_out", ("output", "out"))
