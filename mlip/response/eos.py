"""Equations of state of many crystals: energies at volumes around the start, and a fitted curve."""

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
    open_any,
    strained,
    stream,
    told_at,
    worst,
)
from mlip.response.options import EosOptions
from mlip.response.results import Responses, for_json, structure_record

NO_MINIMUM = "no_minimum"
"""Reason for a curve without a minimum between its volumes, for which V0 would be an extrapolation."""
_LEAST_POINTS = 5


@dataclass(frozen=True)
class EosResult:
    """Equation of state of one structure. Volumes and energies are per cell."""

    atoms: Atoms
    """The structure at the start of the curve: relaxed, or a copy of the input."""
    reason: str
    """Outcome. ok; no_minimum: there is none between the volumes; not_converged: a relaxation did not converge, and the
    curve uses its last structure; collapsed, exploded, isolated, non_finite or error: for the structure, or for a
    point, which is left out of the curve."""
    volumes: Float[np.ndarray, " k"]
    """Volumes, A^3, ascending; empty if there is no structure."""
    energies: Float[np.ndarray, " k"]
    """Energies, eV; NaN for a point that failed."""
    fit: BirchMurnaghan | None
    """Fitted curve; None with fewer than five known points."""
    message: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the minimum is unknown."""
        return self.fit is None or not np.isfinite(self.fit.volume) or self.reason == NO_MINIMUM

    @property
    def volume(self) -> float:
        """Equilibrium volume V0, A^3; NaN if unknown."""
        return self._of_fit("volume")

    @property
    def energy(self) -> float:
        """Energy E0 at the minimum, eV; NaN if unknown."""
        return self._of_fit("energy")

    @property
    def bulk_modulus(self) -> float:
        """Bulk modulus B0, GPa; NaN if unknown."""
        return self._of_fit("bulk_modulus")

    @property
    def bulk_modulus_derivative(self) -> float:
        """Pressure derivative B0' of the bulk modulus; NaN if unknown."""
        return self._of_fit("derivative")

    @property
    def residual(self) -> float:
        """Root mean square deviation of the points from the curve, eV."""
        return float("nan") if self.fit is None else self.fit.residual

    def _of_fit(self, name: str) -> float:
        return float("nan") if self.failed else getattr(self.fit, name)

    def as_row(self) -> dict[str, Any]:
        """Values for a table: volume (A^3) and energies (eV) per atom; bulk modulus in GPa."""
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
        """JSON-serializable dict; non-finite numbers are None."""
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
    """Equations of state of crystals, with all structures and volumes in common batches.

    Args:
        structures: one or an iterable of ASE Atoms, pymatgen Structures or structures of an OPTIMADE response, periodic
            in all three directions; not modified.
        potential: see `mlip.relax`; None is the default potential.
        progress: show a progress bar on stderr.
        options: fields of `EosOptions`: `volumes`, relative to the start; `relax_ions`, `relax_shape`; `relax`, `fmax`,
            `steps`, `dtype`.

    Returns:
        A list with an `EosResult` for every structure, in the order given; `to_dataframe()` converts it to a table.

    Raises:
        MlipError: the options are invalid, an item is not a structure, or the potential does not exist.
    """
    checked, inputs = EosOptions.of(options), take_in(structures)
    with count_bar(progress) as bar:
        found = equations_of_state(inputs, potential, checked)
        return Responses.in_order(bar.track(found, total=len(inputs), description="equations of state"))


def equations_of_state(
    structures: Any, potential: Evaluator | str | PathLike | None, options: EosOptions
) -> Iterator[tuple[int, EosResult]]:
    """Yield (index, result) as results become available, in no particular order; otherwise like `equation_of_state`."""
    opened = open_any(potential)
    return stream(
        structures,
        opened,
        options,
        plan=lambda start: [strained(start.atoms, ratio ** (1 / 3) * np.eye(3)) for ratio in options.volumes],
        respond=lambda planned: _curves(planned, opened, options),
        meanwhile=not (options.relax_ions or options.relax_shape),
    )


def _curves(
    planned: Sequence[tuple[Minimum, list[Atoms] | None]], potential: Evaluator, options: EosOptions
) -> list[EosResult]:
    """Curves of minima and their scaled copies."""
    points = iter(_relaxed([one for _, copies in planned for one in copies or ()], potential, options))
    return [
        _curve(start, [next(points) for _ in copies], options) if copies else _none(start) for start, copies in planned
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
