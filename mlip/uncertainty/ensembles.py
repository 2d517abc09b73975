"""An ensemble of several potentials as one potential, with an uncertainty from the spread of its members."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ase.data import atomic_numbers

from mlip.errors import MlipError
from mlip.models.ensemble import N_ELEMENTS, EnsembleConfig
from mlip.potential import Potential, PotentialMetadata

_MOST = 32


def ensemble(potentials: Sequence[Potential], names: Sequence[str] | None = None) -> Potential:
    """Ensemble of potentials, whose energy, forces and stress are the means over its members.

    Args:
        potentials: potentials with the same network, elements and functional, one head each, and different parameters.
        names: names of the potentials for errors and for the provenance; by default "potential 0", ...

    Raises:
        MlipError: there are fewer than two or too many, two are identical, or two differ in more than their parameters.
    """
    names = [f"potential {k}" for k in range(len(potentials))] if names is None else list(names)
    if not 2 <= len(potentials) <= _MOST:
        raise MlipError(f"an ensemble of {len(potentials)}", fix=f"2 to {_MOST} potentials, such as seeds of a recipe")
    for name, potential in zip(names, potentials, strict=True):
        _check_alike(potentials[0], potential, names[0], name)
    by_fingerprint: dict[str, str] = {}
    for name, potential in zip(names, potentials, strict=True):
        if potential.fingerprint in by_fingerprint:
            other = by_fingerprint[potential.fingerprint]
            raise MlipError(f"is the same potential as {other}", where=name, fix="a spread is of different ones")
        by_fingerprint[potential.fingerprint] = name
    metadata = [potential.metadata for potential in potentials]
    references = np.array([_references(potential) for potential in potentials])
    mean = references.mean(axis=0)
    params = {
        "members": jax.tree.map(lambda *leaves: np.stack(leaves), *(potential.params for potential in potentials)),
        "scales": np.array([one.scale for one in metadata], np.float32),
        "offsets": (references - mean).astype(np.float32),
    }
    return Potential(
        EnsembleConfig(n_members=len(potentials), network=potentials[0].config),
        params,
        PotentialMetadata(
            reference_energies={symbol: float(mean[atomic_numbers[symbol]]) for symbol in potentials[0].elements},
            functional=metadata[0].functional,
            provenance={"ensemble": [_origin(*one) for one in zip(names, potentials, strict=True)]},
            precision=metadata[0].precision,
        ),
    )


def members(potential: Potential) -> list[Potential]:
    """Individual potentials of an ensemble, with the ensemble's provenance."""
    config, params, metadata = potential.config, potential.params, potential.metadata
    return [
        Potential(
            config.network,
            jax.tree.map(lambda leaf, k=k: np.asarray(leaf)[k], params["members"]),
            PotentialMetadata(
                reference_energies={
                    symbol: energy + float(params["offsets"][k][atomic_numbers[symbol]])
                    for symbol, energy in metadata.reference_energies.items()
                },
                scale=float(params["scales"][k]) * metadata.scale,
                shift=metadata.shift,
                functional=metadata.functional,
                provenance=metadata.provenance | {"member": k},
                precision=metadata.precision,
            ),
        )
        for k in range(config.n_members)
    ]


def _check_alike(first: Potential, other: Potential, first_name: str, name: str) -> None:
    """Check that two potentials differ only in their parameters.

    Raises:
        MlipError: names the difference.
    """
    for one, called in ((first, first_name), (other, name)):
        if len(one.heads) > 1:
            raise MlipError(
                f"has several heads: {', '.join(one.heads)}", where=called, fix="mlip convert POTENTIAL OUT --head NAME"
            )
        if one.config.model == "ensemble":
            raise MlipError("is an ensemble already", where=called, fix="give the potentials that it was made of")
    facts = (
        ("network", first.config.model, other.config.model),
        ("cutoff", f"{first.cutoff:g} A", f"{other.cutoff:g} A"),
        *_differences(first.config.model_dump(), other.config.model_dump()),
        ("functional", first.functional, other.functional),
        ("elements", *_only(first.elements, other.elements)),
        ("precision", first.metadata.precision, other.metadata.precision),
    )
    for what, ours, theirs in facts:
        if ours != theirs:
            raise MlipError(
                f"differs from {first_name} in its {what}: {theirs}, not {ours}",
                where=name,
                fix="an ensemble is of potentials that differ in their parameters alone",
            )


def _differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    keys = sorted(ours.keys() | theirs.keys())
    return [(f"config, {key}", ours.get(key), theirs.get(key)) for key in keys]


def _only(ours: list[str], theirs: list[str]) -> tuple[str, str]:
    """Elements that only the first has, and those that only the second has, as text."""
    return tuple(
        f"only {' '.join(symbol for symbol in one if symbol not in other) or 'those in common'}"
        for one, other in ((ours, theirs), (theirs, ours))
    )


def _references(potential: Potential) -> np.ndarray:
    """(119,) reference energy E0 plus shift, eV/atom; zero for unknown elements."""
    references = np.zeros(N_ELEMENTS)
    for symbol, energy in potential.metadata.reference_energies.items():
        references[atomic_numbers[symbol]] = energy + potential.metadata.shift
    return references


def _origin(name: str, potential: Potential) -> dict[str, Any]:
    return {"name": name, "fingerprint": potential.fingerprint, "provenance": potential.metadata.provenance}
