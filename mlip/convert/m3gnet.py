"""Converter for the original M3GNet (m3gnet 0.2.4, TensorFlow): a checkpoint folder, or weights.npz and config.json.

Tensors in a checkpoint are named after the objects of the model, which identify the layers. Plain arrays have Keras'
names, in which dense layers are numbered in the order of their creation.
"""

import json
import re
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from mlip.convert.checkpoint_files import ReadOptions, read_json, read_json_object, read_npz
from mlip.convert.layers import Arrays, Layer, NamedArrays, checked_config, dense_layers, parameters_from_layers
from mlip.convert.tensor_bundle import read_tensor_bundle
from mlip.errors import MlipError
from mlip.files.checksum import checksum_of
from mlip.models.m3gnet import M3GNetConfig
from mlip.potential import Potential, PotentialMetadata

LAYOUT = "a checkpoint folder of m3gnet 0.2.4 (m3gnet.json, m3gnet.index), or its weights.npz beside config.json"

_INDEX, _DATA, _JSON = "m3gnet.index", "m3gnet.data-00000-of-00001", "m3gnet.json"
_VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
_EMBEDDING = "featurizer/atom_network/embedding/embeddings"
_NAMES = {
    "bond_embedding": "feature_adjust/update_func/pipe/layers/0",
    "neighbour_gate": "three_interactions/{block}/update_network/pipe/layers/0",
    "three_body": "three_interactions/{block}/update_network2/{branch}/layers/0",
    "atom_message": "graph_layers/{block}/atom_network/bond_dense/{branch}/layers/{depth}",
    "atom_weight": "graph_layers/{block}/atom_network/weight_update",
    "bond_message": "graph_layers/{block}/bond_network/update_func/{branch}/layers/{depth}",
    "bond_weight": "graph_layers/{block}/bond_network/weight_func",
    "readout": "final/layers/0/atom_network/update_func/{branch}/layers/{depth}",
}
_NOT_OF_THE_MODEL = ("optimizer/", "save_counter", "keras_api/")
_IMPLEMENTED = {"include_states": False, "readout": "weighted_atom", "is_intensive": False, "mean": 0.0}
_UNTRAINED_REFERENCE = 1e-9  # eV: elements absent from the training set have E0 = 0 up to rounding

_PUBLISHED = {  # by the data file's SHA-256: a checkpoint states neither its name nor its functional
    "3d6d4bd777eb7af8efe7ccae0804ffbc58cdb9aac946db08b01e7e5f41eb70eb": ("m3gnet TF 0.2.4 MP-2021.2.8-EFS", "PBE"),
    "f136382bd689ef4fc372a83d6f3726fb210807e784a5e0d37fba9eec3a13f69b": ("m3gnet TF 0.2.4, ALEXANDRIA 2D", "PBE"),
    "122b2c5934ca976a835b7b5df2f195469c4de8de3c1ac93b114986e00e51ec80": (
        "m3gnet TF 0.2.4, ALEXANDRIA PBEsol",
        "PBEsol",
    ),
}


def recognizes(source: Path) -> bool:
    return _is_checkpoint(source) or _is_export(source)


def read(source: Path, options: ReadOptions) -> Potential:
    """Read an M3GNet of the original code.

    Raises:
        MlipError: damaged files, or a variant of M3GNet that is not implemented.
    """
    if options.aggregate not in (None, "center"):
        raise MlipError("the original M3GNet adds messages to the center of a bond", where=str(source))
    read_it = _read_checkpoint if _is_checkpoint(source) else _read_export
    return read_it(source, options.functional)


def _is_checkpoint(source: Path) -> bool:
    if source.is_dir():
        return any((source / name).is_file() for name in (_INDEX, _JSON))
    return source.name in (_INDEX, _DATA, _JSON)


def _read_checkpoint(source: Path, functional: str | None) -> Potential:
    folder = source if source.is_dir() else source.parent
    values = _values(_checkpoint_json(folder / _JSON), str(folder / _JSON))
    tensors = read_tensor_bundle(folder / _INDEX)
    arrays = {
        key.removesuffix(_VARIABLE): tensor
        for key, tensor in tensors.items()
        if not key.startswith(_NOT_OF_THE_MODEL) and ".OPTIMIZER_SLOT" not in key
    }
    digest = checksum_of(folder / _DATA)
    name, published = _PUBLISHED.get(digest, ("m3gnet TF checkpoint", "unknown"))
    provenance = {"converted_from": name, "sha256": digest}
    return _potential(values, arrays, functional or published, provenance, str(folder / _INDEX))


def _checkpoint_json(path: Path) -> Any:
    """Config of the Keras model, which the file holds as a string of JSON within JSON."""
    model = read_json(path)
    try:
        model = json.loads(model) if isinstance(model, str) else model
        class_name, config = model["class_name"], model["config"]
    except (ValueError, KeyError, TypeError):
        raise MlipError("is not the config of a Keras model", where=str(path)) from None
    if class_name != "M3GNet":
        raise MlipError(f"holds a {class_name}, not an M3GNet", where=str(path))
    return config


def _is_export(source: Path) -> bool:
    weights, config = _export_files(source)
    return weights.is_file() and config.is_file() and b"m3gnet TF" in config.read_bytes()[:200]


def _export_files(source: Path) -> tuple[Path, Path]:
    folder = source if source.is_dir() else source.parent
    return (folder / "weights.npz" if source.is_dir() else source), folder / "config.json"


def _read_export(source: Path, functional: str | None) -> Potential:
    weights_file, config_file = _export_files(source)
    original = read_json_object(config_file)
    values = _values(original.get("config"), str(config_file))
    variables = read_npz(weights_file)
    arrays = _named_by_object(variables, dense_layers(_config(values, str(config_file))))
    published = "PBEsol" if "pbesol" in original["format"].lower() else "PBE"
    return _potential(
        values, arrays, functional or published, {"converted_from": original["format"]}, str(weights_file)
    )


def _named_by_object(variables: Arrays, layers: list[Layer]) -> Arrays:
    """Arrays renamed from Keras' `.../dense_K/kernel:0` to the names in a checkpoint; `dense` is number 0."""
    arrays = {}
    for name, value in variables.items():
        match = re.search(r"/dense(?:_(\d+))?/(kernel|bias):0$", name)
        number = int(match[1] or 0) if match else len(layers)
        if number < len(layers):
            name = f"{_name(layers[number])}/{match[2]}"
        elif name.endswith("embeddings:0"):
            name = _EMBEDDING
        arrays[name] = value
    return arrays


def _name(layer: Layer) -> str:
    branch = {"core": "pipe", "gate": "gate"}[layer.branch]
    return _NAMES[layer.stage].format(block=layer.block, branch=branch, depth=layer.depth)


def _values(values: Any, where: str) -> dict:
    """Hyperparameters of the model, checked to be complete and of the implemented variant."""
    if not isinstance(values, dict):
        raise MlipError("is not complete: config is no JSON object", where=where)
    needed = ("cutoff", "threebody_cutoff", "units", "n_blocks", "max_n", "max_l", "n_atom_types", "std")
    for key in (*needed, "element_refs", *_IMPLEMENTED):
        if key not in values:
            raise MlipError(f"is not complete: {key} is missing", where=where)
    for key, value in _IMPLEMENTED.items():
        if values[key] != value:
            raise MlipError(f"{key} = {values[key]!r} is not implemented, only {value!r}", where=where)
    for numbers in ([values["std"]], values["element_refs"] or []):
        if not all(isinstance(number, int | float) for number in numbers) or len(numbers) > len(chemical_symbols):
            raise MlipError("std or element_refs are not the numbers that they should be", where=where)
    return values


def _config(values: dict, where: str) -> M3GNetConfig:
    return checked_config(
        where,
        cutoff=values["cutoff"],
        three_body_cutoff=values["threebody_cutoff"],
        units=values["units"],
        n_blocks=values["n_blocks"],
        max_n=values["max_n"],
        max_l=values["max_l"],
        max_atomic_number=values["n_atom_types"],
    )


def _potential(values: dict, arrays: Arrays, functional: str, provenance: dict, where: str) -> Potential:
    """Potential from the hyperparameters and arrays named as in a checkpoint."""
    config = _config(values, where)
    left = NamedArrays(arrays, where)

    def arrays_of(layer: Layer) -> Arrays:
        name = _name(layer)
        arrays = {"kernel": left.take(f"{name}/kernel")}
        return arrays | {"bias": left.take(f"{name}/bias")} if f"{name}/bias" in left else arrays

    params = parameters_from_layers(config, left.take(_EMBEDDING), arrays_of, where)
    left.check_all_taken()
    provenance |= {"citation": "doi:10.1038/s43588-022-00349-3"}
    metadata = PotentialMetadata(
        reference_energies=_reference_energies(values),
        scale=values["std"],
        functional=functional,
        provenance=provenance,
    )
    return Potential(config, params, metadata)


def _reference_energies(values: dict) -> dict[str, float]:
    """Reference energies of the trained elements, eV; 0 for all elements if the model was trained without
    references."""
    energies = values["element_refs"]
    if energies is None:
        return dict.fromkeys(chemical_symbols[1 : values["n_atom_types"] + 1], 0.0)
    return {
        chemical_symbols[z]: energy for z, energy in enumerate(energies) if z > 0 and abs(energy) > _UNTRAINED_REFERENCE
    }
