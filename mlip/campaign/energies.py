"""The common scale of a campaign's energies: total energies of one level of theory, or formation energies.

If the hull's references are formation energies, those of new calculations are computed with energies of the elements at
the calculations' own level. The two scales are then the same except for the difference between the levels, which
`start.check` measures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Float

from mlip.data.records import Frame
from mlip.errors import MlipError
from mlip.functionals import check_functionals
from mlip.hull.convex_hull import Phases
from mlip.hull.mp2020 import mp2020_correction
from mlip.hull.phase_files import atoms_of_composition
from mlip.hull.references import References


@dataclass(frozen=True)
class EnergyScale:
    """Conversion of the energy of a calculation to that of a phase of the hull."""

    elements: Mapping[str, float] | None
    """Energies of the elements, eV/atom, to compute formation energies; None for total energies."""
    corrected: bool = False
    """Whether the Materials Project's corrections are added."""

    @property
    def are_formation_energies(self) -> bool:
        return self.elements is not None

    def energy(self, frame: Frame) -> float:
        """Energy of a calculated structure as a phase of the hull, eV/atom.

        Raises:
            MlipError: the energy of an element or the correction is unknown.
        """
        correction = mp2020_correction(frame) if self.corrected else 0.0
        per_atom = (frame.energy + correction) / len(frame)
        if self.elements is None:
            return per_atom
        amounts = atoms_of_composition(frame.numbers)
        if missing := sorted(amounts.keys() - self.elements.keys()):
            raise MlipError(f"no energy of the elements {', '.join(missing)}")
        return per_atom - sum(amount * self.elements[symbol] for symbol, amount in amounts.items()) / len(frame)


def phases_of(frames: Sequence[Frame], energies: Float[np.ndarray, " n"]) -> Phases:
    """Phases with the compositions of the frames and these energies, eV/atom."""
    return Phases.of([atoms_of_composition(frame.numbers) for frame in frames], np.asarray(energies, float))


def check_corrections(references: References, corrected: bool) -> None:
    """Check that corrections are used for both references and calculations, or for neither.

    Raises:
        MlipError: only one of the two has corrections.
    """
    has_any = bool(references.energies.is_corrected.any())
    if has_any and not corrected:
        what, fix = "have corrections, and new calculations would have none", "start.corrections=mp2020"
    elif corrected and not has_any and not references.are_formation_energies:
        what, fix = "have no corrections, and new calculations would have some", "start.corrections=null"
    else:
        return
    raise MlipError(f"the hull's references {what}", where="start.hull", fix=fix)


def check_level(references: References, calculated: str, *, is_surrogate: bool) -> str | None:
    """Check that calculations may be combined with the references of the hull.

    Args:
        calculated: functional of the calculations.
        is_surrogate: whether a surrogate takes the place of DFT.

    Returns:
        A sentence for the report if the levels of theory differ or one is unknown; else None.

    Raises:
        MlipError: the levels differ, and the energies are not on one scale.
    """
    levels = set(references.energies.levels)
    if is_surrogate and references.are_formation_energies:
        return (
            f"energies of the campaign's calculations are of {calculated}, not of DFT; formation energies on its own "
            f"elements stand beside {', '.join(sorted(levels))} of the hull's references"
        )
    if is_surrogate:
        try:
            return check_functionals(calculated, levels, of_ours="the surrogate", of_theirs="the hull's references")
        except MlipError as error:
            raise MlipError(
                error.what,
                where="start.hull",
                fix="references with formation energies, and start.elements: calculate, put the two on one scale",
            ) from None
    return check_functionals(
        calculated, levels, of_ours="dft", of_theirs="the hull's references", where="start.hull", allowed=False
    )


def symbols_of(frame: Frame) -> frozenset[str]:
    return frozenset(chemical_symbols[z] for z in frame.numbers)
