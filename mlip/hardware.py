"""Numbers that depend on the hardware: sizes of batches, thickness of neighbor lists, cost of a compilation.

They decide how fast a result comes, never which. Those of a CPU were measured on two cores of a server, with M3GNet in
float32 where nothing else is said. Those of accelerators are estimates: none has been measured.
"""

from dataclasses import dataclass

import jax


@dataclass(frozen=True)
class Hardware:
    """Numbers of one kind of device."""

    prediction_edges: int
    """Edges that `Potential.predict` evaluates at once; a power of two, as shapes are."""
    property_edges: int
    """The same of a property model."""
    screening_slots: int
    """Edges of a property model on one prototype, their empty slots included, that are evaluated at once."""
    compilation_operations: float
    """Floating-point operations done in the time of a compilation."""
    relaxation_skin: float
    """Neighbor lists of relaxations reach this much farther than the potential, A."""
    largest_relaxation: int
    """Edges of the largest batch of relaxations."""
    smallest_relaxation: int
    """Edges of the smallest shape of relaxations; a smaller one takes no less time."""
    relaxation_compilation: int
    """Edges that relaxations evaluate in the time of a compilation."""


CPU = Hardware(
    prediction_edges=2**13,
    property_edges=2**12,
    screening_slots=4_000,  # larger batches fall out of the caches
    compilation_operations=1.5e11,
    # The skin's edges cost more than lists made more often: with 0.4 A 32 crystals took a half more time; with 0.1 A
    # the first steps of a relaxation exhaust a list each.
    relaxation_skin=0.15,
    # Larger batches fall out of the caches: 10 us an edge and core with 512 edges, 12 with 2,048, 16 with 8,192; with
    # fewer than 2,048 the host becomes busy.
    largest_relaxation=2_048,
    smallest_relaxation=256,
    relaxation_compilation=300_000,
)

ACCELERATOR = Hardware(
    prediction_edges=2**16,
    property_edges=2**12,
    screening_slots=64_000,
    compilation_operations=5e13,
    relaxation_skin=0.4,
    largest_relaxation=262_144,
    smallest_relaxation=16_384,
    relaxation_compilation=100_000_000,
)


def hardware() -> Hardware:
    """Numbers of the device that JAX computes on; asking starts JAX."""
    return CPU if jax.default_backend() == "cpu" else ACCELERATOR
