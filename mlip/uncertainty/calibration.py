"""Factors that make a network's own spread a standard deviation of its error, and when a prediction is to be doubted.

The spread of an ensemble, or the variance by the last layer (LLPR: Bigi, Chong, Ceriotti and Grasselli, "A prediction
rigidity formalism for low-cost uncertainties in trained neural networks", 2024),

    s^2 = f^T (F^T F + r I)^-1 f,

is right up to a factor. f is the gradient of the energy per atom with respect to the parameters of the last layer, the
mean of its features over the atoms; the rows of F are those of training structures. The factor is found on held-out
frames, one for crystals, layers and chains each: with it, 90 % of their errors are below 1.645 standard deviations. It
is not the root mean square of error over spread, which few large errors decide, and which covers too much then.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field

from mlip.energy_gradient import Spread

COVERAGE = 0.9
"""Share of the held-out errors within an interval."""
WIDTH = 1.6448536269514722
"""Standard deviations from the middle of that interval to its end, of a normal distribution."""
ANY = "any"
"""Factor of structures of a dimensionality that had too few frames of its own."""


class Calibration(BaseModel):
    """Numbers found on held-out frames; JSON in the file's header."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factors: dict[str, float]
    """By dimensionality, "3", "2", "1", "0", or "any": standard deviation of the error over the spread."""
    threshold: float = Field(gt=0)
    """eV/atom: a prediction whose 90 % interval reaches farther than this to either side is not to be trusted."""
    frames: dict[str, int]
    """Held-out frames behind each factor."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """Stores, splits and functional of the frames."""

    def factor(self, dimensionality: int) -> float:
        return self.factors.get(str(dimensionality), self.factors[ANY])


@dataclass(frozen=True, eq=False)
class LastLayer:
    """Covariance of the last layer's features over training frames."""

    covariance: Float[np.ndarray, "d d"]
    """F^T F, (eV/atom)^2, a row of F for each frame; float64."""
    regularizer: float
    """r, in the same unit."""

    @cached_property
    def _root(self) -> Float[np.ndarray, "d d"]:
        """W with W W^T = (F^T F + r I)^-1."""
        values, vectors = np.linalg.eigh(self.covariance)
        return vectors / np.sqrt(np.maximum(values, 0) + self.regularizer)

    def std(self, features: Float[np.ndarray, "... d"]) -> Float[np.ndarray, "..."]:
        """s of energies per atom, before calibration; no unit."""
        return np.linalg.norm(np.asarray(features, np.float64) @ self._root, axis=-1)


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """How a potential tells its uncertainty; its part of the potential's file."""

    kind: Literal["ensemble", "last layer"]
    calibration: Calibration | None = None
    """None: an ensemble whose spread is told as it is, and no flag."""
    last_layer: LastLayer | None = None

    @property
    def is_bare(self) -> bool:
        """An ensemble's that was not calibrated: its parameters tell all of it."""
        return self.calibration is None and self.last_layer is None

    def energy_std(self, spread: Spread, place: int, n_atoms: int, dimensionality: int) -> float:
        """Standard deviation of the energy of a structure of a batch, eV.

        Args:
            place: the structure's place in the batch.
        """
        return self.factor(dimensionality) * self.bare_energy_std(spread, place, n_atoms)

    def factor(self, dimensionality: int) -> float:
        """Standard deviation over spread; 1 without calibration."""
        return 1.0 if self.calibration is None else self.calibration.factor(dimensionality)

    def bare_energy_std(self, spread: Spread, place: int, n_atoms: int) -> float:
        """The spread of a structure's energy before calibration: of an ensemble in eV, by the last layer per atom
        without a unit, times the number of atoms."""
        if self.last_layer is None:
            return float(spread.energy[place])
        return n_atoms * float(self.last_layer.std(spread.features[place]))

    def is_doubtful(self, energy_std: float, n_atoms: int) -> bool | None:
        """Whether the prediction is not to be trusted: half the 90 % interval of its energy per atom is wider than the
        threshold. None without calibration."""
        if self.calibration is None:
            return None
        return not WIDTH * energy_std / max(n_atoms, 1) <= self.calibration.threshold

    def header(self) -> dict[str, Any]:
        """The JSON-able part."""
        calibration = None if self.calibration is None else self.calibration.model_dump()
        return {
            "kind": self.kind,
            "calibration": calibration,
            "regularizer": self.last_layer and self.last_layer.regularizer,
        }

    def tensors(self) -> dict[str, np.ndarray]:
        """The part that is no JSON."""
        return {} if self.last_layer is None else {"covariance": self.last_layer.covariance}

    @classmethod
    def read(cls, header: dict[str, Any], tensors: dict[str, np.ndarray]) -> "Uncertainty":
        """
        Raises:
            KeyError, ValidationError: a damaged header.
        """
        calibration = header["calibration"]
        return cls(
            header["kind"],
            calibration and Calibration.model_validate(calibration),
            LastLayer(tensors["covariance"], header["regularizer"]) if tensors else None,
        )
