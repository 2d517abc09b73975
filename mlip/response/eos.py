"""Equations of state of many crystals: energies at volumes around the start, and the curve through them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Float

from mlip.progress import count_bar
from mlip.relaxation.queue import relax as relax_structures
from mlip.relaxation.result import RelaxResult
from mlip.relaxation.structures_to_relax import take_in
from mlip.response.birch_murnaghan import BirchMurnaghan, fit_birch_murnaghan
from mlip.response.minima import (
    Evaluator,
    Minimum,
    at_fixed_cells,
    fault_of,
    in_parts,
    minima,
    open_any,
    strained,
    told_at,
    worst,
)
from mlip.response.options import EosOptions
from mlip.response.results import Responses, for_json, structure_record

NO_MINIMUM = "no_minimum"
"""Reason of a curve that has no minimum between its volumes, V0 of which would be a guess."""
_LEAST_POINTS = 5


@dataclass(frozen=True)
class EosResult:
    """The equation of state of one structure. Volumes and energies are of its cell."""

    atoms: Atoms
    """The structure at the start of the curve: relaxed, or a copy of the input."""
    reason: str
    """ok; no_minimum: not between the volumes; not_converged: a relaxation was not, the curve is through what it
    reached; collapsed, exploded, isolated, non_finite or error: of the structure, or of a point, which the curve leaves
    out."""
    volumes: Float[np.ndarray, " k"]
    """A^3, rising; empty where there is no structure."""
    energies: Float[np.ndarray, " k"]
    """eV; NaN of a point that failed."""
    fit: BirchMurnaghan | None
    """None where fewer than five points are known."""
    message: str | None = None

    @property
    def failed(self) -> bool:
        """Whether nothing can be told of its minimum."""
        return self.fit is None or not np.isfinite(self.fit.volume) or self.reason == NO_MINIMUM

    @property
    def volume(self) -> float:
        """V0, A^3; NaN where it is not known."""
        return self._of_fit("volume")

    @property
    def energy(self) -> float:
        """E0, eV."""
        return self._of_fit("energy")

    @property
    def bulk_modulus(self) -> float:
        """B0, GPa."""
        return self._of_fit("bulk_modulus")

    @property
    def bulk_modulus_derivative(self) -> float:
        """B0'."""
        return self._of_fit("derivative")

    @property
    def residual(self) -> float:
        """Root of the mean squared deviation of the points from the curve, eV."""
        return float("nan") if self.fit is None else self.fit.residual

    def _of_fit(self, name: str) -> float:
        return float("nan") if self.failed else getattr(self.fit, name)

    def as_row(self) -> dict[str, Any]:
        """Figures of the table: per atom, GPa."""
        n = max(len(self.atoms), 1)
        return {
            "reason": self.reason,
            "volume_per_atom": self.volume / n,
            "energy_per_atom": self.energy / n,
            "bulk_modulus": self.bulk_modulus,
            "bulk_modulus_derivative": self.bulk_modulus_derivative,
            "residual_per_atom": self.residual / n,
            "message": self.message,
        }

    def as_record(self) -> dict[str, Any]:
        """A JSON-able dict; what is not a number is None."""
        known = {
            "reason": self.reason,
            "message": self.message,
            "volume": self.volume,
            "energy": self.energy,
            "bulk_modulus": self.bulk_modulus,
            "bulk_modulus_derivative": self.bulk_modulus_derivative,
            "residual": self.residual,
            "volumes": self.volumes,
            "energies": self.energies,
        }
        return for_json(known) | structure_record(self.atoms)


def equation_of_state(
    structures: Any, potential: Evaluator | str | PathLike | None = None, *, progress: bool = True, **options: Any
) -> Responses[EosResult]:
    """Equations of state of crystals, all structures and volumes in the same batches.

    Args:
        structures: ASE Atoms, pymatgen Structures or structures of an OPTIMADE answer, one or any iterable of them,
            periodic along all three directions; not modified.
        potential: as `mlip.relax` takes it; None is the declared default.
        progress: show a progress bar on stderr.
        options: the fields of `EosOptions`: `volumes`, relative to the start; `relax_ions`, `relax_shape`; `relax`,
            `fmax`, `steps`, `dtype`.

    Returns:
        A list with an `EosResult` for every structure, in their order; `to_dataframe()` makes a table of it.

    Raises:
        MlipError: options that make no sense, something that is no structure, no such potential.
    """
    checked, inputs = EosOptions.of(options), take_in(structures)
    with count_bar(progress) as bar:
        found = equations_of_state(inputs, potential, checked)
        return Responses(result for _, result in bar.track(found, total=len(inputs), description="equations of state"))


def equations_of_state(
    structures: Any, potential: Evaluator | str | PathLike | None, options: EosOptions
) -> Iterator[tuple[int, EosResult]]:
    """As `equation_of_state`, giving (index, result) in order, as they are there."""
    opened = open_any(potential)
    return in_parts(structures, lambda part: _curves(part, opened, options))


def _curves(structures: Sequence[Atoms], potential: Evaluator, options: EosOptions) -> list[EosResult]:
    starts = minima(structures, potential, options)
    scaled = [
        strained(start.atoms, ratio ** (1 / 3) * np.eye(3))
        for start in starts
        if start.is_usable
        for ratio in options.volumes
    ]
    points = iter(_relaxed(scaled, potential, options))
    return [
        _curve(start, [next(points) for _ in options.volumes], options) if start.is_usable else _none(start)
        for start in starts
    ]


def _relaxed(scaled: list[Atoms], potential: Evaluator, options: EosOptions) -> list[RelaxResult]:
    if not options.relax_shape:
        return at_fixed_cells(scaled, potential, options, options.relax_ions)
    how = {"fmax": options.fmax, "steps": options.steps, "dtype": options.dtype}
    return relax_structures(scaled, potential, cell=True, constant_volume=True, progress=False, **how) if scaled else []


def _none(start: Minimum) -> EosResult:
    return EosResult(start.atoms, start.reason, np.zeros(0), np.zeros(0), None, start.message)


def _curve(start: Minimum, points: list[RelaxResult], options: EosOptions) -> EosResult:
    volumes = abs(start.atoms.cell.volume) * np.array(options.volumes)
    energies = np.array([np.nan if point.failed else point.energy for point in points])
    is_relaxed = options.relax_ions or options.relax_shape
    faults = [
        told_at(f"at {ratio:g} of the volume", fault_of(point, is_relaxed))
        for ratio, point in zip(options.volumes, points, strict=True)
    ]
    reason, message = worst([(start.reason, start.message), *faults])
    known = np.isfinite(energies)
    if known.sum() < _LEAST_POINTS:
        return EosResult(start.atoms, reason, volumes, energies, None, message)
    fit = fit_birch_murnaghan(volumes[known], energies[known])
    if not volumes[known][0] < fit.volume < volumes[known][-1]:
        told = _where_minimum(volumes[known], energies[known], fit)
        return EosResult(start.atoms, NO_MINIMUM, volumes, energies, fit, "; ".join(filter(None, (told, message))))
    return EosResult(start.atoms, reason, volumes, energies, fit, message)


def _where_minimum(volumes: np.ndarray, energies: np.ndarray, fit: BirchMurnaghan) -> str:
    if not np.isfinite(fit.volume):
        return "the curve has no minimum"
    lowest = volumes[energies.argmin()]
    return f"its minimum would be at {fit.volume:.4g} A^3; the lowest point is at {lowest:.4g} A^3"
