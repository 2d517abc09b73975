"""Distances to the hull of a store's materials, as potentials give them after relaxation and property models at once.

A relaxation's energy is as far above the hull as it is above DFT's energy of the same material, plus that material's
own distance. So the energies of paths and those of the hull's entries, which are other calculations, do not mix.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from jaxtyping import Float

from mlip.benchmark.comparison import load_results
from mlip.benchmark.hull import Phases
from mlip.benchmark.hull_references import composition_of, read_references
from mlip.benchmark.hull_table import HullPredictions
from mlip.data import Frame, Store
from mlip.errors import MlipError
from mlip.property_model import PropertyModel, is_property_model
from mlip.runtime import compilation_seconds

DISTANCE, FORMATION_ENERGY = "e_above_hull", "e_form"


@dataclass(frozen=True)
class Judged:
    """Materials whose distance to the hull is known."""

    ids: list[str]
    frames: list[Frame]
    """Relaxed by DFT."""
    distances: Float[np.ndarray, " k"]
    """eV/atom."""
    notes: tuple[str, ...]


def run_hull_benchmark(
    store: str | Path, models: Sequence[str], *, split: str = "test", references: Sequence[Path] = ()
) -> tuple[list[HullPredictions], tuple[str, ...]]:
    """Predictions of each model, and what is to be said of them.

    Args:
        models: results of `mlip benchmark relaxation` on this store, or files of property models that predict
            e_above_hull; each a path or NAME=path.
        references: of the hull; without any, the materials' own e_above_hull is the truth.

    Raises:
        MlipError: no material with a known distance; a model of another kind; what reading them raises.
    """
    judged = judged_materials(Path(store), split, references)
    predictions, notes = [], list(judged.notes)
    for model in models:
        name, path = _named(model)
        predict = _by_property_model if path.suffix == ".safetensors" else _by_results
        found, note = predict(name, path, model, judged)
        predictions.append(found)
        notes += note
    return predictions, tuple(notes)


def judged_materials(path: Path, split: str, references: Sequence[Path]) -> Judged:
    """Materials of a split with their distances: from the references' hull, or as the store says."""
    with Store(path) as store:
        chosen = [material for material in store.materials() if split in ("all", material.split)]
        frames = [store.frame(material.frames[-1]) for material in chosen]
    if not chosen:
        raise MlipError(f"no materials in split {split!r}", where=str(path), fix="try --split all")
    if references:
        distances, note = _from_references(chosen, frames, references)
    else:
        distances = np.array([float(material.properties.get(DISTANCE, np.nan)) for material in chosen])
        note = f"Hull: the materials' own {DISTANCE}."
    known = np.flatnonzero(np.isfinite(distances))
    if not len(known):
        raise MlipError(
            f"no material's distance to the hull is known: {DISTANCE} is in none", where=str(path), fix="--references"
        )
    notes = [note]
    if unknown := len(chosen) - len(known):
        notes.append(f"{unknown} of {len(chosen)} materials have no known distance and are left out.")
    return Judged([chosen[k].id for k in known], [frames[k] for k in known], distances[known], tuple(notes))


def _from_references(materials, frames: list[Frame], sources: Sequence[Path]) -> tuple[np.ndarray, str]:
    references = read_references(sources)
    if references.are_formation_energies:
        energies = np.array([float(material.properties.get(FORMATION_ENERGY, np.nan)) for material in materials])
    else:
        energies = np.array([frame.energy / len(frame) for frame in frames])
    distances = np.full(len(frames), np.nan)
    known = np.flatnonzero(np.isfinite(energies))
    phases = Phases.of([composition_of(frames[k].numbers) for k in known], energies[known])
    distances[known] = references.hulls.distances(phases)
    kind = "formation energies" if references.are_formation_energies else "total energies"
    return distances, f"Hull: of {references.n_phases:,} reference phases, {kind}."


def _named(model: str) -> tuple[str, Path]:
    name, equals, path = model.partition("=")
    if equals and not Path(model).exists():
        return name, Path(path)
    return Path(model).stem, Path(model)


def _by_results(name: str, path: Path, source: str, judged: Judged) -> tuple[HullPredictions, list[str]]:
    """Relaxed energies, as much above the hull as above DFT's."""
    (results,) = load_results([source])
    records = {record["id"]: record for record in results.records}
    present = [k for k, material in enumerate(judged.ids) if material in records]
    if not present:
        raise MlipError("has results of none of the store's materials", where=str(path))
    chosen = [records[judged.ids[k]] for k in present]
    above_dft = np.array(
        [
            np.nan
            if record["volume"] is None or record["energy"] is None or record["dft_energy"] is None
            else (record["energy"] - record["dft_energy"]) / record["n_atoms"]
            for record in chosen
        ]
    )
    seconds = [record["seconds"] for record in chosen if record.get("seconds") is not None]
    reference = judged.distances[present]
    missing = len(judged.ids) - len(present)
    notes = [f"{results.name}: {missing} of {len(judged.ids)} materials were not relaxed and are left out."]
    return (
        HullPredictions(
            results.name, reference + above_dft, reference, float(np.mean(seconds)) if seconds else float("nan")
        ),
        notes if missing else [],
    )


def _by_property_model(name: str, path: Path, source: str, judged: Judged) -> tuple[HullPredictions, list[str]]:
    if not is_property_model(path):
        raise MlipError(
            "is a potential, which relaxes first", where=str(path), fix="mlip benchmark relaxation, then its results"
        )
    model = PropertyModel.load(path)
    if model.metadata.property != DISTANCE:
        raise MlipError(f"predicts {model.metadata.property}, not {DISTANCE}", where=str(path))
    known = set(model.elements)
    able = [k for k, frame in enumerate(judged.frames) if set(composition_of(frame.numbers)) <= known]
    predicted = np.full(len(judged.frames), np.nan)
    compiled, start = compilation_seconds(), time.perf_counter()
    predicted[able] = model.predict([_atoms(judged.frames[k]) for k in able])
    seconds = time.perf_counter() - start - (compilation_seconds() - compiled)
    notes = [f"{name}: {len(judged.ids) - len(able)} materials have elements that it does not know: failed."]
    return (
        HullPredictions(name, predicted, judged.distances, seconds / max(len(able), 1)),
        notes if len(able) < len(judged.ids) else [],
    )


def _atoms(frame: Frame) -> Atoms:
    return Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
