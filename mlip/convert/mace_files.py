"""Reading of mace-torch's models: a pickled module (.model), or arrays (NAME_weights.npz beside NAME_config.json).

Loading a pickled module can run arbitrary code, so it happens on request only. Much of what a module computes is
determined by its attributes and by the classes of its parts, not by its state dict. Both are read, and an error names
whatever `mlip.models.mace` does not have.
"""

import re
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlip.convert.checkpoint_files import DAMAGED, check_archive, read_json_object, read_npz
from mlip.convert.layers import Arrays
from mlip.convert.pytorch import import_mace_torch
from mlip.errors import MlipError
from mlip.models.mace import SILU_NORM

_WEIGHTS, _CONFIG = "_weights.npz", "_config.json"
_LARGEST_PICKLE = 2**28  # bytes without the tensors; published models have 2 MB
_CONSTANT = re.compile(r".*\.(output_mask|_w3j_\w+|prefactor|weights_\w+_zeroed)|interactions\.\d+\.conv_tp\.weight")
_NAMES = {  # class -> its name in a config
    "BesselBasis": "bessel",
    "AgnesiTransform": "agnesi",
    "NoneType": "none",
}
_READOUTS = ("LinearReadoutBlock", "NonLinearReadoutBlock")
_DEFAULTS = {  # implemented values, which also describe older modules without the attribute
    "embedding_specs": None,
    "edge_irreps": None,
    "use_so3": False,
    "use_agnostic_product": False,
    "use_last_readout_only": False,
    "apply_cutoff": True,
}


@dataclass(frozen=True)
class MaceModelFile:
    """Content of a model's file in either layout."""

    where: str
    origin: str
    """Name of the model for the provenance."""
    values: dict[str, Any]
    """Settings of the model, named as in NAME_config.json."""
    arrays: Arrays
    """State dict without e3nn's constants."""


def is_export(source: Path) -> bool:
    config = _config_file(source)
    return source.name.endswith(_WEIGHTS) and config.is_file() and b'"mace_torch"' in config.read_bytes()


def is_module(source: Path) -> bool:
    """Whether a file is named .model, or is a pickle that names classes of mace-torch, like the files in its cache.

    Nothing is unpickled for this check.
    """
    if source.suffix == ".model" or not zipfile.is_zipfile(source):
        return source.suffix == ".model" and source.is_file()
    try:
        with zipfile.ZipFile(source) as archive:
            pickles = [item for item in archive.infolist() if item.filename.endswith("/data.pkl")]
            return any(item.file_size < _LARGEST_PICKLE and b"mace.modules" in archive.read(item) for item in pickles)
    except DAMAGED:
        return False


def read_export(source: Path) -> MaceModelFile:
    """Read plain arrays and their config.

    Raises:
        MlipError: a file is missing or damaged.
    """
    values = read_json_object(_config_file(source))
    origin = f"mace-torch {values.get('mace_torch')} {source.name.removesuffix(_WEIGHTS)}"
    return MaceModelFile(str(source), origin, values, _without_constants(read_npz(source)))


def _config_file(source: Path) -> Path:
    return source.with_name(source.name.removesuffix(_WEIGHTS) + _CONFIG)


def read_module(source: Path, trust_pickle: bool) -> MaceModelFile:
    """Load a pickled module, which can run arbitrary code.

    Raises:
        MlipError: `trust_pickle` is false, PyTorch or mace-torch is missing, the file is damaged, or
            `mlip.models.mace` cannot represent the module.
    """
    where = str(source)
    if not trust_pickle:
        raise MlipError(
            "is a pickled module: loading it can run any code that is in the file",
            where=where,
            fix="give --trust-pickle if you trust its source as you trust a program that you install; published models "
            "go by name (`mlip models`), and are read because their SHA-256 is pinned",
        )
    check_archive(source)
    torch = import_mace_torch(f"{source} is read")
    try:
        module = torch.load(source, map_location="cpu", weights_only=False)
    except Exception as error:  # whatever mace-torch's classes raise on the attributes of another release
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MlipError(f"cannot be loaded by this mace-torch: {reason}", where=where) from None
    _told("its kind", lambda: _check_parts(module, where), where)
    arrays = {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
    return MaceModelFile(where, f"mace-torch {source.name}", _values(module, where), _without_constants(arrays))


def _check_parts(module: Any, where: str) -> None:
    """Check that `mlip.models.mace` can represent a module.

    Raises:
        MlipError: a part or an option makes it a different network; the message names it.
    """
    name = type(module).__name__
    if name not in ("ScaleShiftMACE", "MACE"):  # a compiled module is a RecursiveScriptModule
        raise MlipError(f"holds a {name}; only ScaleShiftMACE and MACE, as they were trained, are read", where=where)
    for option, default in _DEFAULTS.items():
        value = getattr(module, option, default)
        if value is not default:
            raise MlipError(f"{option} = {value!s} is not implemented, only {default}", where=where)
    for part in module.modules():
        package = type(part).__module__
        if package.startswith(("cuequivariance", "openequivariance")):
            fix = "convert it back to e3nn first: mace_cueq_to_e3nn, mace_oeq_to_e3nn"
            raise MlipError(f"is made of {package.split('.')[0]}'s layers", where=where, fix=fix)
        if package == "mace.modules.lora":
            raise MlipError("has LoRA layers, which are not implemented", where=where, fix="merge them first")
    for readout in module.readouts:
        if type(readout).__name__ not in _READOUTS:
            raise MlipError(f"readout {type(readout).__name__} is not implemented", where=where)
    if module.products[-1].linear.irreps_out.lmax > 0 and len(module.products) > 1:
        raise MlipError("the last layer keeps more than scalars, which is not implemented", where=where)


def _values(module: Any, where: str) -> dict[str, Any]:
    """Settings that are not in the state dict.

    Raises:
        MlipError: the module lacks an attribute of mace-torch's models, or has None there; the message names it.
    """

    def heads() -> list[str]:
        return list(getattr(module, "heads", None) or ["default"])

    def is_deep() -> bool:
        return hasattr(module.readouts[-1], "hidden_irreps")

    tell: dict[str, Callable[[], Any]] = {
        "model": lambda: type(module).__name__,
        "hidden": lambda: str(module.products[0].linear.irreps_out),
        "first": lambda: type(module.interactions[0]).__name__,
        "inter": lambda: _one("interaction blocks", [type(block).__name__ for block in module.interactions[1:]], where),
        "r_max": lambda: _decimal(module.r_max),
        "num_bessel": lambda: len(getattr(module.radial_embedding.bessel_fn, "bessel_weights", ())),
        "radial_type": lambda: _name_of_class(module.radial_embedding.bessel_fn),
        "distance_transform": lambda: _name_of_class(getattr(module.radial_embedding, "distance_transform", None)),
        "p": lambda: int(module.radial_embedding.cutoff_fn.p),
        "max_ell": lambda: module.interactions[0].edge_attrs_irreps.lmax,
        "corr": lambda: _one(
            "correlations", [len(part.weights) + 1 for block in module.products for part in _contractions(block)], where
        ),
        "nint": lambda: len(module.interactions),
        "radial_MLP": lambda: list(module.interactions[0].conv_tp_weights.hs[1:-1]),
        "avgn": lambda: _one(
            "avg_num_neighbors", [float(block.avg_num_neighbors) for block in module.interactions], where
        ),
        "gate": lambda: _gate(module.readouts[-1], where) if is_deep() else "silu",
        "MLP": lambda: f"{module.readouts[-1].hidden_irreps.dim // len(heads())}x0e" if is_deep() else "16x0e",
        "pair_repulsion": lambda: getattr(module, "pair_repulsion_fn", None) is not None,
        "heads": heads,
    }
    return {name: _told(name, value, where) for name, value in tell.items()}


def _told(name: str, value: Callable[[], Any], where: str) -> Any:
    """Result of `value`; an MlipError that names the setting if the module is not built as mace-torch builds it."""
    try:
        return value()
    except (AttributeError, TypeError, IndexError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise MlipError(
            f"{name} cannot be told from the module ({reason})",
            where=where,
            fix="only models as mace-torch makes and trains them are read",
        ) from None


def _contractions(product: Any) -> Iterable[Any]:
    return product.symmetric_contractions.contractions


def _one(what: str, values: Iterable[Any], where: str) -> Any:
    """The value that all layers have in common; None if there are no layers."""
    different = list(dict.fromkeys(values))
    if len(different) > 1:
        listed = ", ".join(map(str, different))
        raise MlipError(f"layers with different {what} ({listed}) are not implemented", where=where)
    return different[0] if different else None


def _decimal(scalar: Any) -> float:
    """Shortest decimal of a float32 scalar: 4.6, not 4.599999904."""
    return float(str(scalar.numpy()))


def _name_of_class(part: Any) -> str:
    return _NAMES.get(type(part).__name__, type(part).__name__)


def _gate(readout: Any, where: str) -> str:
    """Activation of the last readout, "None" if it has none. Its normalization, which e3nn estimates by sampling, is
    checked."""
    activation = readout.non_linearity.acts[0]
    if activation is None:
        return "None"
    name = getattr(activation.f, "__name__", type(activation.f).__name__)
    if name == "silu" and not np.isclose(activation.cst, SILU_NORM, rtol=1e-6):
        raise MlipError(f"silu is scaled by {activation.cst}, not by {SILU_NORM}", where=where)
    return name


def _without_constants(arrays: Arrays) -> Arrays:
    """Arrays without e3nn's constants and its empty biases."""
    return {
        name: array
        for name, array in arrays.items()
        if not _CONSTANT.fullmatch(name) and not (name.endswith(".bias") and array.size == 0)
    }
