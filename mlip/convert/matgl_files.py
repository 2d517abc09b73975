"""Reading of matgl's M3GNet: a saved model (model.json, state.pt), or arrays (NAME_weights.npz, NAME_config.json).

model.json describes the network's classes and arguments; state.pt holds its tensors. model.pt, a pickle of the
constructor's arguments, is never opened.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from mlip.convert.checkpoint_files import check_archive, read_json_object, read_npz
from mlip.convert.layers import Arrays
from mlip.convert.pytorch import import_torch
from mlip.errors import MlipError

MODEL_VERSION, POTENTIAL_VERSION, TRANSFORMED_VERSION = 2, 3, 1
"""Supported @model_version of matgl's M3GNet and Potential (from 1.3, at the latest, to 4.1.2), and of
TransformedTargetModel."""

DIMENSIONS = {  # our name: matgl's
    "cutoff": "cutoff",
    "three_body_cutoff": "threebody_cutoff",
    "units": "dim_node_embedding",
    "hidden_units": "units",
    "n_blocks": "nblocks",
    "max_n": "max_n",
    "max_l": "max_l",
}

_STATE, _JSON = "state.pt", "model.json"
_WEIGHTS, _CONFIG = "_weights.npz", "_config.json"
_IMPLEMENTED = {  # arguments of M3GNet; dropout has no effect in evaluation
    "include_state": False,
    "use_phi": False,
    "rbf_type": "SphericalBessel",
    "task_type": "regression",
    "ntargets": 1,
    "field": "node_feat",
    "activation_type": "swish",
}
_OF_A_POTENTIAL = {"is_intensive": False}  # readout_type has no effect then
_OF_A_PROPERTY = {"is_intensive": True, "readout_type": "set2set"}
_TRANSFORMER = re.compile(r"Normalizer(?:: M|\(m)ean=([-+.\de]+), (?:Std: |std=)([-+.\de]+)\)?")  # matgl 0.8 and 4.1
_OLD_READOUT = (
    "is an M3GNet of matgl before 0.8 for a property: its readout was made anew at each call and never trained, so its "
    "predictions were random, and no file has it"
)
_IMPLEMENTED_AROUND = {"calc_repuls": False, "calc_charge": False}  # arguments of Potential
_FUNCTIONALS = {"PBE": "PBE", "PBEsol": "PBEsol", "r2SCAN": "r2SCAN", "MP": "PBE"}
"""Functional by a part of a published model's name."""


@dataclass(frozen=True)
class MatglModelFile:
    """Content of a model's folder in either layout."""

    name: str
    where: str
    arguments: dict[str, Any]
    """Arguments of M3GNet's constructor, checked."""
    arrays: Arrays
    """Arrays by their names in state.pt."""
    aggregate: str | None
    """End of a bond at which atom messages are added, "center" or "neighbor"; None if the files do not tell."""
    evidence: str
    functional: str | None
    target: tuple[float, float] | None = None
    """Mean and standard deviation of the predicted property; None for a potential."""

    @property
    def elements(self) -> list[str]:
        """Element symbols in the order of the embedding's rows and the reference energies."""
        return self.arguments["element_types"]


def is_saved_model(source: Path) -> bool:
    return _is_model_folder(source) or source.name.endswith(_WEIGHTS)


def read_saved_model(source: Path) -> MatglModelFile:
    """Read a model in either layout.

    Raises:
        MlipError: files are missing, damaged or unsafe, or the variant of M3GNet is not implemented.
    """
    return _read_model_folder(source) if _is_model_folder(source) else _read_export(source)


def _is_model_folder(source: Path) -> bool:
    if source.is_dir():
        return any((source / name).is_file() for name in (_JSON, _STATE))
    return source.name in (_JSON, _STATE)


def _read_model_folder(source: Path) -> MatglModelFile:
    folder = source if source.is_dir() else source.parent
    json_file, state_file = folder / _JSON, folder / _STATE
    saved = read_json_object(json_file)
    name = folder.resolve().name
    if saved.get("@class") in ("TransformedTargetModel", "M3GNet"):
        return _read_property_model(saved, name, folder)
    around = _arguments_of(saved, "Potential", POTENTIAL_VERSION, str(json_file))
    arguments = _arguments_of(around.get("model"), "M3GNet", MODEL_VERSION, str(json_file))
    _check_variant(around, _IMPLEMENTED_AROUND, str(json_file))
    _check_network(arguments, _OF_A_POTENTIAL, str(json_file))
    metadata = saved.get("metadata")
    aggregate, evidence = _release(saved, around)
    return MatglModelFile(
        name=name,
        where=str(folder),
        arguments=arguments,
        arrays=_read_state(state_file),
        aggregate=aggregate,
        evidence=evidence,
        functional=metadata.get("functional") if isinstance(metadata, dict) else _functional_by_name(name),
    )


def _read_property_model(saved: dict, name: str, folder: Path) -> MatglModelFile:
    """Read an M3GNet for a property, which is saved alone or with the scale of its target."""
    json_file, mean, std, network = str(folder / _JSON), 0.0, 1.0, saved
    if saved.get("@class") == "TransformedTargetModel":
        around = _arguments_of(saved, "TransformedTargetModel", TRANSFORMED_VERSION, json_file)
        network, transformer = around.get("model"), str(around.get("target_transformer"))
        if (numbers := _TRANSFORMER.fullmatch(transformer)) is None:
            raise MlipError(
                f"target_transformer {transformer!r} is not implemented, only a Normalizer", where=json_file
            )
        mean, std = map(float, numbers.groups())
    if isinstance(network, dict) and network.get("@class") == "M3GNet" and network.get("@model_version") == 1:
        raise MlipError(_OLD_READOUT, where=json_file, fix="the same model from 0.8 on, of @model_version 2")
    arguments = _arguments_of(network, "M3GNet", MODEL_VERSION, json_file)
    _check_network(arguments, _OF_A_PROPERTY, json_file)
    arrays = _read_state(folder / _STATE)
    if network is saved:
        arrays = {f"model.{key}": array for key, array in arrays.items()}
    return MatglModelFile(
        name=name,
        where=str(folder),
        arguments=arguments,
        arrays=arrays,
        aggregate=None,
        evidence="files of property models are the same in all releases",
        functional=_functional_by_name(name),
        target=(mean, std),
    )


def _arguments_of(saved: Any, name: str, version: int, where: str) -> dict:
    """Constructor arguments of an object that matgl saved; an MlipError for another class or version."""
    found = saved.get("@class") if isinstance(saved, dict) else None
    arguments = (saved.get("kwargs") or saved.get("init_args")) if found == name else None
    if not isinstance(arguments, dict):
        raise MlipError(f"holds {found or 'no object of matgl'} where only {name} is implemented", where=where)
    if saved.get("@model_version") != version:
        raise MlipError(
            f"{name} of @model_version {saved.get('@model_version')} is not implemented, only {version}", where=where
        )
    return arguments


def _release(potential: dict, around: dict) -> tuple[str | None, str]:
    """End of a bond at which atom messages are added, and the evidence. Version numbers did not change with the
    direction (in matgl 3.0), but the names of modules and options distinguish the releases."""
    modules = (str(around["model"].get("@module")), str(potential.get("@module")))
    signs = f"{modules[0]} in {modules[1]}"
    if modules[0].endswith(("_pyg", "_dgl")):
        return "center", f"saved by matgl 3 ({signs})"
    if modules[1] == "matgl.apps._pes" or "compile_model" in around:
        return "center", f"saved by matgl 4 ({signs}, compile_model)"
    if modules[0] == "matgl.models._m3gnet" and modules[1] in ("matgl.apps.pes", "matgl.apps._pes_dgl"):
        return "neighbor", f"saved by matgl 2 or older ({signs}, no compile_model)"
    return None, f"{signs} is of no known release"


def _read_state(path: Path) -> Arrays:
    """Tensors of state.pt, loaded without executing any code in the file."""
    check_archive(path)
    torch = import_torch(f"{path} is read")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets in a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MlipError(f"cannot be read as tensors alone: {reason}", where=str(path)) from None
    kinds = (torch.float32, torch.float64)
    if not isinstance(state, dict) or any(getattr(tensor, "dtype", None) not in kinds for tensor in state.values()):
        raise MlipError("is no dictionary of tensors in float32 or float64", where=str(path))
    of_compiled = "model._orig_mod."  # torch.compile adds this prefix to names
    return {str(name).replace(of_compiled, "model."): tensor.detach().numpy() for name, tensor in state.items()}


def _read_export(source: Path) -> MatglModelFile:
    config_file = source.with_name(source.name.removesuffix(_WEIGHTS) + _CONFIG)
    config = read_json_object(config_file)
    arguments, origin = config.get("init_args"), str(config.get("source"))
    if not isinstance(arguments, dict):
        raise MlipError("is not complete: init_args is missing", where=str(config_file))
    _check_network(arguments, _OF_A_POTENTIAL, str(config_file))
    is_of_git = "pretrained_models/" in origin
    name = origin.rsplit("/", 1)[-1]
    return MatglModelFile(
        name=name,
        where=str(source),
        arguments=arguments,
        arrays=read_npz(source),
        aggregate="neighbor" if is_of_git else None,
        evidence=f"the weights of {origin} were trained with matgl 2 or older" if is_of_git else f"source {origin}",
        functional=_functional_by_name(name),
    )


def _functional_by_name(name: str) -> str | None:
    """Functional that a published model's name contains, such as M3GNet-MatPES-r2SCAN-v2025.1-PES; None without one."""
    return next((_FUNCTIONALS[part] for part in name.split("-") if part in _FUNCTIONALS), None)


def _check_network(values: dict, of_kind: dict, where: str) -> None:
    """Check the arguments of M3GNet's constructor.

    Args:
        of_kind: arguments required for a potential, or for a property model.

    Raises:
        MlipError: arguments are missing, or describe a network that is not implemented.
    """
    implemented = _IMPLEMENTED | of_kind
    for key in ("element_types", *DIMENSIONS.values(), "dim_edge_embedding", "use_smooth", *implemented):
        if key not in values:
            raise MlipError(f"is not complete: {key} is missing", where=where)
    _check_variant(values, implemented | {"dim_edge_embedding": values["dim_node_embedding"]}, where)
    elements = values["element_types"]
    if not isinstance(elements, list) or not elements or any(name not in chemical_symbols[1:] for name in elements):
        raise MlipError("element_types is no list of elements", where=where)
    if len(set(elements)) != len(elements):
        raise MlipError("element_types names an element twice", where=where)


def _check_variant(values: dict, implemented: dict, where: str) -> None:
    for key, value in implemented.items():
        if values.get(key, value) != value:
            raise MlipError(f"{key} = {values[key]!r} is not implemented, only {value!r}", where=where)
