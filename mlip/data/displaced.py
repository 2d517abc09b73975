"""Curvature from displaced cells: the change of the forces between two frames of the same cell.

With d = x_b - x_a, the Hessian at the midpoint satisfies H d = F_a - F_b up to the third power of d. The frame at the
midpoint has no other label.
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from ase.geometry import find_mic
from jaxtyping import Float

from mlip.data.records import Frame, Trajectory
from mlip.data.schema import end_mark
from mlip.data.store import Store
from mlip.data.writer import StoreWriter
from mlip.errors import MlipError

HALFWAY = ":halfway"
"""Suffix of the id of a material whose frames are midpoints between those of another material."""
_SHORTEST = 1e-4
"""Displacement in A below which an atom counts as not displaced."""
_SAME_CELL = 1e-6
"""Tolerance for equal cells, A."""


def halfway(first: Frame, second: Frame, largest: float) -> Frame | str:
    """Frame at the midpoint of two frames, with direction and curvature, or the reason why they are no pair.

    Args:
        largest: largest displacement of an atom, A.
    """
    if first.forces is None or second.forces is None:
        return "without forces"
    if len(first) != len(second) or (first.numbers != second.numbers).any():
        return "other atoms"
    if np.abs(first.cell - second.cell).max() > _SAME_CELL:
        return "another cell"
    moved = _displacement(first, second)
    farthest = np.linalg.norm(moved, axis=1).max(initial=0.0)
    if not _SHORTEST < farthest <= largest:
        return "too far" if farthest > largest else "not displaced"
    length = np.linalg.norm(moved)
    return Frame(
        first.numbers,
        first.positions + moved / 2,
        first.cell,
        first.pbc,
        calculation=first.calculation,
        ionic_step=first.ionic_step,
        direction=moved / length,
        curvature=(first.forces - second.forces) / length,
    )


def _displacement(first: Frame, second: Frame) -> Float[np.ndarray, "n 3"]:
    difference = second.positions - first.positions
    return find_mic(difference, first.cell, first.pbc)[0] if first.pbc.any() else difference


def add_curvature(store: Store, out: Path, largest: float) -> Counter[str]:
    """Write the store's frames, and the midpoints of consecutive ones, in the same splits.

    Returns:
        Counts of `frames`, of `pairs`, and, by reason, of consecutive frames that are no pair.

    Raises:
        MlipError: there is no pair in the whole store, or `out` is part of it.
    """
    if out.resolve() in {shard.path.resolve() for shard in store.shards}:
        raise MlipError("would replace the store that is read", where=str(out), fix="--out ANOTHER.h5")
    counts: Counter[str] = Counter(frames=0, pairs=0)
    with StoreWriter(out, {"curvature": {"source": store.path.name, "largest": largest}}) as writer:
        for material in store.materials():
            frames = [store.frame(k) for k in material.frames]
            found = [halfway(first, second, largest) for first, second in pairwise(frames)]
            between = [frame for frame in found if isinstance(frame, Frame)]
            counts.update(reason for reason in found if isinstance(reason, str))
            counts.update(frames=len(frames), pairs=len(between))
            facts = material.functional, material.dimensionality, material.properties
            writer.add(Trajectory(material.id, frames, *facts), material.split)
            if between:
                name = f"{material.id}{HALFWAY}"  # it gives neither a relaxed structure nor a property
                writer.add(Trajectory(name, between, *facts[:2], end_mark(True)), material.split)
        if not counts["pairs"]:
            raise MlipError(
                "no two consecutive frames are of one cell with displaced atoms and forces", where=str(store.path)
            )
    return counts
