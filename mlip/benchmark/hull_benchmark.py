"""Distances to the convex hull of a store's materials, predicted by relaxing with potentials or by property models.

The distance after a relaxation is the DFT distance of the material plus the energy difference between the relaxation
and DFT. So energies of the store's paths never mix with those of the hull's entries, which come from other
calculations.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mlip.benchmark.error_summary import energy_error
from mlip.benchmark.hull_table import HullPredictions
from mlip.benchmark.results import PotentialResults, load_results
from mlip.data import Frame, Store
from mlip.data.store import Material
from mlip.errors import MlipError
from mlip.functionals import check_functionals
from mlip.hull.convex_hull import Phases
from mlip.hull.energies import (
    Energies,
    are_corrections_used,
    check_levels,
    check_same_level,
    note_on_corrections,
)
from mlip.hull.phase_files import atoms_of_composition, correction_of, level_of
from mlip.hull.references import read_references
from mlip.property_model import PropertyModel, is_property_model
from mlip.runtime import compilation_seconds, jax_facts

DISTANCE, FORMATION_ENERGY = "e_above_hull", "e_form"


@dataclass(frozen=True)
class Judged:
    """Materials whose distance to the hull is known."""

    ids: list[str]
    indices: list[int]
    """Indices of the materials in the store."""
    frames: list[Frame]
    """Structures relaxed by DFT."""
    functionals: list[str]
    distances: Float[np.ndarray, " k"]
    """Reference distances to the hull, eV/atom."""
    notes: tuple[str, ...]
    store: Path
    content_sha256: str
    """Checksum of the store's content."""

    def at(self, rows: Sequence[int], notes: Sequence[str]) -> "Judged":
        """The materials in these rows, with further notes."""
        ids, indices, frames, functionals = (
            [column[row] for row in rows] for column in (self.ids, self.indices, self.frames, self.functionals)
        )
        distances, notes = self.distances[list(rows)], (*self.notes, *notes)
        return Judged(ids, indices, frames, functionals, distances, notes, self.store, self.content_sha256)


def run_hull_benchmark(
    store: str | Path,
    models: Sequence[str],
    *,
    split: str = "test",
    references: Sequence[Path] = (),
    allow_functional_mismatch: bool = False,
) -> tuple[list[HullPredictions], tuple[str, ...]]:
    """Predictions of each model, and notes on them for the table.

    Args:
        models: results of `mlip benchmark relaxation` on this store, or files of property models that predict
            e_above_hull; each a path or NAME=path.
        references: files of the phases that span the hull; by default the materials' own e_above_hull is the reference.
        allow_functional_mismatch: allow models, materials and references of different functionals; a note says so.

    Raises:
        MlipError: no material has a known distance, a model predicts another property, results are of another store, or
            functionals differ; also errors from reading the files.
    """
    judged = judged_materials(Path(store), split, references, allow_functional_mismatch=allow_functional_mismatch)
    predictions, notes = [], list(judged.notes)
    for model in models:
        name, path = _named(model)
        predict = _by_property_model if path.suffix == ".safetensors" else _by_results
        found, further = predict(name, path, model, judged, allow_functional_mismatch)
        predictions.append(found)
        notes += further
        if predict is _by_property_model:
            notes.append(f"{name}: predicted by {', '.join(f'{k} {v}' for k, v in jax_facts().items() if v)}.")
    return predictions, tuple(notes)


def judged_materials(
    path: Path, split: str, references: Sequence[Path], *, allow_functional_mismatch: bool = False
) -> Judged:
    """Materials of a split with their distances to the hull, computed from the references or taken from the store.

    Raises:
        MlipError: no material has a known distance, or the references are of several levels of theory, or of another
            level than the materials.
    """
    with Store(path) as store:
        chosen = [(k, m) for k, m in enumerate(store.materials()) if split in ("all", m.split)]
        if not chosen:
            raise MlipError(f"no materials in split {split!r}", where=str(path), fix="try --split all")
        relaxed = [(k, material) for k, material in chosen if material.relaxed is not None]
        frames = [store.relaxed_frame(material) for _, material in relaxed]
        content_sha256 = store.content_sha256
    materials = [material for _, material in relaxed]
    if references:
        distances, notes = _from_references(path, materials, frames, references, allow_functional_mismatch)
    else:
        distances = np.array([float(material.properties.get(DISTANCE, np.nan)) for material in materials])
        notes = [f"Hull: the materials' own {DISTANCE}."]
    every = Judged(
        ids=[material.id for material in materials],
        indices=[k for k, _ in relaxed],
        frames=frames,
        functionals=[material.functional for material in materials],
        distances=distances,
        notes=tuple(notes),
        store=path,
        content_sha256=content_sha256,
    )
    return every.at(*_known(every, [material for _, material in chosen]))


def _known(every: Judged, chosen: Sequence[Material]) -> tuple[list[int], list[str]]:
    """Rows of the materials whose distance is known, and notes that count those left out."""
    known = np.flatnonzero(np.isfinite(every.distances)).tolist()
    if not known:
        raise MlipError(
            f"no material's distance to the hull is known: {DISTANCE} is in none",
            where=str(every.store),
            fix="--references",
        )
    left_out = Counter(material.why_not_relaxed for material in chosen if material.relaxed is None)
    notes = [f"{count} of {len(chosen)} materials are left out: {why}." for why, count in left_out.items()]
    if missing := len(every.ids) - len(known):
        notes.append(f"{missing} of {len(chosen)} materials have no known distance to the hull and are left out.")
    return known, notes


def _from_references(
    path: Path, materials: Sequence[Material], frames: Sequence[Frame], sources: Sequence[Path], allowed: bool
) -> tuple[np.ndarray, list[str]]:
    references = read_references(sources, allow_functional_mismatch=allowed)
    are_formation_energies = references.are_formation_energies
    energies = _energies(materials, frames, are_formation_energies)
    known = np.flatnonzero(np.isfinite(energies.uncorrected))
    energies = energies.take(known)
    options = {"allowed": allowed, "where": references.where}
    functionals = check_same_level(references.energies, energies, **options)
    if are_formation_energies:
        hulls, values, kind, convention = references.hulls, energies.uncorrected, "formation energies", None
        levels = references.note
    else:
        sides = {"reference phases": references.energies, "materials": energies}
        kind, convention = "total energies", note_on_corrections(sides)
        corrected = are_corrections_used(references.energies, energies)
        levels = check_levels(references.energies, corrected=corrected, **options)
        hulls = references.hulls if corrected else references.uncorrected_hulls
        values = energies.corrected if corrected else energies.uncorrected
    distances = np.full(len(frames), np.nan)
    compositions = [atoms_of_composition(frames[k].numbers) for k in known]
    distances[known] = hulls.distances(Phases.of(compositions, values))
    notes = [f"Hull: of {references.n_phases:,} reference phases, {kind}.", convention]
    return distances, [note for note in (*notes, *_sentences(levels, functionals)) if note]


def _energies(materials: Sequence[Material], frames: Sequence[Frame], are_formation_energies: bool) -> Energies:
    """Energies per atom of the materials' relaxed structures; NaN where unknown."""
    sizes = np.array([len(frame) for frame in frames], float)
    if are_formation_energies:
        values = np.array([float(material.properties.get(FORMATION_ENERGY, np.nan)) for material in materials])
        corrections = np.zeros(len(materials))
    else:
        values = np.array([frame.energy for frame in frames]) / sizes
        corrections = np.array([correction_of(material) for material in materials]) / sizes
    levels = [level_of(material) for material in materials]
    if are_formation_energies:
        levels = [level.removesuffix("+U") for level in levels]
    return Energies(values, corrections, levels, np.array([len(set(frame.numbers.tolist())) > 1 for frame in frames]))


def _sentences(*notes: str | None) -> list[str]:
    return [f"{note[0].upper()}{note[1:]}." for note in notes if note]


def _named(model: str) -> tuple[str, Path]:
    name, equals, path = model.partition("=")
    if equals and not Path(model).exists():
        return name, Path(path)
    return Path(model).stem, Path(model)


def _by_results(name: str, path: Path, source: str, judged: Judged, allowed: bool) -> tuple[HullPredictions, list[str]]:
    """Predict distances from relaxed energies: the reference distance plus the error of the relaxed energy."""
    (results,) = load_results([source])
    records, notes = _records_of(results, path, judged)
    present = [k for k, record in enumerate(records) if record is not None]
    if not present:
        raise MlipError("has results of none of the store's materials", where=str(path))
    functionals = check_functionals(
        results.potential_functional,
        {judged.functionals[k] for k in present},
        of_ours=results.name,
        of_theirs="the materials",
        where=str(path),
        allowed=allowed,
    )
    chosen = [records[k] for k in present]
    seconds = [record["seconds"] for record in chosen if record.get("seconds") is not None]
    reference = judged.distances[present]
    if missing := len(judged.ids) - len(present):
        notes.append(f"{results.name}: {missing} of {len(judged.ids)} materials were not relaxed and are left out.")
    predicted = reference + np.array([energy_error(record) for record in chosen])
    found = HullPredictions(results.name, predicted, reference, float(np.mean(seconds)) if seconds else float("nan"))
    return found, [*notes, *_sentences(functionals)]


def _records_of(results: PotentialResults, path: Path, judged: Judged) -> tuple[list[dict[str, Any] | None], list[str]]:
    """The record of each material, None where there is none, and notes on how records were matched to materials.

    Raises:
        MlipError: the results are of a store with another content, or they do not identify their store and an id occurs
            twice.
    """
    contents = {header["store"].get("content_sha256") for header in results.headers}
    if contents == {judged.content_sha256}:
        by_index = {record["material"]: record for record in results.records}
        return [by_index.get(index) for index in judged.indices], []
    if None not in contents:
        stores = ", ".join(str(header["store"].get("name")) for header in results.headers)
        raise MlipError(
            f"has results of another store: the content of {stores} is not that of {judged.store}",
            where=str(path),
            fix="mlip benchmark relaxation on this store",
        )
    by_id = {record["id"]: record for record in results.records}
    for ids, where in (([record["id"] for record in results.records], path), (judged.ids, judged.store)):
        if twice := [name for name, count in Counter(ids).items() if count > 1 and name in by_id]:
            told = ", ".join(twice[:3]) + (", ..." if len(twice) > 3 else "")
            raise MlipError(f"ids that occur twice: {told}", where=str(where), fix="relax again with this mlip")
    note = f"{results.name}: its results do not tell the store by content; materials are found by their ids."
    return [by_id.get(name) for name in judged.ids], [note]


def _by_property_model(
    name: str, path: Path, source: str, judged: Judged, allowed: bool
) -> tuple[HullPredictions, list[str]]:
    if not is_property_model(path):
        raise MlipError(
            "is a potential, which relaxes first", where=str(path), fix="mlip benchmark relaxation, then its results"
        )
    model = PropertyModel.load(path)
    if model.metadata.property != DISTANCE:
        raise MlipError(f"predicts {model.metadata.property}, not {DISTANCE}", where=str(path))
    functionals = check_functionals(
        model.metadata.functional,
        set(judged.functionals),
        of_ours=name,
        of_theirs="the materials",
        where=str(path),
        allowed=allowed,
    )
    known = set(model.elements)
    able = [k for k, frame in enumerate(judged.frames) if set(atoms_of_composition(frame.numbers)) <= known]
    predicted = np.full(len(judged.frames), np.nan)
    compiled, start = compilation_seconds(), time.perf_counter()
    predicted[able] = model.predict([judged.frames[k] for k in able])
    seconds = time.perf_counter() - start - (compilation_seconds() - compiled)
    notes = _sentences(functionals)
    if strangers := len(judged.ids) - len(able):
        notes.append(f"{name}: {strangers} materials have elements that it does not know: failed.")
    return HullPredictions(name, predicted, judged.distances, seconds / max(len(able), 1)), notes
