"""Converter for CrabNet: a network saved by PyTorch (.pth), or its arrays in NAME_weights.npz.

All dimensions except the number of heads follow from the shapes of the arrays. The table of encodings, which a
checkpoint holds twice, is read from there: the original computes it in single precision, with errors up to 4e-4.
"""

from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from flax.traverse_util import unflatten_dict

from mlip.convert.checkpoint_files import ReadOptions, check_archive, holds_array, read_npz, torch_file_names
from mlip.convert.layers import Arrays, NamedArrays, count_layers, linear_layer
from mlip.convert.pytorch import import_torch
from mlip.errors import MlipError
from mlip.models.crabnet import RESOLUTION, CrabNetConfig
from mlip.network import check_parameters
from mlip.property_model import PropertyMetadata, PropertyModel

LAYOUT = "a network of CrabNet (.pth), or its arrays (NAME_weights.npz)"

_LANDMARK = "encoder.embed.fc_mat2vec.weight"
_NEEDED = (
    _LANDMARK,
    "encoder.embed.cbfv.weight",
    "encoder.transformer_encoder.layers.0.linear1.weight",
    "output_nn.fcs.0.weight",
)
_HEADS = 4
_SCALES = {"emb_scaler": "element_scale", "pos_scaler": "scale", "pos_scaler_log": "log_scale"}
_LAYERS = {"self_attn.out_proj": "heard", "linear1": "hidden", "linear2": "change"}
_NORMS = {"norm1": "norm_attention", "norm2": "norm_change"}


def recognizes(source: Path) -> bool:
    if source.suffix == ".pth":
        return torch_file_names(source, _LANDMARK)
    return holds_array(source, _LANDMARK)


def read(source: Path, options: ReadOptions) -> PropertyModel:
    """Read a CrabNet.

    Raises:
        MlipError: the file is damaged or holds more than tensors, the variant is not implemented, or the name of the
            predicted property is not given.
    """
    where = str(source)
    if options.predicts is None:
        raise MlipError("does not say what it predicts", where=where, fix="--predicts NAME, such as band_gap")
    arrays, mean, std = _read_network(source) if source.suffix == ".pth" else (read_npz(source), 0.0, 1.0)
    config = config_of(arrays, where)
    params = parameters(config, arrays, where)
    vectors = params["embedding"]["element_vectors"]
    metadata = PropertyMetadata(
        property=options.predicts,
        mean=mean,
        std=std,
        elements=[chemical_symbols[z] for z in config.known_numbers if vectors[z].any()],
        functional=options.functional or "unknown",
        knows_uncertainty=True,
        provenance={"converted_from": "CrabNet", "citation": "doi:10.1038/s41524-021-00545-1"},
    )
    return PropertyModel(config, params, metadata)


def _read_network(source: Path) -> tuple[Arrays, float, float]:
    """Arrays by name, and the mean and standard deviation of the target."""
    where = str(source)
    check_archive(source)
    torch = import_torch(f"{source} is read")
    try:
        network = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets in a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MlipError(f"cannot be read as tensors alone: {reason}", where=where) from None
    weights = network.get("weights") if isinstance(network, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise MlipError("is no network of CrabNet: 'weights' is missing", where=where)
    scaler = network.get("scaler_state")
    if not isinstance(scaler, dict) or not {"mean", "std"} <= scaler.keys():
        raise MlipError("is no network of CrabNet: 'scaler_state' with mean and std is missing", where=where)
    mean, std = (float(torch.as_tensor(scaler[name]).reshape(())) for name in ("mean", "std"))
    if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
        raise MlipError(f"the target's mean {mean} and standard deviation {std} are no scale", where=where)
    return {name: tensor.detach().numpy() for name, tensor in weights.items()}, mean, std


def config_of(arrays: Arrays, where: str) -> CrabNetConfig:
    """Config that follows from the shapes of the arrays; the number of heads is always the original's, four.

    Raises:
        MlipError: the arrays belong to another model.
    """
    for name in _NEEDED:
        if name not in arrays:
            raise MlipError(f"is no CrabNet: {name} is missing", where=where)
    features, element_features = arrays[_LANDMARK].shape
    try:
        return CrabNetConfig(
            features=features,
            heads=_HEADS,
            n_layers=count_layers(arrays, r"encoder\.transformer_encoder\.layers\.(\d+)\."),
            hidden=len(arrays["encoder.transformer_encoder.layers.0.linear1.weight"]),
            output_widths=tuple(
                len(arrays[f"output_nn.fcs.{k}.weight"])
                for k in range(count_layers(arrays, r"output_nn\.fcs\.(\d+)\.weight"))
            ),
            element_features=element_features,
            max_atomic_number=len(arrays["encoder.embed.cbfv.weight"]) - 1,
        )
    except (KeyError, ValueError) as error:  # pydantic's error is a ValueError
        raise MlipError(f"is no CrabNet: {str(error).splitlines()[-1].strip()}", where=where) from None


def parameters(config: CrabNetConfig, arrays: Arrays, where: str) -> dict[str, Any]:
    """Parameters of our network from arrays named as in the original's state dict.

    Raises:
        MlipError: an array is missing, superfluous, or has another shape than the config requires.
    """
    left = NamedArrays(arrays, where)
    flat: dict[tuple[str, ...], np.ndarray] = {
        ("embedding", "element_vectors"): left.take("encoder.embed.cbfv.weight"),
        ("embedding", "encodings"): _encodings(left, where),
    }
    flat |= linear_layer(left, "encoder.embed.fc_mat2vec", ("embedding", "element"))
    for theirs, ours in _SCALES.items():
        flat["embedding", ours] = left.take(f"encoder.{theirs}").reshape(())
    for layer in range(config.n_layers):
        theirs, ours = f"encoder.transformer_encoder.layers.{layer}", f"layer_{layer}"
        flat[ours, "queries_keys_values", "kernel"] = left.take(f"{theirs}.self_attn.in_proj_weight").T
        flat[ours, "queries_keys_values", "bias"] = left.take(f"{theirs}.self_attn.in_proj_bias")
        for name, mine in _LAYERS.items():
            flat |= linear_layer(left, f"{theirs}.{name}", (ours, mine))
        for name, mine in _NORMS.items():
            flat[ours, mine, "scale"] = left.take(f"{theirs}.{name}.weight")
            flat[ours, mine, "bias"] = left.take(f"{theirs}.{name}.bias")
    for block in range(len(config.output_widths)):
        flat |= linear_layer(left, f"output_nn.fcs.{block}", ("output", f"block_{block}"))
        if f"output_nn.res_fcs.{block}.weight" in left:
            flat["output", f"residual_{block}", "kernel"] = left.take(f"output_nn.res_fcs.{block}.weight").T
    flat |= linear_layer(left, "output_nn.fc_out", ("output", "out"))
    left.check_all_taken()
    params = unflatten_dict({path: np.array(array, np.float32, order="C") for path, array in flat.items()})
    check_parameters(config, params, where)
    return params


def _encodings(left: NamedArrays, where: str) -> np.ndarray:
    table, of_logarithms = left.take("encoder.pe.pe"), left.take("encoder.ple.pe")
    if not np.array_equal(table, of_logarithms):
        raise MlipError("fractions and their logarithms have different encodings", where=where)
    if len(table) != RESOLUTION:
        raise MlipError(f"tells fractions apart in {len(table)} steps, CrabNet in {RESOLUTION}", where=where)
    return table
