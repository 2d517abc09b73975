"""Assignment of materials, never of single frames, to the training, validation and test sets.

The set of a material depends only on its id and the seed: the order of the files does not matter, and data added later
leave every earlier material where it was.
"""

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from mlip.data.schema import SPLITS
from mlip.errors import MlipError

FRACTIONS = (0.9, 0.05, 0.05)
"""The paper's fractions of train, val and test."""


def assign_split(material_id: str, seed: int, fractions: Sequence[float] = FRACTIONS) -> str:
    """Split of a material, 'train', 'val' or 'test', by a hash of its id.

    Args:
        fractions: expected fractions of train, val and test; they add up to 1.

    Raises:
        MlipError: the fractions are not three shares that add up to 1.
    """
    check_fractions(fractions)
    digest = blake2b(f"{seed}:{material_id}".encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    # Test and val are taken from the front, so that making them larger later only takes from train.
    _, val, test = fractions
    if position < test:
        return "test"
    return "val" if position < test + val else "train"


def nested_choice(ids: Sequence[str], n: int) -> list[int]:
    """Indices of `n` of the ids, ascending. The choice does not depend on their order, and a larger `n` includes it."""
    order = sorted(range(len(ids)), key=lambda k: blake2b(f"nested:{ids[k]}".encode(), digest_size=16).digest())
    return sorted(order[:n])


def empty_splits(frames: Mapping[str, int], fractions: Sequence[float]) -> list[str]:
    """Message for each split that has a share of the materials and got no frame, as happens with few materials.

    Args:
        frames: number of frames, by split.
    """
    return [
        f"{split}: no frame, though {share:g} of the materials were asked for; "
        "few materials: another --split or --seed gives it some"
        for split, share in zip(SPLITS, fractions, strict=True)
        if share > 0 and not frames.get(split)
    ]


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise MlipError unless the fractions are three shares that add up to 1."""
    if (
        len(fractions) != len(SPLITS)
        or not all(f >= 0 for f in fractions)
        or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6)
    ):
        raise MlipError(
            f"the split {', '.join(map(str, fractions))} is not three shares that add up to 1",
            fix="e.g. 0.9,0.05,0.05 for train, val, test",
        )
