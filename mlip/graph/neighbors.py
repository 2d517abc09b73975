"""The project's neighbor list: all pairs of atoms closer than a cutoff, including periodic images.

vesin does the search, except when its grid of cutoff-sized boxes would far exceed the number of atoms (a dissociated
molecule, a slab in kilometers of vacuum; vesin 0.6 dies of SIGFPE there). A k-d tree handles these cases.
"""

import math
import threading
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from vesin import NeighborList

from mlip.errors import MlipError

# A larger estimate means a collapsed cell or wrong units; the list would not fit into memory.
_MAX_PAIRS = 1e8
# vesin allocates all boxes, even empty ones, and supports at most 1e5 of them.
_MAX_EMPTY_BOXES = 1_000
_MAX_BOXES = 50_000

_thread = threading.local()


class Neighbors(NamedTuple):
    """Directed edges, sorted by receiver, then sender, then shift: the same input gives the same order.

    The vector of edge e is positions[senders[e]] + shifts[e] @ cell - positions[receivers[e]].
    """

    receivers: Int[np.ndarray, " e"]
    """Center atom, int32, ascending."""
    senders: Int[np.ndarray, " e"]
    """Neighbor of the center, int32."""
    shifts: Int[np.ndarray, "e 3"]
    """Lattice vectors to the image of the neighbor, int32; zero along open directions."""


FAR = 1e4
"""Distance from the origin above which vesin is not used, A: with atoms at 1e6 A along a periodic direction it divides
by zero, which ends the process."""


def neighbor_list(
    positions: Float[np.ndarray, "n 3"],
    cell: Float[np.ndarray, "3 3"],
    pbc: Bool[np.ndarray, " 3"],
    cutoff: float,
) -> Neighbors:
    """Every pair (i, j, image of j) closer than `cutoff` (A), in both directions, including pairs with own images.

    An atom is not its own neighbor at zero distance; two atoms at the same position are a pair with distance 0.
    Positions may lie anywhere: shifts refer to the positions as given, not to wrapped ones.

    Args:
        cell: rows are lattice vectors, A, of either handedness; rows of open directions are ignored.
        pbc: which lattice vectors are periodic; any combination.

    Raises:
        MlipError: positions or periodic lattice vectors are not finite, periodic lattice vectors are linearly
            dependent, or there are more pairs than memory can hold.
    """
    positions = np.ascontiguousarray(positions, dtype=np.float64)
    pbc = np.asarray(pbc, dtype=bool)
    cell = np.where(pbc[:, None], cell, 0.0)
    if len(positions) == 0:
        return Neighbors(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, 3), np.int32))
    boxes = _search_boxes(positions, cell, pbc, cutoff)
    is_far = np.abs(positions).max() > FAR
    if is_far or boxes > _MAX_BOXES or boxes > max(_MAX_EMPTY_BOXES, 4 * len(positions)):
        pairs, shifts = _pairs_by_tree(positions, cell, pbc, cutoff)
    else:
        pairs, shifts = _pairs_by_vesin(positions, cell, pbc, cutoff)
    return _in_canonical_order(pairs, shifts, len(positions))


def complete_cell(cell: Float[np.ndarray, "3 3"], pbc: Bool[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """The cell with the row of each open direction replaced by a unit vector normal to all other rows."""
    if pbc.all():
        return np.asarray(cell, dtype=np.float64)
    complete = np.array(cell, dtype=np.float64)
    n_periodic = int(pbc.sum())
    complete[~pbc] = np.linalg.svd(complete[pbc], full_matrices=True)[2][n_periodic:]
    return complete


def _search_boxes(positions, cell, pbc, cutoff) -> float:
    """Number of cutoff-sized boxes that the structure spans; raises errors for invalid structures."""
    complete = complete_cell(cell, pbc)
    heights, is_singular = _heights(complete)
    if not (math.isfinite(positions.sum()) and math.isfinite(complete.sum())):
        raise MlipError("positions or lattice vectors are not finite")
    if is_singular:
        raise MlipError(
            "the periodic lattice vectors are linearly dependent", fix="mend the cell or set pbc False there"
        )
    if not pbc.all():  # the open rows of a complete cell are unit vectors, so fractional coordinates are in A
        extents = np.ptp(positions @ np.linalg.inv(complete), axis=0)
        heights = np.where(pbc, heights, np.maximum(extents, 2 * cutoff)).tolist()
    n_pairs = len(positions) ** 2 * math.prod(2 * cutoff / height for height in heights)
    if n_pairs > _MAX_PAIRS:
        raise MlipError(f"about {n_pairs:.0e} pairs of atoms within {cutoff} A: the cell has collapsed or is not in A")
    return math.prod(max(height / cutoff, 1.0) for height in heights)


def _heights(cell: Float[np.ndarray, "3 3"]) -> tuple[list[float], bool]:
    """Distances between opposite faces, and whether the cell is singular. Python floats take a tenth of NumPy's time
    for nine numbers."""
    rows = cell.tolist()
    faces = [math.hypot(*_cross(rows[(k + 1) % 3], rows[(k + 2) % 3])) for k in range(3)]
    volume = abs(sum(x * y for x, y in zip(rows[0], _cross(rows[1], rows[2]), strict=True)))
    if not volume > 1e-9 * math.prod(math.hypot(*row) for row in rows):
        return [0.0] * 3, True
    return [volume / face for face in faces], False


def _cross(a: list[float], b: list[float]) -> tuple[float, float, float]:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _pairs_by_vesin(positions, cell, pbc, cutoff):
    """Pairs (p, 2) and shifts (p, 3) as views of vesin's buffers, valid until this thread's next call."""
    search = getattr(_thread, "search", None)
    if search is None or search.cutoff != cutoff:
        search = _thread.search = NeighborList(cutoff=cutoff, full_list=True, sorted=False, n_threads=1)
    return search.compute(positions, cell, pbc, quantities="PS", copy=False)


def _pairs_by_tree(positions, cell, pbc, cutoff):
    """Pairs (p, 2) and shifts (p, 3) from a k-d tree over the wrapped atoms and their images near the cell."""
    to_fractional = np.linalg.inv(complete_cell(cell, pbc))
    origin = np.where(pbc, np.floor(positions @ to_fractional), 0).astype(np.int64)
    wrapped = positions - origin @ cell
    margins = np.where(pbc, cutoff * np.sqrt((to_fractional**2).sum(0)), 0.0)  # the cutoff in fractional coordinates
    reach = np.ceil(margins).astype(int)
    steps = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, 3)
    fractional = (wrapped @ to_fractional)[None] + steps[:, None]
    near = (~pbc | ((fractional >= -margins - 1e-9) & (fractional <= 1 + margins + 1e-9))).all(-1)
    step_of_image, atom_of_image = np.nonzero(near)
    images = wrapped[atom_of_image] + steps[step_of_image] @ cell
    found = cKDTree(wrapped).sparse_distance_matrix(cKDTree(images), cutoff, output_type="ndarray")
    found = found[found["v"] < cutoff]
    receivers, senders = found["i"], atom_of_image[found["j"]]
    steps_found = steps[step_of_image[found["j"]]]
    other = (receivers != senders) | steps_found.any(1)
    receivers, senders, steps_found = receivers[other], senders[other], steps_found[other]
    return np.stack([receivers, senders], 1), steps_found - origin[senders] + origin[receivers]


def _in_canonical_order(pairs, shifts, n_atoms: int) -> Neighbors:
    """Neighbors sorted by (receiver, sender, shift); a single integer key sorts three times faster than lexsort."""
    if len(pairs) == 0:
        return Neighbors(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, 3), np.int32))
    base = 2 * int(np.abs(shifts).max()) + 1
    key = pairs.astype(np.int64) @ np.array([n_atoms * base**3, base**3])
    key += shifts @ np.array([base**2, base, 1])
    order = np.argsort(key)
    ordered = pairs[order].astype(np.int32)
    return Neighbors(
        np.ascontiguousarray(ordered[:, 0]),
        np.ascontiguousarray(ordered[:, 1]),
        shifts[order].astype(np.int32),
    )
