"""Converter for mace-torch's MACE and ScaleShiftMACE: meaning of the options, and checks of the fixed constants.

`mlip.convert.mace_files` reads modules and plain arrays; `mlip.convert.mace_layout` maps tensors to our parameters.
"""

import re
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from jaxtyping import Float

from mlip.convert.checkpoint_files import ReadOptions
from mlip.convert.layers import NamedArrays, checked_config
from mlip.convert.mace_files import MaceModelFile, is_export, is_module, read_export, read_module
from mlip.convert.mace_layout import parameters_from_state
from mlip.errors import MlipError
from mlip.models.mace import MACEConfig
from mlip.network import check_parameters
from mlip.potential import Head, Potential, PotentialMetadata

LAYOUT = "a model of mace-torch (.model), or NAME_weights.npz of mace-torch beside NAME_config.json"

BLOCKS = {  # interaction class of mace-torch -> (first_block, normalization)
    "RealAgnosticInteractionBlock": ("element", "mean"),
    "RealAgnosticResidualInteractionBlock": ("residual", "mean"),
    "RealAgnosticDensityInteractionBlock": ("element", "density"),
    "RealAgnosticDensityResidualInteractionBlock": ("residual", "density"),
}
_IMPLEMENTED = {
    "gate": ("silu",),
    "radial_type": ("bessel",),
    "distance_transform": ("none", "agnesi"),
    "model": ("ScaleShiftMACE", "MACE"),
}
_NEEDED = (
    "hidden",
    "first",
    "inter",
    "r_max",
    "num_bessel",
    "p",
    "max_ell",
    "corr",
    "nint",
    "MLP",
    "avgn",
    "radial_MLP",
)
_FUNCTIONALS = {name.lower(): name for name in ("PBE", "PBEsol", "SCAN", "r2SCAN")}


def recognizes(source: Path) -> bool:
    return is_export(source) or is_module(source)


def read(source: Path, options: ReadOptions) -> Potential:
    """Read a model of mace-torch.

    Raises:
        MlipError: damaged files, a variant of MACE that is not implemented, or a pickle that the options do not trust.
    """
    if options.aggregate is not None:
        raise MlipError("MACE adds messages to the center of a bond; there is no choice", where=str(source))
    saved = read_export(source) if is_export(source) else read_module(source, options.trust_pickle)
    left = NamedArrays(saved.arrays, saved.where)
    config = _config(saved, left.take("atomic_numbers"))
    _check_constants(config, left, saved.where)
    metadata = PotentialMetadata.of_heads(
        _heads(config, left, options.functional, saved.where),
        provenance={"converted_from": saved.origin, "citation": "arXiv:2206.07697"},
    )
    params = parameters_from_state(config, left, saved.where)
    left.check_all_taken()
    check_parameters(config, params, saved.where)
    return Potential(config, params, metadata)


def _config(saved: MaceModelFile, numbers: np.ndarray) -> MACEConfig:
    values, where = _with_known_options(saved), saved.where
    first = BLOCKS[values["first"]]
    channels, max_l = _hidden(values["hidden"], where)
    return checked_config(
        where,
        model="mace",
        cutoff=values["r_max"],
        elements=tuple(int(z) for z in numbers),
        channels=channels,
        max_l=max_l,
        max_ell=values["max_ell"],
        correlation=values["corr"],
        n_layers=values["nint"],
        n_bessel=values["num_bessel"],
        cutoff_power=values["p"],
        radial_hidden=tuple(values["radial_MLP"]),
        readout_hidden=_hidden(values["MLP"], where)[0],
        first_block=first[0],
        normalization=first[1],
        mean_neighbors=values["avgn"],
        distance_transform=values["distance_transform"],
        zbl=bool(values.get("pair_repulsion", False)),
        heads=tuple(values.get("heads", ["default"])),
    )


def _with_known_options(saved: MaceModelFile) -> dict:
    """Settings of a model, checked to be complete and implemented.

    Raises:
        MlipError: an option is missing, or its value is not implemented; the message names it.
    """
    values = saved.values | {"distance_transform": (saved.values.get("distance_transform") or "none").lower()}
    for key in _NEEDED:
        if key not in values:
            raise MlipError(f"the config is not complete: {key} is missing", where=saved.where)
    for key, known in _IMPLEMENTED.items():
        if values.get(key, known[0]) not in known:
            raise MlipError(f"{key} = {values[key]!r} is not implemented, only {', '.join(known)}", where=saved.where)
    first, later = BLOCKS.get(values["first"]), BLOCKS.get(values["inter"])
    if first is None or (values["nint"] > 1 and later != ("residual", first[1])):
        raise MlipError(f"blocks {values['first']} and {values['inter']} are not implemented", where=saved.where)
    return values


def _hidden(irreps: str, where: str) -> tuple[int, int]:
    """Number of channels and largest l of irreps: "16x0e + 16x1o" -> (16, 1)."""
    blocks = re.findall(r"(\d+)x(\d+)([eo])", str(irreps))
    channels = {int(multiplicity) for multiplicity, _, _ in blocks}
    natural = [(str(order), "eo"[order % 2]) for order in range(len(blocks))]
    if len(channels) != 1 or [(order, parity) for _, order, parity in blocks] != natural:
        raise MlipError(f"irreps {irreps!r} are not implemented, only those like 16x0e + 16x1o", where=where)
    return channels.pop(), len(blocks) - 1


def _check_constants(config: MACEConfig, left: NamedArrays, where: str) -> None:
    """Check arrays that are constants here but may have been trained in mace-torch."""
    for name, value in constants(config).items():
        found = left.take(name)
        if found.shape != np.shape(value) or not np.allclose(found, value, rtol=1e-6):  # float32 checkpoints
            raise MlipError(f"{name} is not what the config or the published models have", where=where)


def constants(config: MACEConfig) -> dict[str, Float[np.ndarray, "..."] | float]:
    """Buffers of mace-torch's state dict whose values follow from the config."""
    found = {
        "r_max": config.cutoff,
        "num_interactions": config.n_layers,
        "radial_embedding.bessel_fn.r_max": config.cutoff,
        "radial_embedding.bessel_fn.bessel_weights": np.pi / config.cutoff * np.arange(1, config.n_bessel + 1),
        "radial_embedding.cutoff_fn.r_max": config.cutoff,
        "radial_embedding.cutoff_fn.p": config.cutoff_power,
    }
    if config.distance_transform == "agnesi":
        names = {"a": 1.0805, "q": 0.9183, "p": 4.5791, "covalent_radii": covalent_radii}
        found |= {f"radial_embedding.distance_transform.{name}": value for name, value in names.items()}
    if config.zbl:
        names = {"c": [0.1818, 0.5099, 0.2802, 0.02817], "a_exp": 0.3, "a_prefactor": 0.4543}
        names |= {"p": config.cutoff_power, "covalent_radii": covalent_radii}
        found |= {f"pair_repulsion_fn.{name}": value for name, value in names.items()}
    return found


def _heads(config: MACEConfig, left: NamedArrays, functional: str | None, where: str) -> dict[str, Head]:
    """Reference energies, scale and shift of each head."""
    n_heads, symbols = len(config.heads), [chemical_symbols[z] for z in config.elements]
    if functional is not None and n_heads > 1:
        raise MlipError(f"has {n_heads} heads, and --functional names one functional", where=where)
    energies = np.atleast_2d(left.take("atomic_energies_fn.atomic_energies"))
    if energies.shape != (n_heads, len(symbols)):
        raise MlipError(
            f"atomic energies of shape {energies.shape} for {n_heads} heads and {len(symbols)} elements", where=where
        )
    scales = _of_heads(left, "scale_shift.scale", 1.0, n_heads, where)
    shifts = _of_heads(left, "scale_shift.shift", 0.0, n_heads, where)
    return {
        name: Head(
            reference_energies=_known(dict(zip(symbols, energies[k].tolist(), strict=True)), n_heads),
            scale=scales[k],
            shift=shifts[k],
            functional=functional or _FUNCTIONALS.get(name.lower(), "unknown"),
        )
        for k, name in enumerate(config.heads)
    }


def _known(energies: dict[str, float], n_heads: int) -> dict[str, float]:
    """Energies of the elements that a head knows. mace-torch gives 0 to elements that only other heads know."""
    return {symbol: energy for symbol, energy in energies.items() if energy != 0 or n_heads == 1}


def _of_heads(left: NamedArrays, name: str, default: float, n_heads: int, where: str) -> list[float]:
    """One number per head, which all heads may share; `default` if absent, as scale and shift are in plain MACE."""
    values = left.take(name).ravel() if name in left else np.array([default])
    if values.size not in (1, n_heads):
        raise MlipError(f"{name} has {values.size} values for {n_heads} heads", where=where)
    return np.broadcast_to(values, n_heads).tolist()
