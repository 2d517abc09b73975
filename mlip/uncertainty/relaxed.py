"""Uncertainty of relaxed structures: of their energy and, to first order, of their volume.

At a minimum with respect to a strain t D with curvature E'' = d2E/dt2, a change dg of the slope moves the minimum by
-dg / E''. The members of an ensemble, or last layers as likely as the trained one, have different slopes at the minimum
of their mean. The logarithm of the volume therefore has the standard deviation tr(D) sigma(E') / E''. The atoms follow
the cell here; if they could relax, the crystal would be softer and its volume less certain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from jaxtyping import Float

from mlip.errors import MlipError
from mlip.graph.stacked_structures import Structures
from mlip.potential import Potential
from mlip.uncertainty.dimensionality import dimensionality_of
from mlip.uncertainty.spread import Response, evaluate_response


@dataclass(frozen=True)
class Certainty:
    """Uncertainty of a relaxed structure."""

    energy_std: float
    """Standard deviation of the total energy, eV."""
    relative_volume_std: float
    """Standard deviation of the volume (a layer's area, a chain's length) relative to it; NaN if the cell did not
    relax, or is not at a minimum."""
    do_not_trust: bool | None
    """Same flag as in `Potential.predict`; None without calibration."""


def certainties(
    potential: Potential, structures: Sequence[Atoms], strains: Sequence[Float[np.ndarray, "3 3"]], dtype: str
) -> list[Certainty | None]:
    """Uncertainty of each structure; None if it has no graph.

    Args:
        potential: a potential with an `uncertainty`.
        strains: D of each structure, symmetric: the part of the unit strain within which its cell relaxed; zero if
            fixed.
    """
    found: list[Certainty | None] = [None] * len(structures)
    graphs, places = [], []
    made = potential.config.inputs.graphs(Structures.of(structures), np.dtype(dtype).type)
    for k, graph in enumerate(made):
        if not isinstance(graph, MlipError):
            strain = np.asarray(strains[k], np.dtype(dtype))[None]
            graphs.append(graph._replace(globals=graph.globals | {"strain": strain}))
            places.append(k)
    for members, response in potential.outputs(graphs, dtype, evaluation=evaluate_response):
        for place, member in enumerate(members):
            k = places[member]
            found[k] = _certainty(potential, structures[k], strains[k], response, place)
    return found


def _certainty(potential: Potential, atoms: Atoms, strain: np.ndarray, response: Response, place: int) -> Certainty:
    uncertainty, n_atoms, dimensionality = potential.uncertainty, len(atoms), dimensionality_of(atoms)
    energy_std = uncertainty.energy_std(response.spread, place, n_atoms, dimensionality)
    if uncertainty.last_layer is None:
        slope_std = float(response.slope_std[place])
    else:
        slope_std = float(uncertainty.last_layer.std(response.feature_slopes[place]))
    slope_std *= uncertainty.factor(dimensionality)
    curvature, dilation = float(response.curvature[place]), float(np.trace(strain))
    is_minimum = curvature > 0 and dilation > 0
    return Certainty(
        energy_std,
        dilation * slope_std / curvature if is_minimum else float("nan"),
        uncertainty.is_doubtful(energy_std, n_atoms),
    )
