"""Fits the uncertainty of a potential: the last layer's covariance on training frames, the factors on held-out frames.

The regularizer of the covariance is selected from a grid by maximum likelihood of the held-out errors under a Laplace
distribution with a width proportional to the spread; then the factors are determined (`mlip.uncertainty.calibration`).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mlip.data import Store
from mlip.data.records import Frame
from mlip.errors import MlipError
from mlip.evaluation.evaluate import chosen_materials
from mlip.functionals import check_functionals
from mlip.graph.stacked_structures import Structures
from mlip.potential import Potential
from mlip.runtime import precision_scope, set_up_jax
from mlip.uncertainty.calibration import ANY, COVERAGE, WIDTH, Calibration, LastLayer, Uncertainty
from mlip.uncertainty.dimensionality import dimensionality_of
from mlip.uncertainty.spread import evaluate_ensemble, evaluate_last_layer

THRESHOLD = 0.1
"""Default threshold for doubtful predictions: half width of the 90 % interval, eV/atom."""
_FEWEST = 50
"""Smallest number of held-out frames for a factor."""
_CHUNK = 1024
"""Number of frames held in memory at once."""
_REGULARIZERS = 10.0 ** np.arange(-12, 0)
"""Candidate regularizers, as fractions of the covariance's mean eigenvalue."""


@dataclass(frozen=True)
class Measured:
    """Errors and uncertainty data of frames, one row per frame."""

    errors: Float[np.ndarray, " k"]
    """Potential minus label, eV/atom; NaN without a label."""
    dimensionality: Int[np.ndarray, " k"]
    spread: Float[np.ndarray, " k"] | None
    """Spread of an ensemble, eV/atom."""
    features: Float[np.ndarray, "k d"] | None
    """Mean over the atoms of the last layer's features, eV/atom."""


@dataclass(frozen=True)
class FitRow:
    """Calibration results for structures of one dimensionality, or of any."""

    name: str
    frames: int
    mae: float
    """Mean absolute error of the energy, eV/atom."""
    factor: float
    mean_std: float
    """Mean calibrated standard deviation, eV/atom."""
    doubtful: float
    """Fraction of the frames whose predictions are not to be trusted."""


def calibrate(
    potential: Potential,
    store: Store,
    *,
    fit_split: str = "train",
    split: str = "val",
    threshold: float = THRESHOLD,
    max_frames: int = 20_000,
    allow_functional_mismatch: bool = False,
    dtype: str = "float32",
) -> tuple[Potential, list[FitRow]]:
    """The potential with a calibrated uncertainty, and the results of the calibration.

    Args:
        store: store with frames like those of the training set, including held-out ones.
        fit_split: split for the last layer's covariance; unused for an ensemble.
        split: held-out split for the factors.
        threshold: half width of the 90 % interval above which predictions are not to be trusted, eV/atom.
        max_frames: largest number of frames per split, evenly selected.

    Raises:
        MlipError: the labels are from another functional, there are too few labeled frames with known elements, the
            network does not report last-layer features, or it has several heads.
    """
    set_up_jax()
    precision_scope(dtype)
    potential = potential.of_head(None)
    if not 0 < threshold < math.inf:
        raise MlipError(f"is {threshold}", where="threshold", fix="an energy > 0, eV/atom")
    functionals = {material.functional for material in chosen_materials(store, split)}
    check_functionals(
        potential.functional,
        functionals,
        of_ours="the potential",
        of_theirs="the labels",
        where=str(store.path),
        allowed=allow_functional_mismatch,
    )
    held_out = measure(potential, _frames(store, split, potential, max_frames), dtype)
    labeled = np.isfinite(held_out.errors)
    if labeled.sum() < _FEWEST:
        raise MlipError(
            f"{labeled.sum()} labeled frames of known elements in split {split!r}: too few to calibrate",
            where=str(store.path),
            fix=f"at least {_FEWEST}; --split NAME chooses another",
        )
    last_layer, fit_frames = None, 0
    if held_out.features is not None:
        last_layer, fit_frames = _last_layer(potential, store, fit_split, max_frames, held_out, labeled, dtype)
    spread = held_out.spread if last_layer is None else last_layer.std(held_out.features)
    factors, frames = find_factors(held_out.errors[labeled], spread[labeled], held_out.dimensionality[labeled])
    provenance: dict[str, Any] = {
        "store": {"name": store.path.name, "content_sha256": store.content_sha256},
        "functionals": sorted(functionals),
        "split": split,
    }
    if last_layer is not None:
        provenance |= {"fit_split": fit_split, "fit_frames": fit_frames}
    calibration = Calibration(factors=factors, threshold=threshold, frames=frames, provenance=provenance)
    kind = "ensemble" if last_layer is None else "last layer"
    calibrated = replace(potential, uncertainty=Uncertainty(kind, calibration, last_layer))
    rows = _rows(calibration, held_out.errors[labeled], spread[labeled], held_out.dimensionality[labeled])
    return calibrated, rows


def measure(potential: Potential, frames: Iterable[Frame], dtype: str = "float32") -> Measured:
    """Errors and spreads of frames, in a single pass; frames without a graph are left out.

    Raises:
        MlipError: the network does not report last-layer features.
    """
    of_ensemble = potential.config.model == "ensemble"
    evaluation = evaluate_ensemble if of_ensemble else evaluate_last_layer
    errors, dimensionality, told = [], [], []
    for chunk in _chunks(frames):
        chunk.sort(key=len)  # similar sizes share a batch, which needs less padding
        graphs, sound = [], []
        for frame, graph in zip(
            chunk, potential.config.inputs.graphs(Structures.of(chunk), np.dtype(dtype).type), strict=True
        ):
            if not isinstance(graph, MlipError):
                graphs.append(graph)
                sound.append(frame)
        for members, output in potential.outputs(graphs, dtype, evaluation=evaluation):
            for place, k in enumerate(members):
                frame = sound[k]
                references = potential.reference_energies_by_z[frame.numbers].sum()
                errors.append((float(output.energy[place]) + references - frame.energy) / len(frame))
                dimensionality.append(dimensionality_of(frame))
                if of_ensemble:
                    told.append(float(output.spread.energy[place]) / len(frame))
                else:
                    told.append(output.spread.features[place].astype(np.float64))
    rows = np.array(told) if told else np.zeros((0,) if of_ensemble else (0, 0))
    return Measured(
        np.array(errors, np.float64),
        np.array(dimensionality, int),
        rows if of_ensemble else None,
        None if of_ensemble else rows,
    )


def find_factors(
    errors: Float[np.ndarray, " k"], spread: Float[np.ndarray, " k"], dimensionality: Int[np.ndarray, " k"]
) -> tuple[dict[str, float], dict[str, int]]:
    """Factors for each dimensionality with enough frames and for "any", and the number of frames behind each.

    Args:
        errors, spread: of energies per atom, in the same unit.
    """
    groups = {ANY: np.ones(len(errors), bool)}
    groups |= {str(d): dimensionality == d for d in sorted(set(dimensionality.tolist()))}
    enough = {name: group for name, group in groups.items() if name == ANY or group.sum() >= _FEWEST}
    ratios = np.abs(errors) / np.maximum(spread, np.finfo(float).tiny)
    factors = {name: _quantile(ratios[group]) / WIDTH for name, group in enough.items()}
    return factors, {name: int(group.sum()) for name, group in enough.items()}


def _quantile(ratios: Float[np.ndarray, " k"]) -> float:
    """Quantile that a new ratio stays below with probability `COVERAGE`: the next higher order statistic for k + 1
    values (split conformal prediction)."""
    rank = math.ceil((len(ratios) + 1) * COVERAGE)
    return float(np.sort(ratios)[min(rank, len(ratios)) - 1])


def _last_layer(
    potential: Potential, store: Store, fit_split: str, max_frames: int, held_out: Measured, labeled, dtype: str
) -> tuple[LastLayer, int]:
    """Covariance over the training frames with the best regularizer, and the number of these frames."""
    features = measure(potential, _frames(store, fit_split, potential, max_frames), dtype).features
    if not len(features):
        raise MlipError(
            f"no frame of known elements in split {fit_split!r}", where=str(store.path), fix="--fit-split NAME"
        )
    covariance = features.T @ features
    unit = np.trace(covariance) / len(covariance)
    errors = np.abs(held_out.errors[labeled])

    def unlikelihood(layer: LastLayer) -> float:
        spread = layer.std(held_out.features[labeled])
        return float(np.mean(np.log(spread)) + np.log(np.mean(errors / spread)))

    layers = [LastLayer(covariance, float(unit * share)) for share in _REGULARIZERS]
    return min(layers, key=unlikelihood), len(features)


def _frames(store: Store, split: str, potential: Potential, max_frames: int) -> Iterator[Frame]:
    """Evenly selected frames of a split with known elements only."""
    chosen = [k for material in chosen_materials(store, split) for k in material.frames]
    for place in np.unique(np.linspace(0, len(chosen) - 1, min(max_frames, len(chosen))).round().astype(int)):
        frame = store.frame(chosen[place])
        try:
            potential.check_elements(frame.numbers)
        except MlipError:
            continue
        yield frame


def _chunks(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    frames = iter(frames)
    while chunk := list(islice(frames, _CHUNK)):
        yield chunk


def _rows(calibration: Calibration, errors, spread, dimensionality) -> Sequence[FitRow]:
    def row(name: str) -> FitRow:
        group = np.ones(len(errors), bool) if name == ANY else dimensionality == int(name)
        std = calibration.factors[name] * spread[group]
        return FitRow(
            name,
            int(group.sum()),
            float(np.abs(errors[group]).mean()),
            calibration.factors[name],
            float(std.mean()),
            float((WIDTH * std > calibration.threshold).mean()),
        )

    return [row(name) for name in calibration.factors]
