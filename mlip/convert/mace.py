"""mace-torch's MACE and ScaleShiftMACE: a state dict as NAME_weights.npz beside NAME_config.json.

e3nn stores the weights of a product flat, block after block, each block (inputs, outputs) or (inputs, elements,
outputs); blocks are in the order of their inputs. Norms are not in the weights, in mace-torch as in `mlip.models.mace`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from flax.traverse_util import unflatten_dict

from mlip.convert.files import read_json_object, read_npz
from mlip.convert.layers import NamedArrays, checked_config
from mlip.errors import MlipError
from mlip.models.mace import MACEConfig, coupling_paths
from mlip.models.symmetric_contraction import coupling_polynomials, polynomials_of_tensor
from mlip.potential import Potential, PotentialMetadata, check_parameters

LAYOUT = "NAME_weights.npz of mace-torch beside NAME_config.json"

_WEIGHTS, _CONFIG = "_weights.npz", "_config.json"
_BLOCKS = {  # first_block, normalization
    "RealAgnosticInteractionBlock": ("element", "mean"),
    "RealAgnosticResidualInteractionBlock": ("residual", "mean"),
    "RealAgnosticDensityInteractionBlock": ("element", "density"),
    "RealAgnosticDensityResidualInteractionBlock": ("residual", "density"),
}
_IMPLEMENTED = {"gate": ("silu",), "radial_type": ("bessel",), "model": ("ScaleShiftMACE", "MACE")}
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
_DERIVED = re.compile(
    r".*\.(bias|output_mask|_w3j_\w+|prefactor|weights_\w+_zeroed)|interactions\.\d+\.conv_tp\.weight"
)  # constants of e3nn's, and empty arrays


def recognises(source: Path) -> bool:
    config = _config_file(source)
    return source.name.endswith(_WEIGHTS) and config.is_file() and b'"mace_torch"' in config.read_bytes()


def read(source: Path, functional: str | None = None, aggregate: str | None = None) -> Potential:
    """
    Args:
        functional: whose energies these are; the files do not tell.
        aggregate: of matgl's making; MACE has no such choice.

    Raises:
        MlipError: damaged files, or a variant of MACE that is not implemented.
    """
    if aggregate is not None:
        raise MlipError("MACE adds messages to the centre of a bond; there is no choice", where=str(source))
    values = read_json_object(_config_file(source))
    arrays = {name: array for name, array in read_npz(source).items() if not _DERIVED.fullmatch(name)}
    left = NamedArrays(arrays, str(source))
    config = _config(values, left.take("atomic_numbers"), str(source))
    _check_constants(config, left, str(source))
    metadata = PotentialMetadata(
        reference_energies=_reference_energies(config, left, str(source)),
        scale=_scalar(left, "scale_shift.scale", 1.0, str(source)),
        shift=_scalar(left, "scale_shift.shift", 0.0, str(source)),
        functional=functional or "unknown",
        provenance={
            "converted_from": f"mace-torch {values['mace_torch']} {source.name.removesuffix(_WEIGHTS)}",
            "citation": "arXiv:2206.07697",
        },
    )
    params = unflatten_dict(dict(_parameters(config, left, str(source))), sep=".")
    left.check_all_taken()
    check_parameters(config, params, str(source))
    return Potential(config, params, metadata)


def _config_file(source: Path) -> Path:
    return source.with_name(source.name.removesuffix(_WEIGHTS) + _CONFIG)


def _config(values: dict, numbers: np.ndarray, where: str) -> MACEConfig:
    for key in _NEEDED:
        if key not in values:
            raise MlipError(f"the config is not complete: {key} is missing", where=where)
    for key, known in _IMPLEMENTED.items():
        if values.get(key, known[0]) not in known:
            raise MlipError(f"{key} = {values[key]!r} is not implemented, only {', '.join(known)}", where=where)
    first, inter = (_BLOCKS.get(values[key]) for key in ("first", "inter"))
    if first is None or inter is None or inter != ("residual", first[1]):
        raise MlipError(f"blocks {values['first']} and {values['inter']} are not implemented", where=where)
    channels, max_l = _hidden(values["hidden"], where)
    transform = values.get("distance_transform") or "none"
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
        mean_neighbours=values["avgn"],
        distance_transform=transform.lower(),
        zbl=bool(values.get("pair_repulsion", False)),
    )


def _hidden(irreps: str, where: str) -> tuple[int, int]:
    """ "16x0e + 16x1o" -> 16 channels, l up to 1."""
    blocks = re.findall(r"(\d+)x(\d+)([eo])", str(irreps))
    channels = {int(multiplicity) for multiplicity, _, _ in blocks}
    natural = [(str(order), "eo"[order % 2]) for order in range(len(blocks))]
    if len(channels) != 1 or [(order, parity) for _, order, parity in blocks] != natural:
        raise MlipError(f"irreps {irreps!r} are not implemented, only those like 16x0e + 16x1o", where=where)
    return channels.pop(), len(blocks) - 1


def _check_constants(config: MACEConfig, left: NamedArrays, where: str) -> None:
    """What is a constant here may have been trained there."""
    frequencies = np.pi / config.cutoff * np.arange(1, config.n_bessel + 1)
    expected = {
        "r_max": config.cutoff,
        "num_interactions": config.n_layers,
        "radial_embedding.bessel_fn.r_max": config.cutoff,
        "radial_embedding.bessel_fn.bessel_weights": frequencies,
        "radial_embedding.cutoff_fn.r_max": config.cutoff,
        "radial_embedding.cutoff_fn.p": config.cutoff_power,
    }
    if config.distance_transform == "agnesi":
        names = {"a": 1.0805, "q": 0.9183, "p": 4.5791, "covalent_radii": covalent_radii}
        expected |= {f"radial_embedding.distance_transform.{name}": value for name, value in names.items()}
    if config.zbl:
        names = {"c": [0.1818, 0.5099, 0.2802, 0.02817], "a_exp": 0.3, "a_prefactor": 0.4543}
        names |= {"p": config.cutoff_power, "covalent_radii": covalent_radii}
        expected |= {f"pair_repulsion_fn.{name}": value for name, value in names.items()}
    for name, value in expected.items():
        found = left.take(name)
        if found.shape != np.shape(value) or not np.allclose(found, value, rtol=1e-6):  # float32 checkpoints
            raise MlipError(f"{name} is not what the config or the published models have", where=where)


def _reference_energies(config: MACEConfig, left: NamedArrays, where: str) -> dict[str, float]:
    energies = np.atleast_2d(left.take("atomic_energies_fn.atomic_energies"))
    if energies.shape != (1, len(config.elements)):
        raise MlipError(
            f"atomic energies of shape {energies.shape} for {len(config.elements)} elements",
            where=where,
            fix="models of several heads are not implemented",
        )
    return {chemical_symbols[z]: float(energy) for z, energy in zip(config.elements, energies[0], strict=True)}


def _scalar(left: NamedArrays, name: str, default: float, where: str) -> float:
    """Plain MACE has neither scale nor shift."""
    if name not in left:
        return default
    value = left.take(name)
    if value.size != 1:
        raise MlipError(f"{name} has {value.size} values", where=where, fix="several heads are not implemented")
    return float(value.reshape(()))


def _parameters(config: MACEConfig, left: NamedArrays, where: str) -> Iterator[tuple[str, np.ndarray]]:
    """Names of ours, dots between levels, and their arrays."""
    c, nz = config.channels, len(config.elements)

    def blocks(name: str, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
        flat = left.take(name).ravel()
        sizes = [int(np.prod(shape)) for shape in shapes]
        if flat.size != sum(sizes):
            raise MlipError(f"{name} has {flat.size} numbers, not {sum(sizes)}", where=where)
        parts = np.split(flat, np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    yield "embedding", blocks("node_embedding.linear.weight", [(nz, c)])[0]
    n_orders = 1
    for layer in range(config.n_layers):
        theirs, ours = f"interactions.{layer}", f"interaction_{layer}"
        orders = config.orders_out(layer)
        for order, block in enumerate(blocks(f"{theirs}.linear_up.weight", [(c, c)] * n_orders)):
            yield f"{ours}.linear_up.order{order}", block
        for depth in range(len(config.radial_hidden) + 1):
            yield f"{ours}.radial.layer_{depth}", left.take(f"{theirs}.conv_tp_weights.layer{depth}.weight")
        paths = [path.out for path in coupling_paths(n_orders - 1, config.max_ell)]
        mixing = blocks(f"{theirs}.linear.weight", [(c, c)] * len(paths))
        for order in range(config.max_ell + 1):
            same = [block for block, out in zip(mixing, paths, strict=True) if out == order]
            yield f"{ours}.linear.order{order}", np.concatenate(same)
        if config.normalization == "density":
            yield f"{ours}.density", left.take(f"{theirs}.density_fn.layer0.weight").ravel()
        is_element_block = layer == 0 and config.first_block == "element"
        n_skipped = config.max_ell + 1 if is_element_block else min(n_orders, len(orders))
        skip = f"{ours}.skip" if is_element_block else f"skip_{layer}"
        for order, block in enumerate(blocks(f"{theirs}.skip_tp.weight", [(c, nz, c)] * n_skipped)):
            yield f"{skip}.order{order}", block.transpose(1, 0, 2)
        for order in orders:
            for degree in range(1, config.correlation + 1):
                name = f"products.{layer}.symmetric_contractions.contractions.{order}"
                yield (
                    f"product_{layer}.order{order}_degree{degree}",
                    _contraction(config, left, name, order, degree, where),
                )
        for order, block in enumerate(blocks(f"products.{layer}.linear.weight", [(c, c)] * len(orders))):
            yield f"update_{layer}.order{order}", block
        if 0 < layer == config.n_layers - 1:
            hidden = config.readout_hidden
            yield f"readout_{layer}.hidden", blocks(f"readouts.{layer}.linear_1.weight", [(c, hidden)])[0]
            yield f"readout_{layer}.energy", blocks(f"readouts.{layer}.linear_2.weight", [(hidden,)])[0]
        else:
            yield f"readout_{layer}.energy", blocks(f"readouts.{layer}.linear.weight", [(c,)])[0]
        n_orders = len(orders)


def _contraction(config: MACEConfig, left: NamedArrays, name: str, order: int, degree: int, where: str) -> np.ndarray:
    """Weights (elements, couplings, channels) of our couplings; a checkpoint may have others of the same span."""
    place = config.correlation - degree - 1
    weights = left.take(f"{name}.weights_max" if place < 0 else f"{name}.weights.{place}")
    ours = coupling_polynomials(config.max_ell, degree, order)
    tensor = f"{name}.U_matrix_{degree}"
    if tensor not in left:
        return weights
    theirs = polynomials_of_tensor(left.take(tensor), degree)
    if theirs.shape == ours.shape and np.allclose(theirs, ours, atol=1e-6):
        return weights
    theirs, flat = theirs.reshape(len(theirs), -1), ours.reshape(len(ours), -1)
    combinations = np.linalg.lstsq(flat.T, theirs.T, rcond=1e-10)[0]
    if not np.allclose(flat.T @ combinations, theirs.T, atol=1e-6):
        raise MlipError(f"{tensor} is no coupling of order {order}", where=where)
    return np.einsum("ok,zkc->zoc", combinations, weights)
