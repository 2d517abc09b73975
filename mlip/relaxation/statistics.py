"""Costs of relaxations: evaluations, neighbor lists, padding, compilations, and idle time of the device."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mlip.graph.batching import Shape
from mlip.relaxation.result import RelaxResult


@dataclass
class Statistics:
    """Costs of one job, or summed over several."""

    n_evaluations: int = 0
    """Number of batch evaluations on the device."""
    n_force_calls: int = 0
    """Number of evaluations of single structures, as counted by ASE."""
    n_calls: int = 0
    """Number of calls of the device."""
    n_lists: int = 0
    n_real_edges: int = 0
    n_padded_edges: int = 0
    """Number of edges evaluated over all calls, with padding; `n_real_edges` excludes it."""
    shapes: set[Shape] = field(default_factory=set)
    seconds: float = 0.0
    compile_seconds: float = 0.0
    device_seconds: float = 0.0
    """Time during which at least one batch was on the device, s."""

    @property
    def padded_fraction(self) -> float:
        """Padding as a fraction of the edges evaluated."""
        return 1 - self.n_real_edges / self.n_padded_edges if self.n_padded_edges else 0.0

    @property
    def idle_fraction(self) -> float:
        """Fraction of the time, excluding compilation, during which nothing was on the device."""
        seconds = self.seconds - self.compile_seconds
        return max(0.0, 1 - self.device_seconds / seconds) if seconds > 0 else 0.0

    def as_record(self) -> dict[str, Any]:
        return {
            "evaluations": self.n_evaluations,
            "force_calls": self.n_force_calls,
            "device_calls": self.n_calls,
            "neighbor_lists": self.n_lists,
            "padded_fraction": round(self.padded_fraction, 4),
            "idle_fraction": round(self.idle_fraction, 4),
            "compiled_shapes": len(self.shapes),
            "compile_seconds": round(self.compile_seconds, 2),
            "seconds": round(self.seconds, 2),
        }


def timed(ended: Iterator[tuple[int, RelaxResult]], statistics: Statistics) -> Iterator[tuple[int, RelaxResult, float]]:
    """Each result with the device seconds since the previous result, excluding compilation.

    Structures relax together, so that none has its own time, but the sum over results is the total cost, even if a run
    is killed and continued.
    """
    before = statistics.seconds - statistics.compile_seconds
    for index, result in ended:
        now = statistics.seconds - statistics.compile_seconds
        yield index, result, now - before
        before = now
