"""The original M3GNet (m3gnet 0.2.4, TensorFlow) exported as plain arrays: weights.npz and config.json.

Keras numbers the dense layers in the order of their creation; `_DenseLayers` names them again by what they do.
"""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from mlip.errors import MlipError
from mlip.models.m3gnet import M3GNetConfig
from mlip.potential import Potential, PotentialMetadata, check_parameters

LAYOUT = "a folder with weights.npz and config.json of m3gnet 0.2.4, or its weights.npz"

_UNTRAINED_REFERENCE = 1e-9  # eV: an element that was not in the training set has E0 = 0 to rounding


def recognises(source: Path) -> bool:
    weights, config = _files(source)
    return weights.is_file() and config.is_file() and "m3gnet TF" in config.read_text()[:200]


def read(source: Path) -> Potential:
    """
    Raises:
        MlipError: damaged arrays, or a variant of M3GNet that is not implemented.
    """
    weights_file, config_file = _files(source)
    try:
        original = json.loads(config_file.read_text())
        with np.load(weights_file, allow_pickle=False) as archive:
            layers = _DenseLayers({name: archive[name] for name in archive.files})
        values = original["config"]
        _check_variant(values, str(config_file))
        config = _config(values)
        params = _parameters(layers, config.n_blocks)
        metadata = _metadata(original)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise MlipError(f"cannot be read: {error}", where=str(source)) from None
    except (KeyError, TypeError) as error:
        raise MlipError(f"is not complete: {error} is missing", where=str(source)) from None
    check_parameters(config, params, str(weights_file))
    return Potential(config, params, metadata)


def _config(values: dict) -> M3GNetConfig:
    return M3GNetConfig(
        cutoff=values["cutoff"],
        three_body_cutoff=values["threebody_cutoff"],
        units=values["units"],
        n_blocks=values["n_blocks"],
        max_n=values["max_n"],
        max_l=values["max_l"],
        max_atomic_number=values["n_atom_types"],
    )


def _metadata(original: dict) -> PotentialMetadata:
    return PotentialMetadata(
        reference_energies={
            chemical_symbols[z]: energy
            for z, energy in enumerate(original["config"]["element_refs"])
            if z > 0 and abs(energy) > _UNTRAINED_REFERENCE
        },
        scale=original["config"]["std"],
        functional="PBEsol" if "pbesol" in original["format"].lower() else "PBE",
        provenance={"converted_from": original["format"], "citation": "doi:10.1038/s43588-022-00349-3"},
    )


def _files(source: Path) -> tuple[Path, Path]:
    folder = source if source.is_dir() else source.parent
    return (folder / "weights.npz" if source.is_dir() else source), folder / "config.json"


def _check_variant(values: dict, where: str) -> None:
    required = {"include_states": False, "readout": "weighted_atom", "is_intensive": False, "mean": 0.0}
    for key, value in required.items():
        if values[key] != value:
            raise MlipError(f"{key} = {values[key]!r} is not implemented, only {value!r}", where=where)


class _DenseLayers:
    """Keras variables by the number of their dense layer (`dense` is 0)."""

    def __init__(self, variables: dict[str, np.ndarray]):
        self.embedding, self.kernels, self.biases = None, {}, {}
        for name, value in variables.items():
            if name.endswith("embeddings:0"):
                self.embedding = value
            elif match := re.search(r"/dense(?:_(\d+))?/(kernel|bias):0$", name):
                kind = self.kernels if match[2] == "kernel" else self.biases
                kind[int(match[1] or 0)] = value

    def dense(self, number: int) -> dict[str, np.ndarray]:
        layer = {"kernel": self.kernels[number]}
        return layer | {"bias": self.biases[number]} if number in self.biases else layer

    def fused(self, core: int, gate: int) -> dict[str, np.ndarray]:
        """Two layers of the same input, side by side."""
        layer = {"kernel": np.concatenate([self.kernels[core], self.kernels[gate]], axis=1)}
        if core in self.biases:
            layer["bias"] = np.concatenate([self.biases[core], self.biases[gate]])
        return layer

    def gated_message(self, first: int) -> dict:
        """Layers first .. first + 3: core, core, gate, gate."""
        return self.fused(first, first + 2) | {"core": self.dense(first + 1), "gate": self.dense(first + 3)}


def _parameters(layers: _DenseLayers, n_blocks: int) -> dict:
    """The tree of `mlip.models.m3gnet`, from Keras' numbering: embedding, all three-body terms, all
    convolutions (atoms before bonds), readout."""
    if layers.embedding is None:
        raise KeyError("embeddings:0")
    params = {
        "embedding": {"embedding": layers.embedding},
        "bond_embedding": layers.dense(0),
    }
    for block in range(n_blocks):
        three_body = 1 + 3 * block
        params[f"three_body_{block}"] = {
            "neighbour_gate": layers.dense(three_body),
            "core_and_gate": layers.fused(three_body + 1, three_body + 2),
        }
        convolution = 1 + 3 * n_blocks + 10 * block
        params[f"convolution_{block}"] = {
            "atom_message": layers.gated_message(convolution),
            "atom_weight": layers.dense(convolution + 4),
            "bond_message": layers.gated_message(convolution + 5),
            "bond_weight": layers.dense(convolution + 9),
        }
    readout = 1 + 13 * n_blocks
    params["readout"] = {
        f"{branch}_{layer}": layers.dense(readout + 3 * place + layer)
        for place, branch in enumerate(("core", "gate"))
        for layer in range(3)
    }
    return params
