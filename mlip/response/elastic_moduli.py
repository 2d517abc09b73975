"""Elastic tensor from stresses at strains: fit, symmetrization, moduli and stability.

6 x 6 matrices use Voigt notation in ASE's order xx yy zz yz xz xy: stress_i = C_ij strain_j with engineering shear
strains, C_44 = C_yzyz.
"""

import numpy as np
from jaxtyping import Float

from mlip.units import VOIGT, voigt_from_tensor

_PAIRS = np.array(VOIGT)
_PLACE = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
"""Voigt index of each component of a symmetric tensor."""
_MANDEL = np.sqrt(np.array([1, 1, 1, 2, 2, 2.0]))


def fit_tensor(
    patterns: np.ndarray, strains: Float[np.ndarray, " k"], stresses: Float[np.ndarray, "k 3 3"], at_rest: np.ndarray
) -> tuple[Float[np.ndarray, "6 6"], float]:
    """Slopes of stresses over strains, and the deviation of the stresses from straight lines.

    Args:
        patterns: Voigt index of the strain component of each point.
        strains: engineering strains.
        stresses: stress at each strain.
        at_rest: (3, 3), stress without strain, a point of every line.

    Returns:
        The fitted C, not yet symmetrized, in the unit of the stresses; the root mean square deviation.
    """
    tensor, squares = np.zeros((6, 6)), []
    for pattern in range(6):
        is_here = patterns == pattern
        x = np.append(strains[is_here], 0.0)
        y = voigt_from_tensor(np.concatenate([stresses[is_here], at_rest[None]]))
        line = np.stack([x, np.ones_like(x)], axis=1)
        found, *_ = np.linalg.lstsq(line, y, rcond=None)
        tensor[:, pattern] = found[0]
        squares.append((line @ found - y) ** 2)
    return tensor, float(np.sqrt(np.mean(np.concatenate(squares))))


def symmetrized(tensor: Float[np.ndarray, "6 6"], group: Float[np.ndarray, "g 3 3"]) -> Float[np.ndarray, "6 6"]:
    """Part of a tensor with C_ij = C_ji and the symmetry of a point group."""
    full = (0.5 * (tensor + tensor.T))[_PLACE[:, :, None, None], _PLACE]
    turned = np.einsum("gai,gbj,gck,gdl,ijkl->abcd", group, group, group, group, full, optimize=True) / len(group)
    rows, columns = _PAIRS.T
    return turned[rows[:, None], columns[:, None], rows, columns]


def rotated(tensor: Float[np.ndarray, "6 6"], rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "6 6"]:
    """Elastic tensor of the crystal rotated by x -> Q x."""
    return symmetrized(tensor, rotation[None])


def stiffnesses(tensor: Float[np.ndarray, "6 6"]) -> Float[np.ndarray, " 6"]:
    """Eigenvalues of the tensor as a map of strains, ascending; the crystal is stable if all are positive (Born)."""
    return np.linalg.eigvalsh(_MANDEL[:, None] * tensor * _MANDEL)


def moduli(tensor: Float[np.ndarray, "6 6"]) -> dict[str, float]:
    """Polycrystalline averages in the unit of the tensor: bulk and shear moduli of Voigt, Reuss and Hill; Young's
    modulus and Poisson's ratio from those of Hill; and the universal anisotropy index of Ranganathan and
    Ostoja-Starzewski."""
    k_voigt = tensor[:3, :3].sum() / 9
    normal, mixed = np.trace(tensor[:3, :3]), tensor[0, 1] + tensor[0, 2] + tensor[1, 2]
    g_voigt = (normal - mixed + 3 * np.trace(tensor[3:, 3:])) / 15
    try:
        soft = np.linalg.inv(tensor)
    except np.linalg.LinAlgError:
        soft = np.full((6, 6), np.nan)
    k_reuss = 1 / soft[:3, :3].sum()
    normal, mixed = np.trace(soft[:3, :3]), soft[0, 1] + soft[0, 2] + soft[1, 2]
    g_reuss = 15 / (4 * normal - 4 * mixed + 3 * np.trace(soft[3:, 3:]))
    bulk, shear = (k_voigt + k_reuss) / 2, (g_voigt + g_reuss) / 2
    return {
        "bulk_voigt": float(k_voigt),
        "bulk_reuss": float(k_reuss),
        "bulk_hill": float(bulk),
        "shear_voigt": float(g_voigt),
        "shear_reuss": float(g_reuss),
        "shear_hill": float(shear),
        "young": float(9 * bulk * shear / (3 * bulk + shear)),
        "poisson": float((3 * bulk - 2 * shear) / (6 * bulk + 2 * shear)),
        "anisotropy": float(5 * g_voigt / g_reuss + k_voigt / k_reuss - 6),
    }
