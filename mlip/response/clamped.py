"""Energies and stresses of crystals as they are, thousands at once: what a relaxation without steps gives, in half the
time."""

from collections.abc import Sequence

import jraph
import numpy as np
from ase import Atoms
from jax.errors import JaxRuntimeError

from mlip.errors import MlipError
from mlip.graph.radius_graph import RadiusGraph
from mlip.graph.stacked_structures import Structures
from mlip.potential import Potential
from mlip.relaxation.endings import attach_results, identity
from mlip.relaxation.guards import MIN_APPROACH, collapsed_volume, radii_of
from mlip.relaxation.queue import relax
from mlip.relaxation.result import Reason, RelaxResult

_CLEARLY = 1.01
"""Factor on the limits of the guards: closer to them the relaxation decides, in its own precision."""


def clamped(structures: Sequence[Atoms], potential: Potential, fmax: float, dtype: str) -> list[RelaxResult]:
    """Energies, forces, stresses and reasons of `relax` with a fixed cell and no steps, without uncertainties.

    Structures that are clearly sound are predicted together. The others (collapsed, no prediction, not finite, without
    forces, near a guard, open directions, too large for the memory) go through `relax`, which names their reason.
    """
    structures = list(structures)
    results: list[RelaxResult | None] = [None] * len(structures)
    ordinary = [k for k, atoms in enumerate(structures) if _is_ordinary(atoms)]
    chosen, told = [structures[k] for k in ordinary], identity(potential)
    for k, close, found in zip(ordinary, _close_pairs(chosen), _predicted(chosen, potential, dtype), strict=True):
        if _is_clearly_sound(structures[k], close, found):
            results[k] = _result(structures[k], found, fmax, told)
    odd = [k for k, result in enumerate(results) if result is None]
    if odd:
        others = [structures[k] for k in odd]
        how = {"fmax": fmax, "steps": 0, "cell": False, "dtype": dtype, "progress": False}
        for k, result in zip(odd, relax(others, potential, **how), strict=True):
            results[k] = result
    return results


def _close_pairs(structures: list[Atoms]) -> list[jraph.GraphsTuple | MlipError]:
    """Pairs of each structure within the largest distance at which any two elements in it could have collapsed."""
    if not structures:
        return []
    farthest = max(float(radii_of(atoms.numbers).max()) for atoms in structures)
    return RadiusGraph(2 * _CLEARLY * MIN_APPROACH * farthest).graphs(Structures.of(structures), np.float64)


def _predicted(structures: list[Atoms], potential: Potential, dtype: str) -> list[dict | MlipError]:
    try:
        return potential.try_predict(structures, dtype=dtype)
    except JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return [MlipError("does not fit into the memory in a batch of predictions")] * len(structures)


def _is_ordinary(atoms: Atoms) -> bool:
    """Whether a neighbor list and a prediction can be made without harm: a periodic cell that has not collapsed."""
    numbers = atoms.numbers
    if not len(atoms) or not atoms.pbc.all() or atoms.constraints or not ((numbers > 0) & (numbers < 119)).all():
        return False
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return False
    return abs(atoms.cell.volume) > _CLEARLY * collapsed_volume(atoms)


def _is_clearly_sound(atoms: Atoms, close: jraph.GraphsTuple | MlipError, found: dict | MlipError) -> bool:
    if isinstance(close, MlipError) or isinstance(found, MlipError):
        return False
    numbers = np.concatenate([[found["energy"]], found["forces"].ravel(), found["stress"]])
    if not np.isfinite(numbers).all() or not numbers[1:].any():
        return False
    ends = atoms.positions[close.senders] + close.edges["shifts"] @ atoms.cell.array
    squares = ((ends - atoms.positions[close.receivers]) ** 2).sum(axis=1)
    radii = radii_of(atoms.numbers)
    limits = _CLEARLY * MIN_APPROACH * (radii[close.senders] + radii[close.receivers])
    return bool((squares > limits**2).all())


def _result(atoms: Atoms, found: dict, fmax: float, told: dict[str, str]) -> RelaxResult:
    largest = float(np.sqrt((found["forces"] ** 2).sum(axis=1).max()))
    copy = atoms.copy()
    attach_results(copy, {key: found[key] for key in ("energy", "forces", "stress")}, told)
    reason = Reason.CONVERGED if largest < fmax else Reason.MAX_STEPS
    return RelaxResult(
        atoms=copy,
        energy=found["energy"],
        converged=reason is Reason.CONVERGED,
        reason=reason.name.lower(),
        n_steps=0,
        fmax=largest,
        initial_energy=found["energy"],
        max_stress=float(np.abs(found["stress"]).max()),
    )
