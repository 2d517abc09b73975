"""Export of a potential as the folder that `matgl.load_model` (4.1.2) reads: model.json, model.pt and state.pt.

matgl builds the network from the constructor's arguments in model.pt, and fills it from state.pt. model.json serves
version checks and human readers. The folder appears under its name only when it is complete.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from mlip import __version__
from mlip.convert.layers import layers_from_parameters
from mlip.convert.matgl import EMBEDDING, layer_name
from mlip.convert.matgl_files import MODEL_VERSION, POTENTIAL_VERSION
from mlip.convert.pytorch import import_torch
from mlip.errors import MlipError
from mlip.files.whole_file import whole_file
from mlip.models.m3gnet import M3GNetConfig, matgl_config
from mlip.potential import Potential

_WHY = {
    "hidden_layers": "its gated MLPs have two hidden layers",
    "bond_basis": "both its bases are smooth, or neither is",
    "three_body_basis": "both its bases are smooth, or neither is",
    "bond_embedding_bias": "its bond embedding has a bias",
    "atom_weight_swish": "its atom weights have no swish",
    "zbl": "it has no repulsion of bare nuclei",
    "aggregate": "matgl >= 3 adds atom messages at the center and would give other energies without a warning",
}


def write(potential: Potential, folder: Path) -> Path:
    """Write a folder that matgl can load.

    Raises:
        MlipError: matgl's M3GNet cannot represent the network, the folder exists and is not empty, or PyTorch is
            missing.
    """
    _check_representable(potential)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MlipError("exists and is not an empty folder", where=str(folder), fix="choose another name")
    torch = import_torch("matgl's format is written")
    arguments = _arguments(potential)
    state = {name: torch.tensor(array) for name, array in _state(potential).items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(folder) as partial:
        partial.mkdir()
        torch.save(arguments, partial / "model.pt")
        torch.save(state, partial / "state.pt")
        (partial / "model.json").write_text(json.dumps(_description(potential, arguments), indent=1))
    return folder


def _check_representable(potential: Potential) -> None:
    config = potential.config
    if not isinstance(config, M3GNetConfig):
        raise MlipError(f"matgl's format is written for M3GNet only, not for {config.model}")
    theirs = matgl_config(smooth=config.bond_basis == "smooth")
    for field, why in _WHY.items():
        ours, needed = getattr(config, field), getattr(theirs, field)
        if ours != needed:
            raise MlipError(
                f"matgl's M3GNet cannot be this network: {why}; this potential has {field} = {ours!r}",
                fix="train one that can: recipes/m3gnet_matgl.yaml",
            )


def _arguments(potential: Potential) -> dict[str, Any]:
    """Constructor arguments of matgl's Potential, including those of its M3GNet, as matgl saves them: plain Python
    objects only."""
    config, metadata = potential.config, potential.metadata
    network = {
        "element_types": potential.elements,
        "dim_node_embedding": config.units,
        "dim_edge_embedding": config.units,
        "dim_state_embedding": 0,
        "ntypes_state": None,
        "dim_state_feats": None,
        "max_n": config.max_n,
        "max_l": config.max_l,
        "nblocks": config.n_blocks,
        "rbf_type": "SphericalBessel",
        "is_intensive": False,
        "readout_type": "weighted_atom",
        "task_type": "regression",
        "cutoff": config.cutoff,
        "threebody_cutoff": config.three_body_cutoff,
        "units": config.width,
        "ntargets": 1,
        "use_smooth": config.bond_basis == "smooth",
        "use_phi": False,
        "niters_set2set": 3,
        "nlayers_set2set": 3,
        "field": "node_feat",
        "include_state": False,
        "activation_type": "swish",
        "dropout": None,
    }
    model = {
        "@class": "M3GNet",
        "@module": "matgl.models._m3gnet",
        "@model_version": MODEL_VERSION,
        "init_args": network,
    }
    return {
        "model": model,
        "data_mean": 0.0,
        "data_std": metadata.scale,
        "element_refs": _element_references(potential).tolist(),
        "calc_forces": True,
        "calc_stresses": True,
        "calc_hessian": False,
        "calc_magmom": False,
        "calc_charge": False,
        "calc_repuls": False,
        "zbl_trainable": False,
        "debug_mode": False,
        "compile_model": False,
        "compile_mode": "reduce-overhead",
    }


def _description(potential: Potential, arguments: dict[str, Any]) -> dict[str, Any]:
    metadata = potential.metadata
    return {
        "@class": "Potential",
        "@module": "matgl.apps.pes",
        "@model_version": POTENTIAL_VERSION,
        "metadata": {
            "written_by": f"alexandria-mlip {__version__}",
            "functional": metadata.functional,
            "provenance": metadata.provenance,
        },
        "kwargs": arguments,
    }


def _state(potential: Potential) -> dict[str, np.ndarray]:
    """Tensors by matgl's names. Scale and references stay in float64; matgl converts them to its working precision."""
    config = potential.config
    state = {
        "data_mean": np.float64(0.0),
        "data_std": np.float64(potential.metadata.scale),
        "element_refs.property_offset": _element_references(potential),
        EMBEDDING: np.asarray(potential.params["embedding"]["embedding"])[_numbers(potential)],
    }
    for layer, arrays in layers_from_parameters(config, potential.params).items():
        name = layer_name(layer)
        state[f"{name}.weight"] = np.ascontiguousarray(arrays["kernel"].T)
        if "bias" in arrays:
            state[f"{name}.bias"] = arrays["bias"]
    return state


def _element_references(potential: Potential) -> np.ndarray:
    """Reference energy E0 plus the shift per atom, eV, for each of the potential's elements."""
    return potential.reference_energies_by_z[_numbers(potential)] + potential.metadata.shift


def _numbers(potential: Potential) -> list[int]:
    return [atomic_numbers[symbol] for symbol in potential.elements]
