"""The reference phases of a hull, read from files.

All phases of a hull have energies of one kind and one level of theory (`mlip.hull.energies`): either total energies,
with corrections where entries have them, or formation energies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mlip.errors import MlipError
from mlip.hull.convex_hull import Hulls, Phases
from mlip.hull.energies import Energies, check_levels
from mlip.hull.phase_files import LAYOUTS, Phase, phases_in


@dataclass(frozen=True, eq=False)
class References:
    """The phases of a hull, all with energies of one kind."""

    ids: list[str]
    compositions: list[dict[str, float]]
    energies: Energies
    are_formation_energies: bool
    where: str
    """Names of the sources, for error messages."""
    note: str | None = None
    """Note on the levels of theory of the references; None if they are all the same."""

    @property
    def n_phases(self) -> int:
        return len(self.compositions)

    @cached_property
    def hulls(self) -> Hulls:
        """Hulls of the energies with the corrections that are stated."""
        return self._hulls(self.energies.corrected)

    @cached_property
    def uncorrected_hulls(self) -> Hulls:
        """Hulls of the energies without corrections."""
        return self._hulls(self.energies.uncorrected)

    def _hulls(self, energies: np.ndarray) -> Hulls:
        phases = Phases.of(self.compositions, energies)
        return Hulls(phases, are_formation_energies=self.are_formation_energies)


def read_references(sources: Sequence[Path], *, allow_functional_mismatch: bool = False) -> References:
    """Read reference phases from files.

    Args:
        sources: stores, JSON files (also .gz, .bz2), or folders of either.
        allow_functional_mismatch: mix phases of several functionals or run types.

    Raises:
        MlipError: there is no such file, it has none of the layouts, total and formation energies are mixed, or phases
            are of several functionals or run types.
    """
    phases = [phase for source in sources for phase in phases_in(source)]
    return references_of(phases, ", ".join(map(str, sources)), allow_functional_mismatch=allow_functional_mismatch)


def references_of(phases: Sequence[Phase], where: str, *, allow_functional_mismatch: bool = False) -> References:
    """Phases as columns; `where` names their sources. Errors are those of `read_references`."""
    kinds = {phase.is_formation_energy for phase in phases}
    if len(kinds) != 1:
        what = "total and formation energies side by side" if kinds else "no reference phases"
        raise MlipError(what, where=where, fix=LAYOUTS)
    compositions, energies, corrections, levels, _, ids = map(list, zip(*phases, strict=True))
    columns = Energies(
        np.array(energies), np.array(corrections), levels, np.array([len(each) > 1 for each in compositions])
    )
    (are_formation_energies,) = kinds
    note = check_levels(
        columns,
        corrected=not np.isnan(columns.corrections).any(),
        allowed=allow_functional_mismatch,
        where=where,
    )
    return References(ids, compositions, columns, are_formation_energies, where, note)
