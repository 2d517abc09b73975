"""Calibration of a network's spread to the standard deviation of its error, and the criterion for doubtful predictions.

The spread of an ensemble, or the variance by the last layer (LLPR: Bigi, Chong, Ceriotti and Grasselli, "A prediction
rigidity formalism for low-cost uncertainties in trained neural networks", 2024),

    s^2 = f^T (F^T F + r I)^-1 f,

is correct up to a factor. f is the gradient of the energy per atom with respect to the parameters of the last layer,
i.e. the mean of its features over the atoms; the rows of F are the f of training structures. Held-out frames determine
the factor, separately for crystals, layers and chains, such that 90 % of their errors are below 1.645 standard
deviations. The root mean square of error over spread is not used, because a few large errors dominate it and make the
intervals too wide.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field

from mlip.energy_gradient import Spread

COVERAGE = 0.9
"""Fraction of the held-out errors within an interval."""
WIDTH = 1.6448536269514722
"""Half width of that interval in standard deviations, for a normal distribution."""
ANY = "any"
"""Key of the factor for dimensionalities with too few held-out frames."""


class Calibration(BaseModel):
    """Calibration from held-out frames; JSON in the file's header."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factors: dict[str, float]
    """Ratio of the standard deviation of the error to the spread, by dimensionality: "3", "2", "1", "0", or "any"."""
    threshold: float = Field(gt=0)
    """Half width of the 90 % interval above which a prediction is not to be trusted, eV/atom."""
    frames: dict[str, int]
    """Number of held-out frames behind each factor."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """Stores, splits and functional of the held-out frames."""

    def factor(self, dimensionality: int) -> float:
        return self.factors.get(str(dimensionality), self.factors[ANY])


@dataclass(frozen=True, eq=False)
class LastLayer:
    """Covariance of the last layer's features over training frames."""

    covariance: Float[np.ndarray, "d d"]
    """F^T F, (eV/atom)^2, with a row of F for each frame; float64."""
    regularizer: float
    """Regularizer r, in the same unit."""

    @cached_property
    def _root(self) -> Float[np.ndarray, "d d"]:
        """Matrix W with W W^T = (F^T F + r I)^-1."""
        values, vectors = np.linalg.eigh(self.covariance)
        return vectors / np.sqrt(np.maximum(values, 0) + self.regularizer)

    def std(self, features: Float[np.ndarray, "... d"]) -> Float[np.ndarray, "..."]:
        """Spread s of energies per atom before calibration, dimensionless."""
        return np.linalg.norm(np.asarray(features, np.float64) @ self._root, axis=-1)


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Uncertainty of a potential, as stored in its file."""

    kind: Literal["ensemble", "last layer"]
    calibration: Calibration | None = None
    """Calibration; None for an ensemble whose spread is reported unchanged and without a flag."""
    last_layer: LastLayer | None = None

    @property
    def is_bare(self) -> bool:
        """Whether this is an uncalibrated ensemble, which needs no data besides the members' parameters."""
        return self.calibration is None and self.last_layer is None

    def energy_std(self, spread: Spread, place: int, n_atoms: int, dimensionality: int) -> float:
        """Standard deviation of the energy of a structure in a batch, eV.

        Args:
            place: index of the structure in the batch.
        """
        return self.factor(dimensionality) * self.bare_energy_std(spread, place, n_atoms)

    def factor(self, dimensionality: int) -> float:
        """Ratio of standard deviation to spread; 1 without calibration."""
        return 1.0 if self.calibration is None else self.calibration.factor(dimensionality)

    def bare_energy_std(self, spread: Spread, place: int, n_atoms: int) -> float:
        """Spread of a structure's energy before calibration: in eV for an ensemble; for the last layer, the
        dimensionless spread per atom times the number of atoms."""
        if self.last_layer is None:
            return float(spread.energy[place])
        return n_atoms * float(self.last_layer.std(spread.features[place]))

    def is_doubtful(self, energy_std: float, n_atoms: int) -> bool | None:
        """Whether half the 90 % interval of the energy per atom exceeds the threshold; None without calibration."""
        if self.calibration is None:
            return None
        return not WIDTH * energy_std / max(n_atoms, 1) <= self.calibration.threshold

    def header(self) -> dict[str, Any]:
        """JSON-serializable part."""
        calibration = None if self.calibration is None else self.calibration.model_dump()
        return {
            "kind": self.kind,
            "calibration": calibration,
            "regularizer": self.last_layer and self.last_layer.regularizer,
        }

    def tensors(self) -> dict[str, np.ndarray]:
        """Arrays, the part that is not JSON."""
        return {} if self.last_layer is None else {"covariance": self.last_layer.covariance}

    @classmethod
    def read(cls, header: dict[str, Any], tensors: dict[str, np.ndarray]) -> "Uncertainty":
        """Restore an uncertainty from a file's header and tensors.

        Raises:
            KeyError, ValidationError: the header is damaged.
        """
        calibration = header["calibration"]
        return cls(
            header["kind"],
            calibration and Calibration.model_validate(calibration),
            LastLayer(tensors["covariance"], header["regularizer"]) if tensors else None,
        )
