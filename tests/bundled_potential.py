"""A registry folder of a test's own, whose one potential comes with its weights, as that of a wheel would."""

import hashlib
from pathlib import Path

import numpy as np
import yaml
from ase.data import atomic_numbers

from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata

NAME = "placeholder-1"
CITATION = "doi:10.0/placeholder"


def write_registry(folder: Path, **changes) -> Path:
    """Write the entry and, into `weights/`, a network of random parameters that knows Na and Cl.

    Args:
        changes: of the entry.

    Returns:
        The file of the weights.
    """
    weights = folder / "weights" / f"{NAME}.safetensors"
    random_potential().save(weights)
    content = weights.read_bytes()
    file = {"name": weights.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    values = {
        "name": NAME,
        "title": "Placeholder 1",
        "aliases": ["placeholder"],
        "family": "M3GNet",
        "functional": "PBE",
        "elements": 2,
        "training_data": "labels of nobody",
        "parameters": random_potential().n_parameters,
        "citation": [CITATION],
        "license": {"id": "MIT", "url": "https://nowhere.invalid/LICENSE", "redistribution": "anyone"},
        "source": {"homepage": "https://nowhere.invalid", "bundled": True, "files": [file]},
        "converter": "mlip",
        "errors": [
            {"data": "crystals", "materials": 1000, "energy": 60, "relaxed_volume_percent": 3.5, "failed_percent": 0},
            {"data": "crystals", "materials": 1000, "labels": "teacher-1", "forces": 0.02, "forces_slope": 0.97},
        ],
        "card": {
            "teacher": "teacher-1",
            "learned_from": [
                {"what": "labels of Teacher 1", "license": "MIT", "citation": ["doi:10.0/teacher"]},
                {"what": "crystals", "license": "CC-BY-4.0", "citation": ["doi:10.0/crystals"], "frames": 12345},
            ],
            "made_by": "datasets/default/make.sh",
            "warnings": ["magnetism: it knows no moments", "molecules"],
            "frames_by_element": {"Cl": 12000, "Na": 7},
        },
    }
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump(values | changes), encoding="utf-8")
    return weights


def random_potential(symbols: tuple[str, ...] = ("Na", "Cl")) -> Potential:
    """A tiny network of the same parameters each time."""
    config = M3GNetConfig(units=4, n_blocks=1, max_atomic_number=max(atomic_numbers[symbol] for symbol in symbols))
    metadata = PotentialMetadata(
        reference_energies={symbol: -1.0 - k for k, symbol in enumerate(symbols)},
        functional="PBE",
        provenance={"name": NAME, "license": "MIT"},
    )
    return Potential(config, _random(init_parameters(config)), metadata)


def _random(params: dict) -> dict:
    import jax

    generator = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: 0.1 * generator.normal(size=leaf.shape).astype(np.float32), params)
