"""The data of a run: which frames, on which energy scale.

What a model learns are interaction energies: total energies minus reference energies fitted to the training
split. Its output is in units of the root mean square force component of that split, because forces set the
curvature that a potential must get right; without force labels, of the root mean square energy an atom.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Float, Int

from mlip.data import Store
from mlip.data.statistics import Statistics, compute_statistics
from mlip.errors import MlipError


@dataclass(frozen=True, eq=False)
class Dataset:
    """The frames of a run; indices are those of its store."""

    statistics: Statistics
    """Of the training split."""
    train: Int[np.ndarray, " k"]
    validation: Int[np.ndarray, " v"]
    """May be empty."""
    n_left_out: int
    """Validation frames with an element that the training split lacks."""
    functionals: dict[str, int]
    """Functional -> number of materials, in the whole store."""

    @property
    def scale(self) -> float:
        """eV a unit of the model's output."""
        for scale in (self.statistics.force_rms, self.statistics.energy_rms_per_atom):
            if np.isfinite(scale) and scale > 0:
                return scale
        return 1.0

    @property
    def reference_energies_by_z(self) -> Float[np.ndarray, " 119"]:
        """eV, by atomic number; NaN for elements that the training split lacks."""
        table = np.full(len(chemical_symbols), np.nan)
        for symbol, energy in self.statistics.reference_energies.items():
            table[atomic_numbers[symbol]] = energy
        return table

    @property
    def functional(self) -> str:
        """One name; of a mixture all of them, joined by '+'."""
        return "+".join(sorted(self.functionals))

    def describe(self) -> str:
        """A few lines for whoever starts a run."""
        known = self.statistics
        lines = [
            f"train {len(self.train):,} frames ({known.n_atoms:,} atoms, {len(known.elements)} elements), "
            f"validation {len(self.validation):,} frames, functional {self.functional}",
            f"energies without E0: rms {known.energy_rms_per_atom:.3f} eV/atom; forces: rms {known.force_rms:.3f} "
            f"eV/Å; model output in units of {self.scale:.3f} eV",
        ]
        if self.n_left_out:
            lines.append(f"{self.n_left_out} validation frames left out: elements that the training set lacks")
        if len(self.functionals) > 1:
            mixture = ", ".join(f"{name} ({count} materials)" for name, count in self.functionals.items())
            lines.append(f"warning: energies of several functionals are mixed: {mixture}")
        return "\n".join(lines)


def open_dataset(store: Store, remembered: Path | None = None) -> Dataset:
    """The training and validation frames of a store.

    Args:
        remembered: file that keeps the statistics, so that a resumed run has the very same reference energies.

    Raises:
        MlipError: no training frames, or not one energy among them.
    """
    if remembered is not None and remembered.exists():
        statistics = Statistics.from_json(remembered.read_text())
    else:
        statistics = compute_statistics(store, "train")
        if remembered is not None:
            remembered.write_text(statistics.to_json())
    if not all(np.isfinite(list(statistics.reference_energies.values()))):
        raise MlipError("no energy is known in the training split", where=str(store.path))
    validation = store.indices("val")
    known = _has_only(store, "val", statistics.elements)
    return Dataset(
        statistics=statistics,
        train=store.indices("train"),
        validation=validation[known],
        n_left_out=int((~known).sum()),
        functionals=dict(Counter(material.functional for material in store.materials())),
    )


def _has_only(store: Store, split: str, elements: list[str]) -> np.ndarray:
    """Whether each frame of the split consists of these elements."""
    is_known = np.zeros(len(chemical_symbols), bool)
    is_known[[atomic_numbers[symbol] for symbol in elements]] = True
    flags = [np.zeros(0, bool)]
    for block in store.blocks(("atoms/number",), split):
        starts = np.cumsum(block["size"]) - block["size"]
        flags.append(np.logical_and.reduceat(is_known[block["number"]], starts))
    return np.concatenate(flags)


def store_fingerprint(store: Store) -> str:
    """A short hash of the store's content, from the checksums that its files carry."""
    checksums = [shard.file["checksums"].asstr()[()] for shard in store.shards]
    return hashlib.blake2b("".join(checksums).encode(), digest_size=8).hexdigest()
