"""Numbers that depend on the hardware: sizes of batches, thickness of neighbor lists, cost of a compilation.

They decide how fast a result comes, never which. Each kind of device has its entry, which says what it was measured on;
`benchmarks/gpu.py --tune` measures those of another one. A device without an entry takes the nearest (`nearest`), and
`mlip info` says which that is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import jax


@dataclass(frozen=True)
class Hardware:
    """Numbers of one kind of device."""

    device: str
    """The kind, as `jax.Device.device_kind` has it, or all of a platform: cpu, gpu, tpu."""
    source: str
    """The measurement that the numbers come from: of what, where and when."""
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
    device="cpu",
    source="measured on two cores of an Intel Xeon server with M3GNet in float32, November 2026",
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
    device="gpu",
    source="estimated: nothing of it was measured",
    prediction_edges=2**16,
    property_edges=2**12,
    screening_slots=64_000,
    compilation_operations=5e13,
    relaxation_skin=0.4,
    largest_relaxation=262_144,
    smallest_relaxation=16_384,
    relaxation_compilation=100_000_000,
)

KNOWN = (CPU, ACCELERATOR)
_in_place: list[Hardware] = []


def hardware() -> Hardware:
    """Numbers of the device that JAX computes on; asking starts JAX."""
    if _in_place:
        return _in_place[-1]
    device = jax.local_devices()[0]
    return nearest(device.device_kind, device.platform)


def nearest(kind: str, platform: str) -> Hardware:
    """The entry of this kind of device, else of its platform, else that of any accelerator."""
    entries = {entry.device.lower(): entry for entry in KNOWN}
    return entries.get(kind.lower()) or entries.get(platform.lower()) or ACCELERATOR


def told() -> str:
    """Which entry is used, and whether it is this device's own."""
    device, entry = jax.local_devices()[0], hardware()
    own = entry.device.lower() == device.device_kind.lower()
    told = f"those of {entry.device} ({entry.source})"
    return told if own else f"{told}; {device.device_kind} has none of its own"


@contextmanager
def in_place(numbers: Hardware) -> Iterator[None]:
    """Within it other numbers hold, to measure what they do. What was compiled by others stays."""
    _in_place.append(numbers)
    try:
        yield
    finally:
        _in_place.pop()
