"""Converter for matgl's M3GNet (PyTorch): meaning of its constructor's arguments and of its tensors' names.

The network is the original's with other bases, deeper gated MLPs, a bias in the bond embedding and no swish in the atom
weights (`mlip.models.m3gnet.matgl_config`). Elements are numbered by their position in `element_types`. A network for a
property (`mlip.models.m3gnet_property`) has another readout.
"""

from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from mlip.convert.checkpoint_files import ReadOptions
from mlip.convert.layers import Arrays, Layer, NamedArrays, checked_config, parameters_from_layers
from mlip.convert.matgl_files import DIMENSIONS, MatglModelFile, is_saved_model, read_saved_model
from mlip.errors import MlipError
from mlip.models.m3gnet import M3GNetConfig, matgl_config
from mlip.potential import Potential, PotentialMetadata
from mlip.property_model import PropertyMetadata, PropertyModel

LAYOUT = "a model folder of matgl (model.json, state.pt), or NAME_weights.npz beside NAME_config.json"

EMBEDDING = "model.embedding.layer_node_embedding.weight"
_NAMES = {
    "bond_embedding": "model.embedding.layer_edge_embedding.layers.0",
    "neighbour_gate": "model.three_body_interactions.{block}.update_network_atom.layers.0",
    "three_body": "model.three_body_interactions.{block}.update_network_bond.{branch}.0",
    "atom_message": "model.graph_layers.{block}.conv.node_update_func.{branch}.{linear}",
    "atom_weight": "model.graph_layers.{block}.conv.node_weight_func",
    "bond_message": "model.graph_layers.{block}.conv.edge_update_func.{branch}.{linear}",
    "bond_weight": "model.graph_layers.{block}.conv.edge_weight_func",
    "readout": "model.final_layer.gated.{branch}.{linear}",
}
_NAMES_OF_A_PROPERTY = {
    "readout": "model.final_layer.layers.{linear}",
    "query_input": "ih_l{depth}",
    "query_hidden": "hh_l{depth}",
}
_DERIVED = ("element_refs.onehot", "model.bond_expansion.rbf.cutoff", "model.basis_expansion.sbf.cutoff")
_THREE_BODY = (
    "three-body terms use the right bond indices. matgl before 4.0.3 confused them, which is not reproduced; "
    "for the published weights the difference is at most 3e-4 eV/atom and 3e-3 eV/A"
)


def recognizes(source: Path) -> bool:
    return is_saved_model(source)


def read(source: Path, options: ReadOptions) -> Potential | PropertyModel:
    """Read a model of matgl.

    Raises:
        MlipError: damaged files, a variant of M3GNet that is not implemented, or files that do not tell in which
            direction messages are added.
    """
    saved = read_saved_model(source)
    direction = options.aggregate or saved.aggregate
    if direction is None:
        raise MlipError(
            f"does not tell to which end of a bond messages are added: {saved.evidence}",
            where=saved.where,
            fix="--aggregate neighbor for weights trained with matgl < 3, --aggregate center for later ones",
        )
    because = "as asked for" if options.aggregate else saved.evidence
    notes = [f"atom messages are added to the {direction} of a bond: {because}", _THREE_BODY]
    if saved.functional and not options.functional:
        notes.append(f"functional {saved.functional}: by the model's name or metadata")
    config = _config(saved, direction)
    left = NamedArrays(saved.arrays, saved.where)
    scale, references = _energies(saved, left) if saved.target is None else (1.0, {})
    params = _parameters(saved, config, left)
    left.check_all_taken()
    facts = {
        "functional": options.functional or saved.functional or "unknown",
        "provenance": {
            "converted_from": f"matgl {saved.name}",
            "citation": "doi:10.1038/s41524-025-01742-y, doi:10.1038/s43588-022-00349-3",
            "notes": notes,
        },
    }
    if saved.target is None:
        return Potential(config, params, PotentialMetadata(reference_energies=references, scale=scale, **facts))
    predicts = options.predicts or ("e_form" if saved.name.endswith("-Eform") else None)
    if predicts is None:
        raise MlipError("does not say what it predicts", where=saved.where, fix="--predicts NAME, such as band_gap")
    mean, std = saved.target
    metadata = PropertyMetadata(property=predicts, mean=mean, std=std, elements=saved.elements, **facts)
    return PropertyModel(config, params, metadata)


def layer_name(layer: Layer) -> str:
    """Name of a layer in state.pt; the index in a torch Sequential is doubled by the activations between layers."""
    branch = {"core": "layers", "gate": "gates"}[layer.branch]
    return _NAMES[layer.stage].format(block=layer.block, branch=branch, linear=2 * layer.depth)


def _parameters(saved: MatglModelFile, config: M3GNetConfig, left: NamedArrays) -> dict:
    for name in _DERIVED:
        left.discard(name)
    lstm = next((name.removesuffix("weight_ih_l0") for name in saved.arrays if name.endswith("lstm.weight_ih_l0")), "")

    def arrays_of(layer: Layer) -> Arrays:
        if saved.target is not None and layer.stage in _NAMES_OF_A_PROPERTY:
            name = _NAMES_OF_A_PROPERTY[layer.stage].format(linear=2 * layer.depth, depth=layer.depth)
            if layer.stage != "readout":
                return {
                    "kernel": left.take(f"{lstm}weight_{name}").T,
                    "bias": left.take(f"{lstm}bias_{name}"),
                }
        else:
            name = layer_name(layer)
        arrays = {"kernel": left.take(f"{name}.weight").T}  # torch has (out, in)
        return arrays | {"bias": left.take(f"{name}.bias")} if f"{name}.bias" in left else arrays

    rows = left.take(EMBEDDING)
    if rows.ndim != 2 or len(rows) != len(saved.elements):
        raise MlipError(f"{EMBEDDING} of shape {rows.shape} for {len(saved.elements)} elements", where=saved.where)
    embedding = np.zeros((config.max_atomic_number + 1, rows.shape[1]), rows.dtype)
    embedding[[atomic_numbers[symbol] for symbol in saved.elements]] = rows
    return parameters_from_layers(config, embedding, arrays_of, saved.where)


def _energies(saved: MatglModelFile, left: NamedArrays) -> tuple[float, dict[str, float]]:
    """Scale and reference energies, eV, from the tensors; model.json has them only as printed text."""
    mean, std = (_number(left, name, saved.where) for name in ("data_mean", "data_std"))
    if mean != 0:
        raise MlipError(f"data_mean = {mean}, an energy per structure, is not implemented, only 0", where=saved.where)
    energies = np.zeros(len(saved.elements))
    if "element_refs.property_offset" in left:
        energies = left.take("element_refs.property_offset").astype(np.float64)
    if energies.shape != (len(saved.elements),):
        raise MlipError(f"element_refs of shape {energies.shape} for {len(saved.elements)} elements", where=saved.where)
    return std, dict(zip(saved.elements, energies.tolist(), strict=True))


def _number(left: NamedArrays, name: str, where: str) -> float:
    value = left.take(name)
    if value.size != 1:
        raise MlipError(f"{name} has {value.size} values, not one", where=where)
    return float(value.item())


def _config(saved: MatglModelFile, aggregate: str) -> M3GNetConfig:
    values = saved.arguments
    network = matgl_config(smooth=bool(values["use_smooth"]), aggregate=aggregate).model_dump()
    if saved.target is not None:
        queries, layers = values.get("niters_set2set", 3), values.get("nlayers_set2set", 3)
        network |= {"model": "m3gnet-property", "readout_queries": queries, "readout_layers": layers}
    dimensions = {ours: values[theirs] for ours, theirs in DIMENSIONS.items()}
    largest = max(atomic_numbers[symbol] for symbol in saved.elements)
    return checked_config(saved.where, **network | dimensions | {"max_atomic_number": largest})
