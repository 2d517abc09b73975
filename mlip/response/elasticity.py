"""Elastic tensors of many crystals from stresses at small strains with relaxed ions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Float, Int

from mlip.progress import count_bar
from mlip.relaxation.result import RelaxResult
from mlip.relaxation.structures_to_relax import take_in
from mlip.response.elastic_moduli import fit_tensor, moduli, stiffnesses, symmetrized
from mlip.response.minima import (
    ERROR,
    OK,
    Evaluator,
    Minimum,
    at_fixed_cells,
    bare,
    fault_of,
    open_any,
    strained,
    stream,
    told_at,
    worst,
)
from mlip.response.options import ElasticOptions
from mlip.response.results import Responses, for_json, structure_record
from mlip.response.strains import Strains, point_group, representatives
from mlip.units import EV_PER_A3_IN_GPA, tensor_from_voigt

UNSTABLE = "unstable"
"""Reason for a tensor with an eigenvalue that is not positive: some strain does not raise the energy."""


@dataclass(frozen=True)
class ElasticResult:
    """Elastic tensor of one structure."""

    atoms: Atoms
    """The structure that was strained: relaxed, or a copy of the input. The tensor is in its axes, which are those of
    the input."""
    reason: str
    """Outcome. ok; unstable: the tensor has a nonpositive eigenvalue; not_converged: a relaxation did not converge, and
    the tensor is that of its last structure; collapsed, exploded, isolated, non_finite or error: no tensor."""
    tensor: Float[np.ndarray, "6 6"]
    """Elastic tensor, GPa, Voigt notation in ASE's order xx yy zz yz xz xy, engineering shear strains: tensor[3, 3] =
    C_44 = C_yzyz. NaN if unknown."""
    residual: float = float("nan")
    """Root mean square deviation of the stresses from straight lines, GPa."""
    asymmetry: float = float("nan")
    """Largest difference between the fitted tensor and its symmetrized form, GPa."""
    n_strains: int = 0
    """Number of strained structures that were computed."""
    message: str | None = None
    moduli: dict[str, float] = field(default_factory=dict)
    """bulk_voigt, bulk_reuss, bulk_hill, shear_voigt, shear_reuss, shear_hill and young, GPa; poisson and
    anisotropy."""

    @property
    def failed(self) -> bool:
        """Whether there is no tensor."""
        return not np.isfinite(self.tensor).all()

    @property
    def bulk_modulus(self) -> float:
        """Bulk modulus K (Voigt-Reuss-Hill average), GPa."""
        return self.moduli.get("bulk_hill", float("nan"))

    @property
    def shear_modulus(self) -> float:
        """Shear modulus G (Voigt-Reuss-Hill average), GPa."""
        return self.moduli.get("shear_hill", float("nan"))

    @property
    def stiffnesses(self) -> Float[np.ndarray, " 6"]:
        """Eigenvalues of the tensor as a map of strains, GPa, ascending; a crystal is stable if all are positive."""
        return np.full(6, np.nan) if self.failed else stiffnesses(self.tensor)

    def as_row(self) -> dict[str, Any]:
        """Values for a table; moduli in GPa."""
        return {
            "reason": self.reason,
            "bulk_modulus": self.bulk_modulus,
            "shear_modulus": self.shear_modulus,
            "young": self.moduli.get("young", float("nan")),
            "poisson": self.moduli.get("poisson", float("nan")),
            "softest": float(self.stiffnesses[0]),
            "residual": self.residual,
            "message": self.message,
        }

    def as_record(self) -> dict[str, Any]:
        """JSON-serializable dict; non-finite numbers are None."""
        known = {
            "reason": self.reason,
            "message": self.message,
            "tensor": self.tensor,
            "stiffnesses": self.stiffnesses,
            **self.moduli,
            "residual": self.residual,
            "asymmetry": self.asymmetry,
            "n_strains": self.n_strains,
        }
        return for_json(known) | structure_record(self.atoms)


def elastic_tensor(
    structures: Any, potential: Evaluator | str | PathLike | None = None, *, progress: bool = True, **options: Any
) -> Responses[ElasticResult]:
    """Elastic tensors of crystals, with all structures and strains in common batches.

    Each structure is relaxed and strained along one component at a time; the ions are relaxed in the strained cells.
    The tensor consists of the slopes of the stresses.

    Args:
        structures: one or an iterable of ASE Atoms, pymatgen Structures or structures of an OPTIMADE response, periodic
            in all three directions; not modified.
        potential: see `mlip.relax`; None is the default potential.
        progress: show a progress bar on stderr.
        options: fields of `ElasticOptions`: `normal_strains`, `shear_strains`, `relax_ions`, `symmetry`; `relax`,
            `fmax`, `steps`, `dtype`.

    Returns:
        A list with an `ElasticResult` for every structure, in the order given; `to_dataframe()` converts it to a table.

    Raises:
        MlipError: the options are invalid, an item is not a structure, or the potential does not exist.
    """
    checked, inputs = ElasticOptions.of(options), take_in(structures)
    with count_bar(progress) as bar:
        found = elastic_tensors(inputs, potential, checked)
        return Responses.in_order(bar.track(found, total=len(inputs), description="elastic tensors"))


def elastic_tensors(
    structures: Any, potential: Evaluator | str | PathLike | None, options: ElasticOptions
) -> Iterator[tuple[int, ElasticResult]]:
    """Yield (index, result) as results become available, in no particular order; otherwise like `elastic_tensor`."""
    opened = open_any(potential)
    strains = Strains.of(options.normal_strains, options.shear_strains)
    return stream(
        structures,
        opened,
        options,
        plan=lambda start: _Plan.of(start.atoms, strains, options.symmetry),
        respond=lambda planned: _tensors(planned, opened, options),
        meanwhile=not options.relax_ions,
    )


@dataclass(frozen=True)
class _Plan:
    """Strains of one structure."""

    strains: Strains
    group: Float[np.ndarray, "g 3 3"]
    chosen: Int[np.ndarray, " k"]
    """Index of the strain that is computed for each one."""
    operations: Float[np.ndarray, "k 3 3"]
    """Operation that maps the computed strain to each one."""
    computed: Int[np.ndarray, " c"]
    """Indices of the strains that are computed."""
    structures: list[Atoms]
    """The unstrained structure, then the strained ones."""

    @classmethod
    def of(cls, atoms: Atoms, strains: Strains, symmetry: bool) -> "_Plan":
        group = point_group(atoms) if symmetry else np.eye(3)[None]
        chosen, operations = representatives(strains.tensors, group)
        computed = np.unique(chosen)
        structures = [bare(atoms), *(strained(atoms, strains.stretches[k]) for k in computed)]
        return cls(strains, group, chosen, operations, computed, structures)

    def result(self, start: Minimum, points: list[RelaxResult], relax_ions: bool) -> ElasticResult:
        names = ["without a strain", *(f"strain {self.strains.name(k)}" for k in self.computed)]
        faults = [told_at(name, fault_of(point, relax_ions)) for name, point in zip(names, points, strict=True)]
        faults += [told_at(name, _stress_fault(point)) for name, point in zip(names, points, strict=True)]
        reason, message = worst([(start.reason, start.message), *faults])
        if any(point.failed or _stress_fault(point)[0] != OK for point in points):
            return _none(start.atoms, reason, message, len(self.computed))
        at_rest, *stresses = EV_PER_A3_IN_GPA * np.array([_stress(point) for point in points])
        raw, residual = self._fit(np.array(stresses), at_rest)
        tensor = symmetrized(raw, self.group)
        softest = stiffnesses(tensor)[0]
        if reason == OK and not softest > 0:
            reason, message = UNSTABLE, f"the softest strain has an eigenvalue of {softest:.3g} GPa"
        return ElasticResult(
            atoms=start.atoms,
            reason=reason,
            tensor=tensor,
            residual=residual,
            asymmetry=float(np.abs(raw - tensor).max()),
            n_strains=len(self.computed),
            message=message,
            moduli=moduli(tensor),
        )

    def _fit(
        self, stresses: Float[np.ndarray, "c 3 3"], at_rest: Float[np.ndarray, "3 3"]
    ) -> tuple[Float[np.ndarray, "6 6"], float]:
        """Tensor and residual, GPa, from the stresses of the strains that were computed."""
        turns = self.strains.frames_of_upper @ self.operations
        turned = turns @ stresses[np.searchsorted(self.computed, self.chosen)] @ np.swapaxes(turns, -1, -2)
        return fit_tensor(self.strains.patterns, self.strains.engineering, turned, at_rest)


def _tensors(
    planned: Sequence[tuple[Minimum, _Plan | None]], potential: Evaluator, options: ElasticOptions
) -> list[ElasticResult]:
    asked = [one for _, plan in planned if plan for one in plan.structures]
    points = iter(at_fixed_cells(asked, potential, options, options.relax_ions))
    return [
        plan.result(start, [next(points) for _ in plan.structures], options.relax_ions)
        if plan
        else _none(start.atoms, start.reason, start.message)
        for start, plan in planned
    ]


def _none(atoms: Atoms, reason: str, message: str | None, n_strains: int = 0) -> ElasticResult:
    return ElasticResult(atoms, reason, np.full((6, 6), np.nan), n_strains=n_strains, message=message)


def _stress(point: RelaxResult) -> Float[np.ndarray, "3 3"]:
    return tensor_from_voigt(point.atoms.calc.results["stress"])


def _stress_fault(point: RelaxResult) -> tuple[str, str | None]:
    if point.failed or "stress" in point.atoms.calc.results:
        return OK, None
    return ERROR, "the calculator gives no stress"
