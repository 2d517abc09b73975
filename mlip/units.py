"""All units and sign conventions.

Inside mlip: eV, A, eV/A, eV/A^3, mu_B. Stress has ASE's sign (tension positive: a compressed crystal has negative
stress) and ASE's Voigt order xx yy zz yz xz xy. Readers convert their data once, on input.
"""

import numpy as np
from jaxtyping import Float

# CODATA 2014 elementary charge, the value in ASE's units: 1 eV/A^3 in GPa.
EV_PER_A3_IN_GPA = 160.21766208

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Index pairs of ASE's Voigt order: xx yy zz yz xz xy."""
_VOIGT_ROWS, _VOIGT_COLUMNS = np.array(VOIGT).T

UNITS = {
    "energy": "eV",
    "position": "A",
    "cell": "A",
    "force": "eV/A",
    "stress": "eV/A^3, Voigt xx yy zz yz xz xy, tension positive (ASE)",
    "magmom": "mu_B",
}
"""Units and sign conventions that every store records for its columns."""


def stress_from_vasp(kilobar: Float[np.ndarray, "*k 3 3"]) -> Float[np.ndarray, "*k 6"]:
    """VASP's stress tensors (kB, compression positive) as ASE Voigt vectors in eV/A^3."""
    return voigt_from_tensor(-0.1 * np.asarray(kilobar, dtype=np.float64) / EV_PER_A3_IN_GPA)


def stress_to_vasp(voigt: Float[np.ndarray, "6"]) -> Float[np.ndarray, "3 3"]:
    """The inverse of `stress_from_vasp`: kB, compression positive, (3, 3)."""
    return -10.0 * EV_PER_A3_IN_GPA * tensor_from_voigt(voigt)


def kilobar_to_ev_per_a3(kilobar: float) -> float:
    """Convert the magnitude of a pressure from kB to eV/A^3: 500 kB = 50 GPa = 0.312 eV/A^3."""
    return 0.1 * kilobar / EV_PER_A3_IN_GPA


def voigt_from_tensor(tensor: Float[np.ndarray, "*k 3 3"]) -> Float[np.ndarray, "*k 6"]:
    """Convert symmetric tensors (..., 3, 3) to Voigt vectors (..., 6), averaging off-diagonal elements."""
    symmetric = 0.5 * (tensor + np.swapaxes(tensor, -1, -2))
    return symmetric[..., _VOIGT_ROWS, _VOIGT_COLUMNS]


def tensor_from_voigt(voigt: Float[np.ndarray, "6"]) -> Float[np.ndarray, "3 3"]:
    """Convert a Voigt vector (6,) to a symmetric tensor (3, 3)."""
    xx, yy, zz, yz, xz, xy = np.asarray(voigt, dtype=np.float64)
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
