"""Slope of predicted against labeled forces: below 1 the potential is softer than its training data.

Universal potentials trained near minima underestimate the curvature of the energy, and thus all forces on displaced
atoms, by a common factor (B. Deng et al., npj Comput. Mater. 11, 9 (2025)). The slope of the least-squares line through
zero measures it, especially on rattled cells. With x the labels and y the predictions of all components it is s = sum x
y / sum x^2. Its 95 % interval is with respect to the choice of materials, because frames of one material are
correlated: with r_m = sum (x y - s x^2) over the frames of one of M materials, its variance is M / (M - 1) sum_m r_m^2
/ (sum x^2)^2.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mlip.evaluation.comparison import Comparison

_Z = 1.959964  # 97.5 % quantile of the normal distribution


class Slope(NamedTuple):
    """A slope and its 95 % interval; NaN if unknown."""

    value: float
    low: float
    high: float


@dataclass
class ForceSlope:
    """Sums for each frame, 24 bytes per frame."""

    materials: list[Int[np.ndarray, " k"]] = field(default_factory=list)
    """Hashes of the frames' material ids; one array for each added set of frames."""
    products: list[Float[np.ndarray, " k"]] = field(default_factory=list)
    """Sum over components of label times prediction, (eV/A)^2; one array for each added set of frames."""
    squares: list[Float[np.ndarray, " k"]] = field(default_factory=list)
    """Sum over components of the squared label, (eV/A)^2; one array for each added set of frames."""

    def add(self, frames: Comparison) -> None:
        """Add frames; components without a label are ignored."""
        labels, predicted = frames.forces
        self.materials.append(np.array([hash(one) for one in frames.material_id.tolist()], np.int64))
        self.products.append(_sums(labels * predicted, frames))
        self.squares.append(_sums(np.where(np.isnan(labels * predicted), np.nan, labels**2), frames))

    def merge(self, other: "ForceSlope") -> None:
        self.materials.extend(other.materials)
        self.products.extend(other.products)
        self.squares.extend(other.squares)

    @property
    def slope(self) -> Slope:
        squares = np.concatenate([np.zeros(0), *self.squares])
        if not squares.sum() > 0:
            return Slope(np.nan, np.nan, np.nan)
        products = np.concatenate(self.products)
        value = float(products.sum() / squares.sum())
        _, material = np.unique(np.concatenate(self.materials), return_inverse=True)
        residuals = np.bincount(material, products - value * squares)[np.bincount(material, squares) > 0]
        n = len(residuals)
        if n < 2:
            return Slope(value, np.nan, np.nan)
        half = _Z * float(np.sqrt(n / (n - 1) * np.square(residuals).sum()) / squares.sum())
        return Slope(value, value - half, value + half)


def _sums(values: Float[np.ndarray, "n 3"], frames: Comparison) -> Float[np.ndarray, " k"]:
    return np.bincount(frames.frame_of_atom, np.nansum(values, axis=1), minlength=frames.n_frames)
