"""The hull of the phases in some files, and its change when phases of other files are added."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlip.errors import MlipError
from mlip.hull.convex_hull import Phases
from mlip.hull.energies import are_corrections_used, note_on_corrections
from mlip.hull.growing import GrowingHull, HullChange
from mlip.hull.phase_files import LAYOUTS, Phase, phases_in
from mlip.hull.references import References, references_of


@dataclass(frozen=True, eq=False)
class HullOfFiles:
    """A hull and the sources of its entries."""

    hull: GrowingHull
    entries: References
    """Phases of the entries, in the order of the hull."""
    is_corrected: bool
    """Whether the energies of the hull include the corrections of their sources."""
    n_added: int
    change: HullChange | None
    """The changes made by the added phases; None if no files were added."""
    refused: Counter[str]
    """Reason -> number of phases that cannot be entries."""
    notes: tuple[str, ...]
    """Notes on corrections and levels of theory."""

    def summary(self) -> dict[str, Any]:
        """Counts of entries and vertices, the changes by the addition, and what is left out."""
        counts = {
            "phases": len(self.hull),
            "on_the_hull": int(self.hull.is_vertex.sum()),
            "energies": self._kind,
            "median_distance": float(np.median(self.hull.distances)),
            "left_out": dict(self.refused.most_common()),
            "notes": list(self.notes),
        }
        if self.change is None:
            return counts
        return counts | {
            "added": self.n_added,
            "new_vertices": self.change.new_vertices,
            "fallen_vertices": self.change.fallen_vertices,
            "older_phases_changed": self.change.n_changed,
            "seconds_to_add": round(self.change.seconds, 3),
        }

    @property
    def _kind(self) -> str:
        if self.entries.are_formation_energies:
            return "formation energies"
        return f"total energies, {'with' if self.is_corrected else 'without'} corrections"


def hull_of_files(
    sources: Sequence[Path],
    added: Sequence[Path] = (),
    *,
    allow_functional_mismatch: bool = False,
    n_workers: int = 1,
) -> HullOfFiles:
    """The hull of all phases in some files, to which those of others are added. Phases that cannot be entries are
    counted.

    Args:
        sources: stores, JSON of entries or phases, saved growing hulls, or folders of JSON.
        added: files of the same kinds, added to the hull of `sources`.
        allow_functional_mismatch: mix phases of several functionals or run types.
        n_workers: number of processes.

    Raises:
        MlipError: there is no such file, it has none of the layouts, there is no phase at all, total and formation
            energies are mixed, or phases are of several functionals or run types.
    """
    refused: Counter[str] = Counter()
    taken: set[str] = set()
    pure: set[str] = set()
    old = _fit(_all_of(sources, refused), taken, pure, refused)
    new = _fit(_all_of(added, refused), taken, pure, refused)
    where = ", ".join(map(str, (*sources, *added)))
    if not old:
        told = "; ".join(f"{count} left out: {reason}" for reason, count in refused.most_common())
        raise MlipError(f"no phases{told and f' ({told})'}", where=", ".join(map(str, sources)), fix=LAYOUTS)
    entries = references_of([*old, *new], where, allow_functional_mismatch=allow_functional_mismatch)
    is_corrected = are_corrections_used(entries.energies)
    energies = entries.energies.corrected if is_corrected else entries.energies.uncorrected
    phases = Phases.of(entries.compositions, energies)
    kind = {"are_formation_energies": entries.are_formation_energies}
    hull = GrowingHull.begin(entries.ids[: len(old)], phases.take(np.arange(len(old))), **kind, n_workers=n_workers)
    change = None
    if added:
        rows = np.arange(len(old), len(phases))
        change = hull.add(entries.ids[len(old) :], phases.take(rows), n_workers=n_workers)
    convention = None if entries.are_formation_energies else note_on_corrections({"phases": entries.energies})
    levels = entries.note and f"{entries.note[0].upper()}{entries.note[1:]}."
    notes = tuple(note for note in (convention, levels) if note)
    return HullOfFiles(hull, entries, is_corrected, len(new), change, refused, notes)


def _all_of(sources: Iterable[Path], refused: Counter[str]) -> list[Phase]:
    return [phase for source in sources for phase in phases_in(source, refused)]


def _fit(phases: list[Phase], taken: set[str], pure: set[str], refused: Counter[str]) -> list[Phase]:
    """The phases that can be entries beside those read before.

    Args:
        taken: ids of earlier entries; updated.
        pure: symbols of elements with a pure phase; updated.
        refused: reason -> number of phases left out; updated.
    """
    sound = []
    for phase in phases:
        if fault := phase.fault or ("its id is taken" if phase.id in taken else None):
            refused[fault] += 1
            continue
        taken.add(phase.id)
        sound.append(phase)
    pure.update(symbol for phase in sound if len(phase.composition) == 1 for symbol in phase.composition)
    fit = []
    for phase in sound:
        missing = [] if phase.is_formation_energy else sorted(set(phase.composition) - pure)
        if missing:
            refused[f"no phase of {missing[0]} by itself to compare with"] += 1
        else:
            fit.append(phase)
    return fit
