"""Third-order Birch-Murnaghan equation of state, fitted as a cubic polynomial in x = V^(-2/3).

F. Birch, Phys. Rev. 71, 809 (1947); the fit follows K. Lejaeghere et al., Crit. Rev. Solid State 39, 1 (2014). Since
the fit is linear, it has a unique solution without a starting guess.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.polynomial import Polynomial

from mlip.units import EV_PER_A3_IN_GPA


@dataclass(frozen=True)
class BirchMurnaghan:
    """Fitted equation of state, for the same amount of matter as the points (e.g. per cell)."""

    polynomial: Polynomial
    """Energy (eV) as a function of x (A^-2)."""
    volume: float
    """Volume V0 at the minimum, A^3; NaN if the curve has no minimum."""
    energy: float
    """Energy E0 at the minimum, eV."""
    bulk_modulus: float
    """Bulk modulus B0 = V d2E/dV2 at the minimum, GPa."""
    derivative: float
    """Pressure derivative B0' = dB/dp at the minimum."""
    residual: float
    """Root mean square deviation of the points, eV."""

    def energies(self, volumes: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        """Energies on the curve, eV."""
        return self.polynomial(np.asarray(volumes) ** (-2 / 3))


def fit_birch_murnaghan(volumes: Float[np.ndarray, " k"], energies: Float[np.ndarray, " k"]) -> BirchMurnaghan:
    """Least-squares fit to four or more points.

    Args:
        volumes: A^3.
        energies: eV.
    """
    x = np.asarray(volumes, dtype=float) ** (-2 / 3)
    energies = np.asarray(energies, dtype=float)
    curve = Polynomial.fit(x, energies, 3)  # rescales x to -1..1, which is well conditioned
    residual = float(np.sqrt(np.mean((curve(x) - energies) ** 2)))
    slope, bend, third = (curve.deriv(order) for order in (1, 2, 3))
    middle = np.median(x)
    minima = [root.real for root in slope.roots() if abs(root.imag) < 1e-12 and root.real > 0 and bend(root.real) > 0]
    if not minima:
        nan = float("nan")
        return BirchMurnaghan(curve, nan, nan, nan, nan, residual)
    least = min(minima, key=lambda root: abs(root - middle))
    second_by_volume = 4 / 9 * least**5 * bend(least)
    third_by_volume = -20 / 9 * least**6.5 * bend(least) - 8 / 27 * least**7.5 * third(least)
    volume = least**-1.5
    return BirchMurnaghan(
        polynomial=curve,
        volume=float(volume),
        energy=float(curve(least)),
        bulk_modulus=float(volume * second_by_volume * EV_PER_A3_IN_GPA),
        derivative=float(-1 - volume * third_by_volume / second_by_volume),
        residual=residual,
    )
