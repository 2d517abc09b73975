"""Energies and stresses of crystals as they are, thousands at once: what a relaxation without steps gives, in half the
time."""

from collections.abc import Sequence

import jraph
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip.errors import MlipError
from mlip.graph.stacked_structures import Structures
from mlip.potential import Potential
from mlip.relaxation.guards import MIN_APPROACH, collapsed_volume, radii_of
from mlip.relaxation.queue import relax
from mlip.relaxation.result import Reason, RelaxResult

_CLEARLY = 1.01
"""Factor on the limits of the guards: closer to them the relaxation decides, in its own precision."""


def clamped(structures: Sequence[Atoms], potential: Potential, fmax: float, dtype: str) -> list[RelaxResult]:
    """Results of `relax` with a fixed cell and no steps.

    Structures that are clearly sound are predicted together. The others (no prediction, not finite, without forces,
    near a guard, open directions) go through `relax`, which names their reason.
    """
    structures = list(structures)
    graphs = potential.config.inputs.graphs(Structures.of(structures), np.float64)
    predicted = potential.try_predict(structures, dtype=dtype)
    results: list[RelaxResult | None] = [
        _result(atoms, found, fmax) if _is_clearly_sound(atoms, graph, found) else None
        for atoms, graph, found in zip(structures, graphs, predicted, strict=True)
    ]
    odd = [k for k, result in enumerate(results) if result is None]
    if odd:
        others = [structures[k] for k in odd]
        how = {"fmax": fmax, "steps": 0, "cell": False, "dtype": dtype, "progress": False}
        for k, result in zip(odd, relax(others, potential, **how), strict=True):
            results[k] = result
    return results


def _is_clearly_sound(atoms: Atoms, graph: jraph.GraphsTuple | MlipError, found: dict | MlipError) -> bool:
    if isinstance(graph, MlipError) or isinstance(found, MlipError) or not atoms.pbc.all() or atoms.constraints:
        return False
    numbers = np.concatenate([[found["energy"]], found["forces"].ravel(), found["stress"]])
    if not np.isfinite(numbers).all() or not numbers[1:].any() or not len(graph.senders):
        return False
    if abs(atoms.cell.volume) < _CLEARLY * collapsed_volume(atoms):
        return False
    ends = atoms.positions[graph.senders] + graph.edges["shifts"] @ atoms.cell.array
    squares = ((ends - atoms.positions[graph.receivers]) ** 2).sum(axis=1)
    radii = radii_of(atoms.numbers)
    limits = _CLEARLY * MIN_APPROACH * (radii[graph.senders] + radii[graph.receivers])
    return bool((squares > limits**2).all())


def _result(atoms: Atoms, found: dict, fmax: float) -> RelaxResult:
    largest = float(np.sqrt((found["forces"] ** 2).sum(axis=1).max()))
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **{key: found[key] for key in ("energy", "forces", "stress")})
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
