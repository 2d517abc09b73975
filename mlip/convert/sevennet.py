"""Converter for checkpoints of SevenNet (.pth): meaning of its options, and checks of those that are fixed here.

The layers are those of `mlip.models.nequip`. Some factors are folded into the parameters, in float64: the norms of the
radial network and its activations, the two linear maps of the readout (nothing stands between them), and the vector
that encodes a modality (a functional) for linear layers, which becomes a bias of their scalars.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mlip.convert.checkpoint_files import DAMAGED, ReadOptions, check_archive
from mlip.convert.layers import NamedArrays, checked_config
from mlip.convert.pytorch import load_pickle, names_in_pickle
from mlip.convert.sevennet_layout import Source, parameters_from_state
from mlip.errors import MlipError
from mlip.models.nequip import SCALAR, NequIPConfig, parse_irreps
from mlip.network import check_parameters
from mlip.potential import Head, Potential, PotentialMetadata

LAYOUT = "a checkpoint of SevenNet (.pth)"

_MARK = b"E3_equivariant_model"
_NUMPY = np._core.multiarray._reconstruct
_HARMLESS = (
    (_NUMPY, "numpy.core.multiarray._reconstruct"),
    (_NUMPY, "numpy._core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64", "int64")),
)
"""Classes that occur in pickled arrays of numbers, such as the statistics in a config."""
_ONLY = {  # options of the config with one implemented value, SevenNet's default unless listed below
    "is_parity": False,
    "self_connection_type": "linear",
    "interaction_type": "nequip",
    "act_radial": "silu",
    "use_bias_in_linear": False,
    "readout_as_fcn": False,
    "use_modal_node_embedding": False,
    "use_modal_wise_scale": False,
    "_normalize_sph": True,
}
_DEFAULTS = {"is_parity": True, "self_connection_type": "nequip", "use_modal_wise_scale": False}
_NEEDED = ("chemical_species", "_type_map", "channel", "lmax", "cutoff", "cutoff_function", "num_convolution_layer")
_CONSTANTS = (".bias", ".output_mask", "convolution.weight", "gate.mul.weight")
"""Name endings of tensors that are empty, or whose numbers follow from the config."""
_FUNCTIONALS = {name.lower(): name for name in ("PBE", "PBEsol", "SCAN", "r2SCAN")}


def recognizes(source: Path) -> bool:
    """Whether a PyTorch file names SevenNet's kind of model. Nothing is unpickled for this check."""
    try:
        return names_in_pickle(source, _MARK)
    except DAMAGED:
        return False


def read(source: Path, options: ReadOptions) -> Potential:
    """Read a checkpoint of SevenNet.

    Raises:
        MlipError: the file is damaged, can run code and is not trusted, or holds a variant that is not implemented.
    """
    where = str(source)
    if options.aggregate is not None:
        raise MlipError("SevenNet adds messages to the center of a bond; there is no choice", where=where)
    check_archive(source)
    checkpoint = load_pickle(source, options.trust_pickle, _HARMLESS)
    if not isinstance(checkpoint, dict) or not {"config", "model_state_dict"} <= checkpoint.keys():
        raise MlipError("has no config and model_state_dict, as checkpoints of SevenNet have", where=where)
    try:
        config, params, heads = _parts(checkpoint["config"], checkpoint["model_state_dict"], options.functional, where)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise MlipError(f"is not made as SevenNet makes checkpoints ({reason})", where=where) from None
    check_parameters(config, params, where)
    provenance = {"converted_from": f"sevenn {source.name}", "citation": "doi:10.1021/acs.jctc.4c00190"}
    return Potential(config, params, PotentialMetadata.of_heads(heads, provenance=provenance))


def _parts(
    values: dict[str, Any], state: dict[str, Any], functional: str | None, where: str
) -> tuple[NequIPConfig, dict, dict[str, Head]]:
    left = NamedArrays(_arrays(state, where), where)
    config = _config(values, left, where)
    species = [values["_type_map"][z] for z in config.elements]
    params, constants = parameters_from_state(Source(config, left, species, _is_sorted(values, where), where))
    heads = _heads(config, left, species, constants, functional, where)
    left.check_all_taken()
    return config, params, heads


def _arrays(state: dict[str, Any], where: str) -> dict[str, np.ndarray]:
    arrays = {name: tensor.detach().numpy() for name, tensor in state.items() if not name.endswith(_CONSTANTS)}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise MlipError(f"{name} has numbers that are not finite", where=where)
    return arrays


def _config(values: dict[str, Any], left: NamedArrays, where: str) -> NequIPConfig:
    """Config of our network from SevenNet's.

    Raises:
        MlipError: an option is missing, or its value is not implemented; the message names it.
    """
    for key in _NEEDED:
        if key not in values:
            raise MlipError(f"the config is not complete: {key} is missing", where=where)
    for key, only in _ONLY.items():
        value = values.get(key, _DEFAULTS.get(key, only))
        if value != only:
            raise MlipError(f"{key} = {value!r} is not implemented, only {only!r}", where=where)
    for key in ("act_gate", "act_scalar"):
        if (kind := values.get(key, {}).get("e", "silu")) != "silu":
            raise MlipError(f"{key} = {kind!r} is not implemented, only 'silu'", where=where)
    n_layers = values["num_convolution_layer"]
    hidden, embedding = _irreps(values, n_layers, where)
    cutoff = dict(values["cutoff_function"])
    kind = cutoff.get("cutoff_function_name")
    if kind not in ("poly_cut", "XPLOR"):
        raise MlipError(f"cutoff_function {kind!r} is not implemented, only poly_cut and XPLOR", where=where)
    modalities = values.get("_modal_map", {}) if values.get("use_modality") else {}
    return checked_config(
        where,
        model="nequip",
        cutoff=values["cutoff"],
        elements=tuple(sorted(values["_type_map"])),
        hidden=hidden,
        max_ell=_one_order(values, where),
        parity=False,
        n_layers=n_layers,
        embedding=embedding,
        n_bessel=values.get("radial_basis", {}).get("bessel_basis_num", 8),
        trained_frequencies=True,
        cutoff_function="polynomial" if kind == "poly_cut" else "xplor",
        cutoff_power=cutoff.get("poly_cut_p_value", 6),
        cutoff_on=cutoff.get("cutoff_on", 0.0) if kind == "XPLOR" else 0.0,
        radial_hidden=tuple(values.get("weight_nn_hidden_neurons", (64, 64))),
        norm=False,
        mean_neighbors=_denominator(n_layers, left, where),
        neighbor_norm="mean",
        activation_norm="e3nn",
        heads=tuple(sorted(modalities, key=modalities.__getitem__)) or ("default",),
        head_biases=bool(modalities),
    )


def _is_sorted(values: dict[str, Any], where: str) -> bool:
    """Whether couplings are sorted by their output irrep, as they are since version 0.11."""
    try:
        major, minor = map(int, str(values["version"]).split(".")[:2])
    except (KeyError, ValueError):
        raise MlipError("the config does not tell the version of SevenNet", where=where) from None
    return (major, minor) >= (0, 11)


def _one_order(values: dict[str, Any], where: str) -> int:
    """Highest order of harmonics and features, which agree in all published models."""
    for key in ("lmax_edge", "lmax_node"):
        if values.get(key, -1) not in (-1, values["lmax"]):
            raise MlipError(f"{key} = {values[key]} beside lmax = {values['lmax']} is not implemented", where=where)
    return values["lmax"]


def _irreps(values: dict[str, Any], n_layers: int, where: str) -> tuple[str, int]:
    """Irreps of the features between layers, and the number of scalars before the first layer."""
    n, manual = values["channel"], values.get("irreps_manual")
    if not manual:
        return " + ".join(f"{n}x{order}e" for order in range(values["lmax"] + 1)), n
    try:
        irreps = [parse_irreps(str(one)) for one in manual]
    except ValueError as error:
        raise MlipError(f"irreps_manual = {manual} is not implemented: {error}", where=where) from None
    first, *between, last = irreps
    scalars = {SCALAR: between[0][SCALAR]} if between else last
    is_alike = set(first) == {SCALAR} and last == scalars and all(a == b for a, b in pairwise(between))
    if len(irreps) != n_layers + 1 or not is_alike:
        raise MlipError(f"irreps_manual = {manual} is not implemented: layers differ", where=where)
    return str(manual[1]), first[SCALAR]


def _denominator(n_layers: int, left: NamedArrays, where: str) -> float:
    """Number by which sums over neighbors are divided."""
    found = {float(left.take(f"{layer}_convolution.denominator")[0]) for layer in range(n_layers)}
    if len(found) != 1:
        raise MlipError("layers with different denominators are not implemented", where=where)
    return found.pop()


def _heads(
    config: NequIPConfig,
    left: NamedArrays,
    species: list[int],
    constants: np.ndarray,
    functional: str | None,
    where: str,
) -> dict[str, Head]:
    """Reference energies and scale of each modality. `constants` are energies that the readout adds, before scaling."""
    if functional is not None and len(config.heads) > 1:
        raise MlipError(f"has {len(config.heads)} heads, and --functional names one functional", where=where)
    scales = np.unique(left.take("rescale_atomic_energy.scale").astype(np.float64))
    if len(scales) != 1:
        raise MlipError("elements with different scales are not implemented", where=where)
    shifts = left.take("rescale_atomic_energy.shift")[..., species].astype(np.float64)
    shifts = np.broadcast_to(shifts, (len(config.heads), len(species)))
    return {
        name: Head(
            reference_energies=dict(
                zip((chemical_symbols[z] for z in config.elements), energies.tolist(), strict=True)
            ),
            scale=float(scales[0]),
            shift=float(scales[0] * constant),
            functional=functional or _FUNCTIONALS.get(name.lower(), "unknown"),
        )
        for name, energies, constant in zip(config.heads, shifts, constants, strict=True)
    }
