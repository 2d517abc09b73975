"""The verdict of the paper's group: rules by which their relaxation code (repository hyllios/utils,
benchmark_ph/umlip.py and benchmark_pressure/rerun_json.py, read in 2026) gives no structure.

The paper's tables say "failed" and do not say when. In that code a relaxation has failed

- on an exception, or a force above 10,000 eV/A;
- when a force row, cell rows included, is not below 0.04 eV/A after at most 15 rounds of 500 steps of FIRE, each of
  which aims at half of that;
- when a periodic cell vector is longer than 30 A;
- when a layer is thicker than 7.5 A, a chain than 12.5 A across (half as much again between rounds);
- when bonds, shorter than 1.5 times the sum of the covalent radii, do not join the supercell (2x2x2 of crystals, 2x2x1
  of layers, twice of chains) in one piece. Their scripts switch this rule off in places, so that it is told apart here:
  a molecular or a van der Waals crystal breaks it from the start.

Before each round and at the end a layer or chain gets its 15 A of vacuum anew (`mlip.benchmark.verdicts.vacuum`).
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlip.benchmark.verdicts.pieces import n_pieces
from mlip.benchmark.verdicts.vacuum import extents, gathered, with_vacuum
from mlip.errors import MlipError
from mlip.foreign import ForeignPotential
from mlip.potential import Potential
from mlip.units import EV_PER_A3_IN_GPA

FMAX = 0.04
"""eV/A."""
STEPS = 500
"""In a round."""
ROUNDS = 15
ABSURD = 1e4
"""eV/A."""
LONGEST = 30.0
"""A."""
THICKEST = {3: np.inf, 2: 7.5, 1: 12.5}
"""A, across."""
BETWEEN_ROUNDS = 1.5
"""Times the thickness allowed at the end."""
BOND = 1.5
"""Times the sum of the covalent radii."""
SUPERCELL = {3: (2, 2, 2), 2: (2, 2, 1), 1: (1, 1, 2)}
_PERIODIC = {3: [0, 1, 2], 2: [0, 1], 1: [2]}
"""Cell vectors whose length counts; of layers and chains in the setting of `vacuum`."""
STRESS_FACTORS = {"m3gnet": 0.01 * EV_PER_A3_IN_GPA}
"""By model: their calculator of M3GNet takes 0.01 for 1/160.2 eV/A^3, so that cells feel 1.602 times the stress."""

LONG_CELL, THICK, APART = "cell vector too long", "too thick", "not in one piece"
ABSURD_FORCES, UNCONVERGED = "absurd forces", "not converged"


@dataclass(frozen=True)
class Found:
    """The judgement of the rules on a structure, and the structure in its new vacuum."""

    atoms: Atoms
    broken: tuple[str, ...]
    """Names of the rules that it breaks, in the order in which the code asks."""


def stress_factor(potential: Potential | ForeignPotential) -> float:
    """The factor on the stress that their relaxations with such a potential have; 1 if none is known."""
    return STRESS_FACTORS.get(potential.config.model, 1.0) if isinstance(potential, Potential) else 1.0


def examine(atoms: Atoms, dimensionality: int, slack: float = 1.0) -> Found:
    """Ask every rule on the geometry of a structure.

    Args:
        atoms: in the setting of `vacuum`; not modified.
        slack: times the thickness allowed; `BETWEEN_ROUNDS` before a round.
    """
    whole = gathered(atoms, dimensionality)
    rules = {
        LONG_CELL: is_too_long(whole, dimensionality),
        THICK: bool((extents(whole, dimensionality) > slack * THICKEST[dimensionality]).any()),
    }
    renewed = with_vacuum(whole, dimensionality)
    rules[APART] = not is_in_one_piece(renewed, dimensionality)
    return Found(renewed, tuple(rule for rule, is_broken in rules.items() if is_broken))


def is_too_long(atoms: Atoms, dimensionality: int) -> bool:
    """Whether a periodic cell vector is."""
    return bool((np.linalg.norm(atoms.cell.array[_PERIODIC[dimensionality]], axis=1) > LONGEST).any())


def is_in_one_piece(atoms: Atoms, dimensionality: int) -> bool:
    """Whether bonds join the supercell. A cell so dense that it has no list of neighbors is in one."""
    try:
        return n_pieces(atoms, SUPERCELL[dimensionality], BOND) == 1
    except MlipError:
        return True


def of_forces(fmax: float, target: float) -> tuple[str, ...]:
    """Rules on the longest row of forces at the end, eV/A, that it breaks.

    Args:
        target: `FMAX`, or what a user takes for it.
    """
    if not fmax <= ABSURD:
        return (ABSURD_FORCES,)
    return () if fmax < target else (UNCONVERGED,)
