"""Converter for MatterSim's checkpoints (.pth, PyTorch): meaning of the constructor's arguments and tensor names."""

from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mlip.convert.checkpoint_files import DAMAGED, ReadOptions, check_archive
from mlip.convert.layers import Arrays, Layer, NamedArrays, checked_config, parameters_from_layers
from mlip.convert.pytorch import load_pickle, names_in_pickle
from mlip.errors import MlipError
from mlip.models.mattersim import BESSEL_TERMS, MatterSimConfig
from mlip.models.radial import spherical_bessel_roots
from mlip.potential import Potential, PotentialMetadata

LAYOUT = "a checkpoint of MatterSim (.pth)"

_DIMENSIONS = {
    "n_blocks": "num_blocks",
    "units": "units",
    "max_l": "max_l",
    "max_n": "max_n",
    "cutoff": "cutoff",
    "three_body_cutoff": "threebody_cutoff",
    "max_atomic_number": "max_z",
}
_NAMES = {
    "bond_embedding": "edge_encoder.mlp.0",
    "center_gate": "graph_conv.{block}.three_body.atom_mlp",
    "three_body": "graph_conv.{block}.three_body.edge_gate_mlp.{branch}.0",
    "atom_message": "graph_conv.{block}.gated_mlp_atom.{branch}.{depth}",
    "atom_weight": "graph_conv.{block}.edge_layer_atom",
    "bond_message": "graph_conv.{block}.gated_mlp_edge.{branch}.{depth}",
    "bond_weight": "graph_conv.{block}.edge_layer_edge",
    "readout": "final.{branch}.{depth}",
}
_EMBEDDING = "atom_embedding.mlp.0.linear.weight"
_DERIVED = ("rbf.dn", "rbf.en", "rbf.fnr_weights", "rbf.n_1_pi_cutoff", "rbf.n_2_pi_cutoff", "rbf.r_max", "sbf.factor")
"""Constants of the bases, which follow from the config."""
_MARK = b"graph_conv.0.three_body.atom_mlp.linear.weight"


def recognizes(source: Path) -> bool:
    """Whether a PyTorch file names a tensor that only MatterSim has. Nothing is unpickled for this check."""
    try:
        return names_in_pickle(source, _MARK)
    except DAMAGED:
        return source.suffix == ".pth"  # `read` says what is wrong with it


def read(source: Path, options: ReadOptions) -> Potential:
    """Read a checkpoint of MatterSim.

    Raises:
        MlipError: the file is damaged, can run code and is not trusted, or holds another network than MatterSim's.
    """
    where = str(source)
    if options.aggregate is not None:
        raise MlipError("MatterSim adds messages to the center of a bond; there is no choice", where=where)
    check_archive(source)
    checkpoint = _load(source, options.trust_pickle)
    left = NamedArrays({name: tensor.detach().numpy() for name, tensor in checkpoint["model"].items()}, where)
    config, scale = _config(checkpoint["model_args"], left, where)
    references = _reference_energies(config, left, scale)
    _check_bases(config, left, where)
    params = _parameters(config, left, where)
    left.check_all_taken()
    metadata = PotentialMetadata(
        reference_energies=references,
        scale=scale if config.element_scales is None else 1.0,
        functional=options.functional or "unknown",
        provenance={"converted_from": f"mattersim {source.name}", "citation": "arXiv:2405.04967"},
    )
    return Potential(config, params, metadata)


def _load(source: Path, trust_pickle: bool) -> dict[str, Any]:
    """Load a checkpoint: as data if it holds nothing else, otherwise only if the file is trusted.

    Raises:
        MlipError: PyTorch is missing, the file can run code and is not trusted, or it is not a MatterSim checkpoint.
    """
    checkpoint = load_pickle(source, trust_pickle)
    if not isinstance(checkpoint, dict) or not {"model", "model_args"} <= checkpoint.keys():
        raise MlipError("has no model and model_args, as checkpoints of MatterSim have", where=str(source))
    return checkpoint


def _config(arguments: dict[str, Any], left: NamedArrays, where: str) -> tuple[MatterSimConfig, float]:
    """The config, and the scale that all elements share; 1 if each has its own scale, which is then in the config."""
    missing = [theirs for theirs in _DIMENSIONS.values() if theirs not in arguments]
    if missing:
        raise MlipError(f"model_args lacks {', '.join(missing)}", where=where)
    dimensions = {ours: arguments[theirs] for ours, theirs in _DIMENSIONS.items()}
    scales = left.take("normalizer.scale").astype(np.float64)
    shared = scales.size > 0 and bool((scales == scales[0]).all())
    own = {} if shared else {"element_scales": tuple(scales.tolist())}
    return checked_config(where, model="mattersim", **dimensions, **own), float(scales[0]) if shared else 1.0


def _reference_energies(config: MatterSimConfig, left: NamedArrays, scale: float) -> dict[str, float]:
    """Shifts of the trained elements, eV; untrained elements have neither a scale nor a shift."""
    shifts = left.take("normalizer.shift").astype(np.float64)
    scales = config.element_scales or [scale] * len(shifts)
    known = [z for z in config.known_numbers if shifts[z] != 0 or scales[z] != 0]
    return {chemical_symbols[z]: float(shifts[z]) for z in known}


def _check_bases(config: MatterSimConfig, left: NamedArrays, where: str) -> None:
    """Check that the bases are ours.

    Raises:
        MlipError: the spherical Bessel functions differ from those of the published models.
    """
    for name in _DERIVED:
        left.discard(name)
    if "sbf.coef" not in left:
        return
    table = left.take("sbf.coef")
    roots = spherical_bessel_roots(config.max_l, config.max_n)
    for order, terms in enumerate(BESSEL_TERMS[: config.max_l]):
        found = np.abs(table[order, : 2 * len(terms), : config.max_n]) if order else table[order, :1, : config.max_n]
        weights = [np.abs(weights[: config.max_n]) for _, _, weights in terms]
        expected = [row for weight in weights for row in (weight, roots[order])] if order else [roots[0]]
        if not np.allclose(found, expected, rtol=1e-6):
            raise MlipError("sbf.coef is not what the published models have", where=where)


def _parameters(config: MatterSimConfig, left: NamedArrays, where: str) -> dict:
    def arrays_of(layer: Layer) -> Arrays:
        branch = {"core": "g", "gate": "sigma"}[layer.branch]
        name = _NAMES[layer.stage].format(block=layer.block, branch=branch, depth=layer.depth) + ".linear"
        arrays = {"kernel": left.take(f"{name}.weight").T}  # torch has (out, in)
        return arrays | {"bias": left.take(f"{name}.bias")} if f"{name}.bias" in left else arrays

    return parameters_from_layers(config, left.take(_EMBEDDING).T, arrays_of, where)
