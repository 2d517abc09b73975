"""Adds the potential's uncertainty to results of relaxations."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mlip.potential import Potential
from mlip.relaxation.result import RelaxResult
from mlip.relaxation.structure import Relaxing
from mlip.uncertainty.relaxed import certainties


def with_certainty(
    ended: Sequence[Relaxing], results: Sequence[RelaxResult], potential: Potential, dtype: str
) -> list[RelaxResult]:
    """Results with standard deviations of energy and volume, except for relaxations that failed."""
    results = list(results)
    sound = [k for k, result in enumerate(results) if not result.failed]
    strains = [_dilation(ended[k]) for k in sound]
    found = certainties(potential, [results[k].atoms for k in sound], strains, dtype)
    for k, certainty in zip(sound, found, strict=True):
        if certainty is not None and math.isfinite(certainty.energy_std):
            volume_std = certainty.relative_volume_std
            results[k] = replace(
                results[k],
                energy_std=certainty.energy_std,
                relative_volume_std=volume_std if math.isfinite(volume_std) else None,
                do_not_trust=certainty.do_not_trust,
            )
    return results


def _dilation(relaxing: Relaxing) -> np.ndarray:
    """(3, 3) part of the unit strain within which the cell relaxes, in the axes of the input."""
    strain = (relaxing.strain_freedom @ np.eye(3).ravel()).reshape(3, 3)
    return relaxing.frame @ strain @ relaxing.frame.T
