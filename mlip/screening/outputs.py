"""Output files of a round: the list of candidates, the histogram of predicted distances, a store and CIF files."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from jaxtyping import Int

from mlip.data.records import Frame, Trajectory
from mlip.data.writer import StoreWriter
from mlip.files.whole_file import whole_file
from mlip.screening.plan import Kept, ScreeningPlan
from mlip.screening.screener import EDGES
from mlip.screening.screening_recipe import KeepRecipe

_RELAXED = ("converged", "max_steps")
"""Reasons of relaxations that give a structure."""


def write_list(path: Path, kept: Sequence[Kept]) -> None:
    """Write the candidates as CSV, lowest predicted distance first."""
    with whole_file(path) as partial, partial.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("rank", "candidate", "formula", "prototype", "space_group", "predicted_e_above_hull"))
        for rank, one in enumerate(kept, start=1):
            prototype = one.prototype
            rows.writerow(
                (rank, one.number, _formula(one), prototype.name, prototype.space_group, f"{one.distance:.6f}")
            )


def write_histogram(folder: Path, histogram: Int[np.ndarray, "sites bins"], keep: KeepRecipe) -> None:
    """Write histogram.csv and histogram.png: predicted distances to the hull, a line for each number of elements."""
    counted = [n for n in range(1, len(histogram) + 1) if histogram[n - 1].any()]
    with whole_file(folder / "histogram.csv") as partial, partial.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("from_ev_per_atom", "to_ev_per_atom", *(f"{n}_elements" for n in counted)))
        rows.writerows(zip(EDGES[:-1], EDGES[1:], *(histogram[n - 1] for n in counted), strict=True))
    _plot(folder / "histogram.png", {n: histogram[n - 1] for n in counted}, keep)


def _plot(path: Path, histograms: Mapping[int, Int[np.ndarray, " bins"]], keep: KeepRecipe) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    for n, counts in histograms.items():
        axes.stairs(counts, EDGES, label=f"{n} elements ({counts.sum():,})")
    for place, cutoff in enumerate(sorted({keep.cutoff(n) for n in histograms})):
        axes.axvline(cutoff, color="black", linewidth=0.7, linestyle=":", label=None if place else "cutoff")
    occupied = np.flatnonzero(sum(histograms.values(), np.zeros(len(EDGES) - 1, int)))
    if len(occupied):
        axes.set_xlim(EDGES[occupied[0]], EDGES[occupied[-1] + 1])
        axes.set_yscale("log")
    axes.set(xlabel="predicted distance to the hull, eV/atom", ylabel=f"candidates a {EDGES[1] - EDGES[0]:.2f} eV/atom")
    axes.legend(fontsize="x-small", frameon=False)
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=150, format="png")


def write_structures(
    folder: Path, kept: Sequence[Kept], relaxed: Mapping[int, Mapping[str, Any]] | None, plan: ScreeningPlan
) -> int:
    """Write candidates.h5 and cifs/ with the relaxed structures, or without relaxations the substituted ones; returns
    the number of structures.

    A candidate whose relaxation failed is left out; its record tells why.
    """
    cifs = folder / "cifs"
    cifs.mkdir(exist_ok=True)
    potential = plan.recipe.relax and plan.recipe.relax.file.stem
    functional = f"surrogate-{potential}" if potential else plan.model.metadata.functional
    n_written = 0
    with StoreWriter(folder / "candidates.h5", {"screening": plan.recipe.model_dump(mode="json")}) as store:
        for rank, one in enumerate(kept, start=1):
            record = relaxed and relaxed[one.number]
            if record and record["reason"] not in _RELAXED:
                continue
            atoms = _relaxed(record) if record else one.atoms
            energy = record["energy"] if record else float("nan")
            properties = {
                "predicted_e_above_hull": one.distance,
                "prototype": one.prototype.name,
                "spg": float(one.prototype.space_group),
            }
            if record and "energy_std" in record:
                properties |= _certainty(record)
            trajectory = Trajectory(f"candidate-{one.number}", (_frame(atoms, energy),), functional, 3, properties)
            store.add(trajectory, "test")
            ase.io.write(cifs / f"{rank:06d}-{_formula(one)}.cif", atoms)
            n_written += 1
    return n_written


def _certainty(record: Mapping[str, Any]) -> dict[str, float]:
    """Uncertainty of a relaxed candidate, as properties of the store."""
    told = {"energy_std_per_atom": record["energy_std"] / len(record["numbers"])}
    further = ("relative_volume_std", "do_not_trust")
    return told | {key: float(record[key]) for key in further if key in record}


def _relaxed(record: Mapping[str, Any]) -> Atoms:
    return Atoms(record["numbers"], record["positions"], cell=record["cell"], pbc=record["pbc"])


def _frame(atoms: Atoms, energy: float) -> Frame:
    return Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc, energy)


def _formula(one: Kept) -> str:
    return one.atoms.get_chemical_formula(mode="metal", empirical=True)
