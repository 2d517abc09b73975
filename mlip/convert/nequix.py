"""Converter for checkpoints of Nequix (.nqx), in both directions.

A file is one line of JSON, the config, followed by the network's leaves in the order of its tree, each a record in
NumPy's format. Nothing is unpickled: a record's header is checked against the config before its numbers are read.
"""

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from ase.data import chemical_symbols
from flax.traverse_util import flatten_dict, unflatten_dict

from mlip.convert.checkpoint_files import ReadOptions
from mlip.convert.layers import checked_config
from mlip.errors import MlipError
from mlip.files.whole_file import whole_file
from mlip.models.nequip import SCALAR, NequIPConfig, couplings, parse_irreps
from mlip.network import check_parameters
from mlip.potential import Potential, PotentialMetadata

LAYOUT = "a checkpoint of Nequix (.nqx)"

_LONGEST_CONFIG = 2**20  # bytes; published models have 4,000
_LONGEST_HEADER = 2**12
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_NEEDED = {  # key of the config -> allowed JSON types
    "atomic_numbers": list,
    "cutoff": (int, float),
    "hidden_irreps": str,
    "lmax": int,
    "n_layers": int,
    "radial_basis_size": int,
    "radial_mlp_size": int,
    "radial_mlp_layers": int,
    "radial_polynomial_p": (int, float),
    "index_weights": bool,
    "layer_norm": bool,
    "avg_n_neighbors": (int, float),
    "scale": (int, float),
    "shift": (int, float),
}
_OTHER_NETWORKS = ("add_repulsion", "sigma_embedding_size", "sigma_conditioning")
"""Config keys of Nequix's unpublished variants; a value that is true or nonzero means another network."""
_INIT_SCALE = 4.0
"""Value of `mlip_init_scale`, which Nequix's reader requires for initial weights that it then overwrites."""


class Leaf(NamedTuple):
    """One record of a .nqx file."""

    name: str
    """Nequix's name of the array, for error messages."""
    path: tuple[str, ...]
    """Path of the array in our parameters; empty for the reference energies."""
    shape: tuple[int, ...]


def recognizes(source: Path) -> bool:
    """Whether a file is named .nqx, or its first line is the JSON of a Nequix config."""
    if not source.is_file():
        return False
    if source.suffix == ".nqx":
        return True
    with source.open("rb") as stream:
        start = stream.read(1)
        return start == b"{" and b'"radial_polynomial_p"' in stream.readline(_LONGEST_CONFIG)


def read(source: Path, options: ReadOptions) -> Potential:
    """Read a checkpoint of Nequix.

    Raises:
        MlipError: the file is not a Nequix checkpoint, a record is damaged or foreign, or the records do not fit the
            config.
    """
    where = str(source)
    if options.aggregate is not None:
        raise MlipError("Nequix adds messages to the center of a bond; there is no choice", where=where)
    try:
        with source.open("rb") as stream:
            values = _read_config(stream, where)
            config = _config(values, where)
            arrays = {leaf: _read_record(stream, leaf, where) for leaf in leaves(config)}
            _check_rest(stream, values, where)
    except OSError as error:
        raise MlipError(f"cannot be read: {error.strerror}", where=where) from None
    flat = {leaf.path: array for leaf, array in arrays.items()}
    energies = flat.pop(())
    params = unflatten_dict(flat)
    check_parameters(config, params, where)
    metadata = PotentialMetadata(
        reference_energies={chemical_symbols[z]: float(e) for z, e in zip(config.elements, energies, strict=True)},
        scale=float(values["scale"]),
        shift=float(values["shift"]),
        functional=options.functional or "unknown",
        provenance={"converted_from": f"nequix {source.name}", "citation": "arXiv:2508.16067"},
    )
    return Potential(config, params, metadata)


def _read_config(stream: BinaryIO, where: str) -> dict[str, Any]:
    line = stream.readline(_LONGEST_CONFIG)
    try:
        values = json.loads(line)
    except ValueError:  # also raised for undecodable bytes
        values = None
    if not isinstance(values, dict) or not line.endswith(b"\n"):
        raise MlipError("is no checkpoint of Nequix: its first line is not a JSON object", where=where)
    for key, types in _NEEDED.items():
        if key not in values:
            raise MlipError(f"the config is not complete: {key} is missing", where=where)
        value = values[key]
        if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
            raise MlipError(f"{key} = {str(value)[:40]!r} in the config is of the wrong type", where=where)
        if isinstance(value, float) and not math.isfinite(value):
            raise MlipError(f"{key} = {value} in the config", where=where)
    for key in _OTHER_NETWORKS:
        if values.get(key):
            raise MlipError(f"{key} = {values[key]!r} is not implemented", where=where)
    return values


def _config(values: dict[str, Any], where: str) -> NequIPConfig:
    """Config of our network from Nequix's.

    Raises:
        MlipError: a value is not implemented.
    """
    power = values["radial_polynomial_p"]
    if power != int(power):
        raise MlipError(f"radial_polynomial_p = {power} is not implemented, only whole numbers", where=where)
    numbers = values["atomic_numbers"]
    if not all(isinstance(z, int) and 0 < z < len(chemical_symbols) for z in numbers):
        raise MlipError("atomic_numbers in the config are no elements", where=where)
    if values["radial_mlp_layers"] < 1:
        raise MlipError(f"radial_mlp_layers = {values['radial_mlp_layers']} is not implemented", where=where)
    config = checked_config(
        where,
        model="nequip",
        cutoff=values["cutoff"],
        elements=tuple(sorted(numbers)),
        hidden=values["hidden_irreps"],
        max_ell=values["lmax"],
        n_layers=values["n_layers"],
        n_bessel=values["radial_basis_size"],
        cutoff_power=int(power),
        radial_hidden=(values["radial_mlp_size"],) * values["radial_mlp_layers"],
        skip="element" if values["index_weights"] else "common",
        norm=values["layer_norm"],
        mean_neighbors=values["avg_n_neighbors"],
    )
    if unlike := [irrep for irrep in parse_irreps(config.hidden) if irrep.parity != (-1) ** irrep.order]:
        # For these, Nequix takes gates from odd scalars, which flip the parity of the features that they gate.
        raise MlipError(f"hidden_irreps with {unlike[0]} are not implemented, only 0e, 1o, 2e and so on", where=where)
    return config


def leaves(config: NequIPConfig) -> list[Leaf]:
    """Records of a network in the order of its tree."""
    n_elements = len(config.elements)
    found = [Leaf("atom_energies", (), (n_elements,))]
    for layer in range(config.n_layers):
        found += _leaves_of_layer(config, layer)
    n_scalars = config.channels_out(config.n_layers - 1)[SCALAR]
    return [*found, Leaf("readout", ("readout",), (n_scalars, 1))]


def _leaves_of_layer(config: NequIPConfig, layer: int) -> Iterator[Leaf]:
    ours, theirs = f"layer_{layer}", f"layers[{layer}]"
    inputs, outputs = config.channels_in(layer), config.channels_out(layer)
    wanted = outputs | {SCALAR: outputs[SCALAR] + sum(n for irrep, n in outputs.items() if irrep.order > 0)}
    paths = couplings(inputs, config.harmonics, outputs)
    coupled = {irrep: sum(inputs[path.node] for path in paths if path.out == irrep) for irrep in outputs}
    widths = (config.n_bessel, *config.radial_hidden, sum(coupled.values()))
    for k, shape in enumerate(pairwise(widths)):
        yield Leaf(f"{theirs}.radial_mlp.layers[{k}]", (ours, "neighbor_sum", "radial", f"layer_{k}"), shape)
    for irrep, n in inputs.items():
        yield Leaf(f"{theirs}.linear_1 {irrep}", (ours, "linear_1", str(irrep)), (n, n))
    for irrep, n in wanted.items():
        yield Leaf(f"{theirs}.linear_2 {irrep}", (ours, "linear_2", str(irrep)), (coupled[irrep], n))
    each = (len(config.elements),) if config.skip == "element" else ()
    for irrep, n in wanted.items():
        if irrep in inputs:
            yield Leaf(f"{theirs}.skip {irrep}", (ours, "skip", str(irrep)), (*each, inputs[irrep], n))
    if config.norm:
        for irrep, n in wanted.items():
            yield Leaf(f"{theirs}.layer_norm {irrep}", (ours, "norm", str(irrep)), (n,))


def _read_record(stream: BinaryIO, leaf: Leaf, where: str) -> np.ndarray:
    """Array of one record.

    Raises:
        MlipError: the file ends, or the record is not an array of finite numbers with the leaf's shape.
    """
    shape, is_fortran, dtype = _read_header(stream, leaf.name, where)
    if dtype not in (np.dtype("<f4"), np.dtype("<f8")) or is_fortran:
        raise MlipError(f"{leaf.name} is an array of {dtype}, not of float32", where=where)
    if shape != leaf.shape:
        raise MlipError(f"{leaf.name} has the shape {shape}, and by the config {leaf.shape}", where=where)
    array = _read_numbers(stream, shape, dtype, leaf.name, where)
    if not np.isfinite(array).all():
        raise MlipError(f"{leaf.name} has numbers that are not finite", where=where)
    return array


def _read_header(stream: BinaryIO, name: str, where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        return _HEADERS[np.lib.format.read_magic(stream)](stream, max_header_size=_LONGEST_HEADER)
    except (ValueError, KeyError, EOFError) as error:
        reason = "the file ends" if not stream.read(1) else f"no record of NumPy's format ({_one_line(error)})"
        raise MlipError(f"{name} cannot be read: {reason}", where=where) from None


def _read_numbers(stream: BinaryIO, shape: tuple[int, ...], dtype: np.dtype, name: str, where: str) -> np.ndarray:
    content = stream.read(math.prod(shape) * dtype.itemsize)
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise MlipError(f"{name} cannot be read: the file ends", where=where)
    return np.frombuffer(content, dtype).reshape(shape)


def _check_rest(stream: BinaryIO, values: dict[str, Any], where: str) -> None:
    """Check that nothing follows the network, except the config's numbers in files that Nequix made from a PyTorch
    model.

    Raises:
        MlipError: the file has other records.
    """
    place = stream.tell()
    if not stream.read(2).strip():  # the file may end with a line break
        return
    stream.seek(place)
    for number in _numbers(values):
        shape, _, dtype = _read_header(stream, "a number behind the network", where)
        is_plain = shape == () and dtype.kind in "bif"
        if not is_plain or _read_numbers(stream, shape, dtype, "a number behind the network", where) != number:
            break
    else:
        if not stream.read(1):
            return
    raise MlipError(
        "has more records than its config asks for", where=where, fix="a variant of the model that is not implemented"
    )


def _numbers(tree: Any) -> Iterator[bool | int | float]:
    """Numbers in nested JSON with keys in ascending order, which is the order of JAX's leaves."""
    if isinstance(tree, dict):
        for key in sorted(tree):
            yield from _numbers(tree[key])
    elif isinstance(tree, list):
        for item in tree:
            yield from _numbers(item)
    elif isinstance(tree, bool | int | float):
        yield tree


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__


def write(potential: Potential, out: Path) -> Path:
    """Write the file `out`, a checkpoint that Nequix reads.

    Raises:
        MlipError: the file exists, or Nequix cannot represent the network.
    """
    config = potential.config
    _check_writable(potential)
    if out.exists():
        raise MlipError("exists", where=str(out), fix="choose another name, such as OUT.nqx")
    flat = flatten_dict(potential.params)
    metadata = potential.metadata
    energies = [metadata.reference_energies[chemical_symbols[z]] for z in config.elements]
    values = {
        "cutoff": config.cutoff,
        "atomic_numbers": list(config.elements),
        "atom_energies": {str(z): energy for z, energy in zip(config.elements, energies, strict=True)},
        "avg_n_neighbors": config.mean_neighbors,
        "scale": metadata.scale,
        "shift": metadata.shift,
        "hidden_irreps": config.hidden,
        "lmax": config.max_ell,
        "n_layers": config.n_layers,
        "radial_basis_size": config.n_bessel,
        "radial_mlp_size": config.radial_hidden[0],
        "radial_mlp_layers": len(config.radial_hidden),
        "radial_polynomial_p": float(config.cutoff_power),
        "mlp_init_scale": _INIT_SCALE,
        "index_weights": config.skip == "element",
        "layer_norm": config.norm,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as partial, Path(partial).open("wb") as stream:
        stream.write(json.dumps(values).encode() + b"\n")
        for leaf in leaves(config):
            array = np.asarray(flat[leaf.path] if leaf.path else energies, np.float32)
            np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
    return out


def _check_writable(potential: Potential) -> None:
    config = potential.config
    if not isinstance(config, NequIPConfig):
        raise MlipError(f"Nequix's format is written for NequIP only, not for {config.model}")
    theirs = NequIPConfig(elements=config.elements)
    for name in ("parity", "embedding", "trained_frequencies", "cutoff_function", "neighbor_norm", "activation_norm"):
        if getattr(config, name) != getattr(theirs, name):
            raise MlipError(f"Nequix has no network with {name} = {getattr(config, name)!r}")
    if config.head_biases or len(config.heads) > 1:
        raise MlipError("Nequix has no network with biases of heads")
    if any(irrep.parity != (-1) ** irrep.order for irrep in parse_irreps(config.hidden)):
        raise MlipError(f"Nequix has no network with the irreps {config.hidden}")
    if len(set(config.radial_hidden)) != 1:
        raise MlipError(f"Nequix has no network with radial_hidden = {config.radial_hidden}")
    if missing := [chemical_symbols[z] for z in config.elements if chemical_symbols[z] not in potential.elements]:
        raise MlipError(f"the network has parameters for {', '.join(missing)}, but no reference energies")
