"""Scalar properties of a store's materials by name, in the form that models learn: those of a cell per atom.

`PAPERS` are the seven of "Improving machine-learning models in materials science through large datasets".
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mlip.data.schema import CORRECTION, END_REMOVED, NUMBERS
from mlip.data.shard import Material
from mlip.data.store import Store


class Derived(NamedTuple):
    """A property that a store has under other names, or for the whole cell."""

    sources: tuple[str, ...]
    """Scalars of the store; the first one that a material has is used."""
    is_of_cell: bool
    """Whether the scalar belongs to the cell and is divided by its number of atoms."""


DERIVED = {
    "band_gap": Derived(("band_gap", "band_gap_ind", "band_gap_dir"), is_of_cell=False),
    "energy_per_atom": Derived((), is_of_cell=True),  # the energy of the relaxed structure
    "magnetization_per_atom": Derived(("total_mag",), is_of_cell=True),
    "volume_per_atom": Derived(("volume",), is_of_cell=True),
    "volume": Derived(("volume",), is_of_cell=True),  # a name of mlip 0.1
}

PAPERS = (
    "band_gap",
    "e_form",
    "e_above_hull",
    "energy_per_atom",
    "magnetization_per_atom",
    "volume_per_atom",
    "dos_ef",
)

UNITS = {
    "band_gap": "eV",
    "band_gap_ind": "eV",
    "band_gap_dir": "eV",
    "e_form": "eV/atom",
    "e_above_hull": "eV/atom",
    "energy_per_atom": "eV/atom",
    "magnetization_per_atom": "mu_B/atom",
    "volume": "A^3/atom",
    "volume_per_atom": "A^3/atom",
    "dos_ef": "states/eV",
}

_NOT_LEARNED = {CORRECTION, END_REMOVED, "spg"}
"""Numbers that describe how a material was computed, or that are mere labels."""


def property_of(store: Store, material: Material, name: str) -> float | None:
    """A material's property in the form that models learn; None if it is not known.

    Args:
        name: a scalar of the store, or one of `DERIVED`. Scalars of a composition without a structure, which has no
            cell, are not divided.
    """
    derived = DERIVED.get(name)
    if derived is None or not material.has_structure:
        return _finite(material.properties.get(name))
    if name == "energy_per_atom" and material.relaxed is not None:
        frame = store.frame(material.relaxed)
        return _finite(frame.energy / len(frame))
    stated = [_finite(material.properties.get(source)) for source in derived.sources]
    found = next((value for value in stated if value is not None), None)
    if found is None:
        return _finite(material.properties.get(name))
    return found / int(store.n_atoms_of(np.array([material.frames[0]]))[0]) if derived.is_of_cell else found


def known_properties(store: Store) -> list[str]:
    """Names of numbers that some material has, without those that describe how it was computed; the paper's come
    first."""
    stored = {key for shard in store.shards for key in shard.keys(NUMBERS)} - _NOT_LEARNED
    of_paper = [name for name in PAPERS if name in stored or _has_any(name, stored)]
    covered = {source for name in of_paper if name in DERIVED for source in DERIVED[name].sources}
    return [*of_paper, *sorted(stored - covered - set(of_paper))]


def _has_any(name: str, stored: set[str]) -> bool:
    return name in DERIVED and bool(stored.intersection(DERIVED[name].sources) or name == "energy_per_atom")


def values_of(store: Store, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Values of each property over all materials that have it."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for material in store.materials():
        for name in names:
            if (value := property_of(store, material, name)) is not None:
                found[name].append(value)
    return {name: np.array(values) for name, values in found.items()}


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, float | int) and np.isfinite(value) else None
