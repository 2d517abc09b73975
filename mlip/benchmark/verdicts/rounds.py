"""Relaxations in rounds, as the verdict of the paper's group requires, for many structures at once: a structure that
has not converged gets its vacuum reset and continues with a new FIRE.

A structure that breaks a rule on geometry before the first round fails the verdict, but is still relaxed for one round,
because our own verdict is in the same record. A structure that is not connected continues as if that rule were switched
off, so that both variants can be counted. Our guards (collapsed, exploded, isolated, non_finite, error) also end a
relaxation here, and are then the verdict's reason.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ase import Atoms

from mlip.benchmark.reference import Reference
from mlip.benchmark.verdicts import authors
from mlip.benchmark.verdicts.vacuum import Setting
from mlip.relaxation import Along, RelaxResult

Relax = Callable[[list[Atoms], list[Along]], Iterator[tuple[int, RelaxResult, float]]]
"""Function from structures and the cell directions that relax to index, result and seconds of each structure as it
ends; a relaxation converges below half of the verdict's fmax."""


@dataclass
class _Going:
    """State of a material between two rounds."""

    reference: Reference
    setting: Setting
    atoms: Atoms
    broken: tuple[str, ...]
    """Names of the rules that the structure has broken so far."""
    rounds: int = 0
    n_steps: int = 0
    seconds: float = 0.0
    initial_energy: float | None = field(default=None)

    @classmethod
    def begin(cls, reference: Reference) -> "_Going":
        setting = Setting.of(reference.start, reference.directions)
        found = authors.examine(setting.enter(reference.start), reference.dimensionality, authors.BETWEEN_ROUNDS)
        return cls(reference, setting, found.atoms, found.broken)

    def take(self, result: RelaxResult, seconds: float, fmax: float) -> dict[str, Any] | None:
        """Record a round; returns the verdict after the last round, else None."""
        self.rounds += 1
        self.n_steps += result.n_steps
        self.seconds += seconds
        self.initial_energy = result.initial_energy if self.rounds == 1 else self.initial_energy
        dimensionality = self.reference.dimensionality
        if result.failed:
            return self._verdict((*self.broken, result.reason))
        is_last = result.converged or _ends(self.broken) or self.rounds == authors.ROUNDS
        found = authors.examine(result.atoms, dimensionality, 1.0 if is_last else authors.BETWEEN_ROUNDS)
        self.atoms = found.atoms
        self.broken += found.broken
        if is_last:
            return self._verdict((*self.broken, *authors.of_forces(result.fmax, fmax)))
        return self._verdict(self.broken) if _ends(found.broken) else None

    def _verdict(self, broken: tuple[str, ...]) -> dict[str, Any]:
        rules = list(dict.fromkeys(broken))
        return {"failed": bool(rules), "reason": rules[0] if rules else None, "rules": rules, "rounds": self.rounds}

    def result(self, last: RelaxResult) -> RelaxResult:
        """Result of all rounds together, in the axes of the input structure."""
        atoms = last.atoms if last.failed else self.atoms
        whole = replace(last, n_steps=self.n_steps, initial_energy=self.initial_energy)
        return replace(whole, atoms=self.setting.leave(atoms))


def relax_in_rounds(
    references: Sequence[Reference], relax: Relax, fmax: float
) -> Iterator[tuple[int, RelaxResult, float, dict[str, Any]]]:
    """Index, result, seconds and verdict of each material, when its last round has ended.

    The verdict has the keys `failed`, `reason` (the first rule broken), `rules` (all rules broken) and `rounds`.

    Args:
        fmax: force below which a relaxation has converged by the verdict, eV/A; rounds aim at half of it.
    """
    going = {k: _Going.begin(reference) for k, reference in enumerate(references)}
    while going:
        places, current = list(going), list(going.values())
        cells = [Along(tuple(_directions(one.reference.dimensionality))) for one in current]
        for place, result, seconds in relax([one.atoms for one in current], cells):
            one = going[places[place]]
            verdict = one.take(result, seconds, fmax)
            if verdict is not None:
                del going[places[place]]
                yield places[place], one.result(result), one.seconds, verdict


def _ends(broken: tuple[str, ...]) -> bool:
    """Whether the broken rules end a relaxation between rounds."""
    return any(rule != authors.APART for rule in broken)


def _directions(dimensionality: int) -> list[bool]:
    """Periodic directions in the setting: a and b for layers, c for chains."""
    return {3: [True, True, True], 2: [True, True, False], 1: [False, False, True]}[dimensionality]
