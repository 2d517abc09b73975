"""Converter for ALIGNN checkpoints: a PyTorch state dict (.pt) beside config.json, or its arrays in NAME_weights.npz.

Dimensions follow from the shapes of the arrays. The neighbor list's settings and the link function come from
config.json (for an npz: NAME_config.json), the config of a training or of the model alone; without it, the original's
defaults apply. A checkpoint lacks the element vectors (CGCNN's), which are read from a separate file. Ignored arrays
are batch counters, centers of expansions, and norms without effect (of the edges in the last layers). The penalty of
`alignn_atomwise` on bonds shorter than 1 A is left out: it adds the sum over a batch to each crystal of the batch.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from flax.traverse_util import unflatten_dict

from mlip.convert.checkpoint_files import (
    ReadOptions,
    check_archive,
    holds_array,
    read_json_object,
    read_npz,
    torch_file_names,
)
from mlip.convert.layers import Arrays, NamedArrays, count_layers, linear_layer
from mlip.convert.pytorch import import_torch
from mlip.data.element_vectors import read_element_vectors, vectors_by_number
from mlip.errors import MlipError
from mlip.models import parse_config
from mlip.models.alignn import ALIGNNConfig
from mlip.network import check_parameters
from mlip.property_model import PropertyMetadata, PropertyModel

LAYOUT = "a network of ALIGNN (.pt, or a folder with one and config.json), or its arrays (NAME_weights.npz)"

_LANDMARK = "angle_embedding.1.layer.0.weight"
_NEEDED = (_LANDMARK, "atom_embedding.layer.0.weight", "edge_embedding.1.layer.0.weight", "fc.weight")
_BEST = "best_model.pt"
_DECIMALS = 5
"""Number of decimals to which the original rounds lattice vectors (A)."""
_NORMS = {"weight": "scale", "bias": "bias", "running_mean": "running_mean", "running_var": "running_variance"}
_REFUSED = {
    "classification": (False, "classifies"),
    "zero_inflated": (False, "is zero-inflated"),
    "extra_features": (0, "takes further features"),
    "use_cutoff_function": (False, "has a cutoff function"),
    "atomwise_output_features": (0, "has outputs of atoms"),
    "additional_output_features": (0, "has further outputs"),
}
"""Settings that change the network: the implemented value, and what the error says of a model with another value."""


def recognizes(source: Path) -> bool:
    if source.is_dir():
        return any(torch_file_names(path, _LANDMARK) for path in source.glob("*.pt"))
    if source.suffix == ".pt":
        return torch_file_names(source, _LANDMARK)
    return holds_array(source, _LANDMARK)


def read(source: Path, options: ReadOptions) -> PropertyModel:
    """Read an ALIGNN checkpoint.

    Raises:
        MlipError: damaged files, no element vectors, no name of the predicted property, or a variant that is not
            implemented.
    """
    if source.is_dir():
        source = _checkpoint_in(source)
    where = str(source)
    if options.element_vectors is None:
        raise MlipError("is without the vectors of its elements", where=where, fix="--element-vectors FILE.json")
    if options.predicts is None:
        raise MlipError("does not say what it predicts", where=where, fix="--predicts NAME, such as e_form")
    is_npz = source.suffix == ".npz"
    arrays = read_npz(source) if is_npz else _read_state(source)
    settings_path = source.with_name(source.name.replace("_weights.npz", "_config.json") if is_npz else "config.json")
    settings = read_json_object(settings_path) if settings_path.exists() else {}
    vectors = read_element_vectors(options.element_vectors)
    config = config_of(arrays, settings, vectors, where)
    metadata = PropertyMetadata(
        property=options.predicts,
        elements=sorted(vectors, key=atomic_numbers.__getitem__),
        functional=options.functional or "unknown",
        provenance={"converted_from": "ALIGNN", "citation": "doi:10.1038/s41524-021-00650-1"}
        | ({} if settings else {"notes": ["no config.json: bonds and link are the original's defaults"]}),
    )
    return PropertyModel(config, parameters(config, arrays, vectors, where), metadata)


def _checkpoint_in(folder: Path) -> Path:
    found = sorted(path for path in folder.glob("*.pt") if torch_file_names(path, _LANDMARK))
    if folder / _BEST in found:
        return folder / _BEST
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise MlipError(f"holds several networks: {names}", where=str(folder), fix="name one of the files")
    return found[0]


def _read_state(source: Path) -> Arrays:
    """Arrays by name, from a state dict or from a checkpoint that holds one as `model`."""
    check_archive(source)
    torch = import_torch(f"{source} is read")
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets in a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MlipError(f"cannot be read as tensors alone: {reason}", where=str(source)) from None
    state = state.get("model", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise MlipError("is no state dict", where=str(source))
    return {name.removeprefix("module."): tensor.detach().numpy() for name, tensor in state.items()}


def config_of(arrays: Arrays, settings: dict[str, Any], vectors: dict[str, np.ndarray], where: str) -> ALIGNNConfig:
    """Config that follows from the shapes of the arrays and the original's settings.

    Args:
        settings: config of a training or of the model alone; may be empty.

    Raises:
        MlipError: the arrays belong to another model, or the variant is not implemented.
    """
    for name in _NEEDED:
        if name not in arrays:
            raise MlipError(f"is no ALIGNN: {name} is missing", where=where)
    training, model = (settings, settings["model"]) if isinstance(settings.get("model"), dict) else ({}, settings)
    for key, (implemented, what) in _REFUSED.items():
        if model.get(key, implemented) != implemented:
            raise MlipError(f"{what}, which is not implemented", where=where)
    strategy = training.get("neighbor_strategy", "k-nearest")
    if strategy not in ("k-nearest", "radius_graph"):
        raise MlipError(f"neighbor_strategy {strategy!r} is not implemented", where=where)
    features, element_features = arrays["atom_embedding.layer.0.weight"].shape
    if (length := len(next(iter(vectors.values())))) != element_features:
        raise MlipError(f"takes vectors of {element_features} numbers, those given have {length}", where=where)
    values = {
        "model": "alignn",
        "neighbors": "radius" if strategy == "radius_graph" else "nearest",
        "n_neighbors": training.get("max_neighbors", 12),
        "cutoff": training.get("cutoff", 8.0),
        "lattice_decimals": _DECIMALS,
        "n_pair_layers": count_layers(arrays, r"alignn_layers\.(\d+)\."),
        "n_bond_layers": count_layers(arrays, r"gcn_layers\.(\d+)\."),
        "features": features,
        "embedding_features": len(arrays["edge_embedding.1.layer.0.weight"]),
        "length_centers": arrays["edge_embedding.1.layer.0.weight"].shape[1],
        "cosine_centers": arrays[_LANDMARK].shape[1],
        "norm": "batch" if "atom_embedding.layer.1.running_mean" in arrays else "layer",
        "link": model.get("link", "identity"),
        "element_vectors": "fixed",
        "element_features": element_features,
        "max_atomic_number": max(map(atomic_numbers.__getitem__, vectors)),
    }
    try:
        return parse_config(values)
    except MlipError as error:
        raise MlipError(error.what, where=where) from None


def parameters(config: ALIGNNConfig, arrays: Arrays, vectors: dict[str, np.ndarray], where: str) -> dict[str, Any]:
    """Parameters of our network from arrays named as in the original's state dict.

    Raises:
        MlipError: an array is missing, superfluous, or has another shape than the config requires.
    """
    left = NamedArrays(arrays, where)
    flat: dict[tuple[str, ...], np.ndarray] = {
        ("element_vectors",): vectors_by_number(vectors, config.max_atomic_number)
    }
    flat |= _embedding(left, "atom_embedding", "atom_embedding")
    for kind, theirs in (("bond", "edge_embedding"), ("pair", "angle_embedding")):
        for step in range(2):
            flat |= _embedding(left, f"{theirs}.{step + 1}", f"{kind}_embedding_{step}")
    for layer in range(config.n_pair_layers):
        is_last = layer == config.n_pair_layers - 1
        flat |= _convolution(left, f"alignn_layers.{layer}.node_update", f"atoms_{layer}", True)
        flat |= _convolution(left, f"alignn_layers.{layer}.edge_update", f"bonds_{layer}", not is_last)
    for layer in range(config.n_bond_layers):
        flat |= _convolution(left, f"gcn_layers.{layer}", f"gated_{layer}", layer < config.n_bond_layers - 1)
    flat |= linear_layer(left, "fc", ("out",))
    for name in arrays:
        if re.search(r"(\.num_batches_tracked|_embedding\.0\.(centers|gamma))$", name):
            left.discard(name)
    left.check_all_taken()
    params = unflatten_dict({path: np.array(array, np.float32, order="C") for path, array in flat.items()})
    check_parameters(config, params, where)
    return params


def _embedding(left: NamedArrays, theirs: str, ours: str) -> dict:
    return linear_layer(left, f"{theirs}.layer.0", (ours,)) | _norm(left, f"{theirs}.layer.1", (f"{ours}_norm",))


def _norm(left: NamedArrays, theirs: str, ours: tuple[str, ...]) -> dict:
    return {(*ours, mine): left.take(f"{theirs}.{name}") for name, mine in _NORMS.items() if f"{theirs}.{name}" in left}


def _convolution(left: NamedArrays, theirs: str, ours: str, updates_edges: bool) -> dict:
    """Fuse four node layers of the original into one: sender's gate and message, receiver's gate, and own update."""
    parts = [
        linear_layer(left, f"{theirs}.{name}", (name,)) for name in ("src_gate", "dst_update", "dst_gate", "src_update")
    ]
    flat = {
        (ours, "nodes", kind): np.concatenate(
            [next(a for key, a in part.items() if key[-1] == kind) for part in parts], -1
        )
        for kind in ("kernel", "bias")
    }
    flat |= linear_layer(left, f"{theirs}.edge_gate", (ours, "edges"))
    flat |= _norm(left, f"{theirs}.bn_nodes", (ours, "nodes_norm"))
    unused = _norm(left, f"{theirs}.bn_edges", (ours, "edges_norm"))
    return flat | (unused if updates_edges else {})
