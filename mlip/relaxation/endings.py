"""Results of structures in relaxation: the current structure, the final result, or the reason why it could not
continue."""

import hashlib
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip.errors import MlipError
from mlip.foreign import ForeignPotential
from mlip.relaxation.batch import State
from mlip.relaxation.guards import closest_pair, filling
from mlip.relaxation.result import Reason, RelaxResult
from mlip.relaxation.structure import Evaluator, Relaxing
from mlip.units import tensor_from_voigt, voigt_from_tensor


def identity(potential: Evaluator) -> dict[str, str]:
    """Identification of a potential: model, functional and hash of the parameters, or of a calculator."""
    if isinstance(potential, ForeignPotential):
        return potential.identity | {"functional": potential.functional}
    content = hashlib.sha256()
    for leaf in jax.tree.leaves(potential.params):
        content.update(np.ascontiguousarray(leaf).tobytes())
    model, functional = potential.config.model, potential.metadata.functional
    return {"model": model, "functional": functional, "parameters_sha256": content.hexdigest()}


def finish(relaxing: Relaxing, potential: Evaluator, told: dict[str, str]) -> RelaxResult:
    """Result of a relaxation that has ended.

    Args:
        told: `identity` of the potential.
    """
    state, reason = relaxing.state, relaxing.reason
    reference = _reference_energy(relaxing, potential)
    return RelaxResult(
        atoms=structure_now(relaxing, potential, None if reason is Reason.NON_FINITE else told),
        energy=float(state.energy[0]) + reference,
        converged=reason is Reason.CONVERGED,
        reason=reason.name.lower(),
        n_steps=int(state.fire.n_steps[0]),
        fmax=float(state.fmax[0]),
        initial_energy=float(state.initial_energy[0]) + reference,
        message=_explanation(relaxing),
        max_stress=_residual_stress(relaxing),
        trajectory=relaxing.trajectory,
    )


def record_step(relaxing: Relaxing, evaluated: State, potential: Evaluator, told: dict[str, str]) -> None:
    """Append the structure that the device has just evaluated to the trajectory; used with one step per call.

    Args:
        evaluated: state before that call, which has the positions; the state after it has energy and forces.
    """
    before, after = evaluated.fire.n_steps[0], relaxing.state.fire.n_steps[0]
    if after == before and relaxing.reason is Reason.RUNNING:
        return  # waiting for a neighbor list
    here = relaxing.state._replace(
        displacements=evaluated.displacements,
        log_deformation=evaluated.log_deformation,
        deformation=evaluated.deformation,
    )
    relaxing.trajectory.append(structure_now(replace(relaxing, state=here), potential, told))


def _reference_energy(relaxing: Relaxing, potential: Evaluator) -> float:
    return float(potential.reference_energies_by_z[relaxing.atoms.numbers].sum())


def structure_now(relaxing: Relaxing, potential: Evaluator, told: dict[str, str] | None) -> Atoms:
    """Current structure in the axes of the input, with energy, forces, stress and the potential's identity for ASE's
    databases; without these if `told` is None."""
    state = relaxing.state
    positions, cell = relaxing.placed()
    to_input = relaxing.frame.T
    atoms = relaxing.atoms.copy()
    cell = np.where(atoms.cell.array.any(axis=1)[:, None], cell @ to_input, 0.0)
    atoms.set_cell(cell, apply_constraint=False)
    atoms.set_positions(positions @ to_input, apply_constraint=False)
    if told is None:
        return atoms
    results = {
        "energy": float(state.energy[0]) + _reference_energy(relaxing, potential),
        "forces": state.forces.astype(np.float64) @ to_input,
    }
    if atoms.cell.rank == 3 and not np.isnan(state.stress).any():  # NaN: the calculator gives no stress
        results["stress"] = voigt_from_tensor(relaxing.frame @ tensor_from_voigt(state.stress[0]) @ to_input)
    attach_results(atoms, results, told)
    return atoms


def attach_results(atoms: Atoms, results: dict[str, Any], told: dict[str, str]) -> None:
    """Give a structure a calculator with its results, and with the potential's `identity` for ASE's databases."""
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.calc.name = "mlip"
    atoms.calc.parameters.update(potential=told)


def _how_collapsed(relaxing: Relaxing) -> str:
    positions, cell = relaxing.deformed(relaxing.start - relaxing.offset)
    seen = [closest_pair(relaxing.atoms.numbers, positions, cell, relaxing.graph)]
    if abs(np.linalg.det(cell)) < relaxing.collapsed_volume:
        seen.append(f"spheres of these radii fill the cell {filling(relaxing.atoms.numbers, cell):.1f} times")
    if not (relaxing.state.forces.any() or relaxing.state.stress.any()):
        seen.append("the potential saturates, all forces and stresses are 0")
    return "; ".join(seen)


def _residual_stress(relaxing: Relaxing) -> float:
    """Largest component of stress plus pressure, for the strains that relax, or for all if none does, eV/A^3; NaN
    without a volume or a known stress."""
    if relaxing.atoms.cell.rank < 3 or relaxing.reason is Reason.NON_FINITE:
        return float("nan")
    residual = (tensor_from_voigt(relaxing.state.stress[0]) + relaxing.pressure * np.eye(3)).ravel()
    relaxes = relaxing.strain_freedom.any()
    return float(np.abs(relaxing.strain_freedom @ residual if relaxes else residual).max())


def _explanation(relaxing: Relaxing) -> str | None:
    """Message about the guard that ended the relaxation; None otherwise."""
    at_start = relaxing.state.fire.n_steps[0] == 0
    if relaxing.reason is Reason.COLLAPSED:
        return ("starts collapsed: " if at_start else "") + _how_collapsed(relaxing)
    if relaxing.reason is Reason.ISOLATED:
        if not relaxing.fixed.had_neighbors.any():
            return "no atom has a neighbor within the cutoff"
        return "no atom feels a force from so far" if at_start else "an atom has lost its neighbors"
    return None


def give_up(atoms: Atoms, error: MlipError, relaxing: Relaxing | None = None) -> RelaxResult:
    """Result of a structure whose relaxation could not start or continue."""
    nan = float("nan")
    n_steps = 0 if relaxing is None else int(relaxing.state.fire.n_steps[0])
    trajectory = None if relaxing is None else relaxing.trajectory
    return RelaxResult(
        atoms.copy(), nan, False, Reason.ERROR.name.lower(), n_steps, nan, nan, str(error), trajectory=trajectory
    )
