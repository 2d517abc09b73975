"""The verdict of the paper's group: rules by which their relaxation code (repository hyllios/utils,
benchmark_ph/umlip.py and benchmark_pressure/rerun_json.py, read in 2026) rejects a structure.

The paper's tables say "failed" without a definition. In that code a relaxation has failed

- on an exception, or a force above 10,000 eV/A;
- when a force row, cell rows included, is not below 0.04 eV/A after at most 15 rounds of 500 steps of FIRE, each of
  which aims at half of that;
- when a periodic cell vector is longer than 30 A;
- when a layer is thicker than 7.5 A, or a chain wider than 12.5 A (1.5 times as much between rounds);
- when bonds, shorter than 1.5 times the sum of the covalent radii, do not connect the supercell (2x2x2 for crystals,
  2x2x1 for layers, 1x1x2 for chains). Their scripts switch this rule off in places, so it is counted separately here: a
  molecular or van der Waals crystal breaks it from the start.

Before each round and at the end the vacuum of a layer or chain is reset to 15 A (`mlip.benchmark.verdicts.vacuum`).
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
"""Force below which a relaxation has converged, eV/A."""
STEPS = 500
"""Maximum number of steps in a round."""
ROUNDS = 15
ABSURD = 1e4
"""Force above which a relaxation has failed, eV/A."""
LONGEST = 30.0
"""Maximum length of a periodic cell vector, A."""
THICKEST = {3: np.inf, 2: 7.5, 1: 12.5}
"""Maximum extent across the vacuum by dimensionality, A."""
BETWEEN_ROUNDS = 1.5
"""Factor on `THICKEST` between rounds."""
BOND = 1.5
"""Maximum length of a bond, as a multiple of the sum of the covalent radii."""
SUPERCELL = {3: (2, 2, 2), 2: (2, 2, 1), 1: (1, 1, 2)}
_PERIODIC = {3: [0, 1, 2], 2: [0, 1], 1: [2]}
"""Periodic cell vectors by dimensionality, in the setting of `vacuum`; their lengths are limited."""
STRESS_FACTORS = {"m3gnet": 0.01 * EV_PER_A3_IN_GPA}
"""Factor on the stress, by model: their calculator of M3GNet multiplies by 0.01 instead of 1/160.2 to convert GPa to
eV/A^3, so that cells feel 1.602 times the stress."""

LONG_CELL, THICK, APART = "cell vector too long", "too thick", "not in one piece"
ABSURD_FORCES, UNCONVERGED = "absurd forces", "not converged"


@dataclass(frozen=True)
class Found:
    """The rules that a structure breaks, and the structure with its vacuum reset."""

    atoms: Atoms
    broken: tuple[str, ...]
    """Names of the broken rules, in the order in which the group's code checks them."""


def stress_factor(potential: Potential | ForeignPotential) -> float:
    """Factor on the stress in the group's relaxations with such a potential; 1 if none is known."""
    return STRESS_FACTORS.get(potential.config.model, 1.0) if isinstance(potential, Potential) else 1.0


def examine(atoms: Atoms, dimensionality: int, slack: float = 1.0) -> Found:
    """Check every rule on the geometry of a structure.

    Args:
        atoms: in the setting of `vacuum`; not modified.
        slack: factor on the maximum extent; `BETWEEN_ROUNDS` before a round.
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
    """Whether a periodic cell vector is longer than `LONGEST`."""
    return bool((np.linalg.norm(atoms.cell.array[_PERIODIC[dimensionality]], axis=1) > LONGEST).any())


def is_in_one_piece(atoms: Atoms, dimensionality: int) -> bool:
    """Whether bonds connect the supercell. A cell too dense for a neighbor list counts as connected."""
    try:
        return n_pieces(atoms, SUPERCELL[dimensionality], BOND) == 1
    except MlipError:
        return True


def of_forces(fmax: float, target: float) -> tuple[str, ...]:
    """Rules that the final forces break.

    Args:
        fmax: norm of the largest force row, eV/A.
        target: force below which the relaxation has converged, eV/A: `FMAX`, or a user's value.
    """
    if not fmax <= ABSURD:
        return (ABSURD_FORCES,)
    return () if fmax < target else (UNCONVERGED,)
