"""Rules on which energies of phases may be combined in one hull: one level of theory, and corrections on all or on
none.

Databases correct energies by composition: the Materials Project puts GGA and GGA+U calculations on one scale, and
oxides and similar compounds on that of the elements (A. Jain et al., Phys. Rev. B 84, 045115 (2011); A. Wang et al.,
Sci. Rep. 11, 15496 (2021)). A correction can be 2 eV/atom, so a corrected hull must only judge corrected materials.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mlip.errors import MlipError
from mlip.functionals import canonical_functional, check_functionals, join_functionals, relation_of_functionals

_NEGLIGIBLE = 1e-9
"""Absolute correction below which a phase counts as uncorrected, eV/atom."""
_HUBBARD = "+u"


@dataclass(frozen=True, eq=False)
class Energies:
    """Energies of phases, the corrections of their sources, and their levels of theory."""

    uncorrected: Float[np.ndarray, " n"]
    """Calculated energies without correction, eV/atom."""
    corrections: Float[np.ndarray, " n"]
    """Corrections, eV/atom; NaN where the source does not state whether there is one."""
    levels: Sequence[str]
    """Functionals, with "+U" where the run type states a Hubbard correction."""
    are_compounds: Bool[np.ndarray, " n"]
    """Whether each phase has several elements."""

    def __len__(self) -> int:
        return len(self.uncorrected)

    @property
    def corrected(self) -> Float[np.ndarray, " n"]:
        """Energies with the corrections that are stated, eV/atom."""
        return self.uncorrected + np.nan_to_num(self.corrections)

    def take(self, rows: np.ndarray) -> "Energies":
        levels = [self.levels[row] for row in rows]
        return Energies(self.uncorrected[rows], self.corrections[rows], levels, self.are_compounds[rows])

    @property
    def is_corrected(self) -> Bool[np.ndarray, " n"]:
        """Whether each phase has a nonzero correction."""
        return np.abs(np.nan_to_num(self.corrections)) > _NEGLIGIBLE


def are_corrections_used(*sides: Energies) -> bool:
    """Whether all sides are used with corrections: any phase has one, and every phase states its own."""
    is_any = any(side.is_corrected.any() for side in sides)
    return is_any and not any(np.isnan(side.corrections).any() for side in sides)


def note_on_corrections(sides: Mapping[str, Energies]) -> str:
    """Sentence on the convention and the size of the corrections.

    Args:
        sides: name of a group of phases -> its energies.
    """
    if not any(side.is_corrected.any() for side in sides.values()):
        return "Energies: as computed, no phase has a correction."
    sizes = np.abs(np.concatenate([side.corrections[side.is_corrected] for side in sides.values()]))
    size = f"on average {sizes.mean():.3f}, at most {sizes.max():.3f} eV/atom"
    if are_corrections_used(*sides.values()):
        counts = " and ".join(f"{side.is_corrected.sum()} of {len(side)} {what}" for what, side in sides.items())
        return f"Energies: with the sources' corrections, which {counts} have ({size})."
    silent = " and ".join(
        f"{count} of {len(side)} {what}" for what, side in sides.items() if (count := np.isnan(side.corrections).sum())
    )
    where = " on either side" if len(sides) > 1 else ""
    return (
        f"Energies: without corrections{where}, for {silent} do not state theirs; left off are corrections of {size}."
    )


def check_levels(references: Energies, *, corrected: bool, allowed: bool, where: str) -> str | None:
    """Refuse references of several levels of theory.

    GGA and GGA+U are on one scale if each GGA+U compound has its correction.

    Args:
        corrected: whether corrections are used.
        allowed: whether the user allows levels to be mixed.

    Returns:
        A sentence for the table if levels are several or unknown; else None.

    Raises:
        MlipError: there are several levels and mixing is not allowed.
    """
    counts = Counter(references.levels)
    known = {canonical_functional(name): name for name in counts if relation_of_functionals(name, name) == "same"}
    unknown = sum(count for name, count in counts.items() if name not in known.values()) if len(counts) > 1 else 0
    told = ", ".join(f"{count} of {name}" for name, count in counts.most_common())
    if len(known) < 2:
        return f"functionals of the hull's references not compared: {told}" if unknown and known else None
    if _are_with_and_without_hubbard(known):
        if corrected and _hubbard_is_corrected(references):
            return f"references on one scale by their corrections: {told}"
        told += ", without the corrections that put the two on one scale"
    if not allowed:
        fix = "--allow-functional-mismatch mixes them all the same"
        raise MlipError(f"functionals of the hull's references differ: {told}", where=where, fix=fix)
    return f"functionals of the hull's references differ, as allowed: {told}"


def _are_with_and_without_hubbard(known: dict[str, str]) -> bool:
    return len(known) == 2 and any(name + _HUBBARD in known for name in known)


def _hubbard_is_corrected(references: Energies) -> bool:
    has_hubbard = np.array([canonical_functional(name).endswith(_HUBBARD) for name in references.levels])
    return bool(references.is_corrected[has_hubbard & references.are_compounds].all())


def check_same_level(references: Energies, materials: Energies, *, allowed: bool, where: str) -> str | None:
    """Refuse materials of another level of theory than the hull's, by the rules of
    `mlip.functionals.check_functionals`."""
    return check_functionals(
        join_functionals(sorted(set(references.levels))),
        set(materials.levels),
        of_ours="the hull",
        of_theirs="the materials",
        where=where,
        allowed=allowed,
    )
