"""Universal repulsion of bare nuclei at short range (Ziegler, Biersack and Littmark, 1985), as in MACE.

It vanishes beyond the sum of the two elements' covalent radii, so that it does not affect bonded atoms.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mlip.graph.ends import any_rows, ascending_rows
from mlip.models.mace_radial import covalent_radius, polynomial_cutoff

COULOMB = 14.3996  # e^2 / (4 pi eps0), eV A
_SCREENING = ((0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4028), (0.02817, 0.2016))
_LENGTH, _EXPONENT = 0.4543 * 0.529, 0.3  # screening length, A, and exponent; the published fit has 0.8854 and 0.23


def zbl_energies(
    distances: Float[Array, " e"],
    species: Int[Array, " n"],
    senders: Int[Array, " e"],
    receivers: Int[Array, " e"],
    power: int,
) -> Float[Array, " n"]:
    """Repulsion energy per atom, eV; each of the two edges of a pair adds half the pair's energy to its receiver.

    Args:
        species: atomic numbers; 0 for padding, which has no charge.
        receivers: ascending.
        power: power of the polynomial cutoff.
    """
    charges, radii = species.astype(distances.dtype), covalent_radius(distances.dtype)[species]
    scales = charges**_EXPONENT / _LENGTH
    x = distances * (any_rows(scales, senders) + ascending_rows(scales, receivers))
    screening = sum(weight * jnp.exp(-rate * x) for weight, rate in _SCREENING)
    pairs = COULOMB * any_rows(charges, senders) * ascending_rows(charges, receivers) / distances * screening
    pairs *= polynomial_cutoff(distances, any_rows(radii, senders) + ascending_rows(radii, receivers), power)
    return 0.5 * jax.ops.segment_sum(pairs, receivers, len(species), indices_are_sorted=True)
