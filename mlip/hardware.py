"""Numbers that depend on the hardware: batch sizes, skin of neighbor lists, cost of a compilation.

They affect speed, never results. Each kind of device has an entry, which says how it was measured; `benchmarks/gpu.py
--tune` measures the numbers of a new device. A device without an entry uses the closest one (`nearest`), and `mlip
info` reports which.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import jax


@dataclass(frozen=True)
class Hardware:
    """Tuning numbers of one kind of device."""

    device: str
    """Kind of device, as in `jax.Device.device_kind`, or a whole platform: cpu, gpu, tpu."""
    source: str
    """Origin of the numbers: what was measured, where and when."""
    prediction_edges: int
    """Edges that `Potential.predict` evaluates at once; a power of two, like the array shapes."""
    property_edges: int
    """Edges that a property model evaluates at once."""
    screening_slots: int
    """Edge slots, empty ones included, that a property model evaluates at once for one prototype."""
    compilation_operations: float
    """Floating-point operations that the device performs in the time of one compilation."""
    relaxation_skin: float
    """Skin of the neighbor lists of relaxations, A."""
    largest_relaxation: int
    """Number of edges in the largest batch of relaxations."""
    smallest_relaxation: int
    """Number of edges in the smallest array shape of relaxations; smaller shapes take no less time."""
    relaxation_compilation: int
    """Number of edges that relaxations evaluate in the time of one compilation."""


CPU = Hardware(
    device="cpu",
    source="measured on two cores of an Intel Xeon server with M3GNet in float32, November 2026",
    prediction_edges=2**13,
    property_edges=2**12,
    screening_slots=4_000,  # larger batches do not fit into the caches
    compilation_operations=1.5e11,
    # Edges in the skin cost more than frequent rebuilds: with 0.4 A 32 crystals took 50 % more time; with 0.1 A each of
    # the first steps of a relaxation needs a new list.
    relaxation_skin=0.15,
    # Larger batches do not fit into the caches: 10 us per edge and core with 512 edges, 12 with 2,048, 16 with 8,192;
    # with fewer than 2,048 the host becomes the bottleneck.
    largest_relaxation=2_048,
    smallest_relaxation=256,
    relaxation_compilation=100_000,  # 1.1 s of compilation, 12 us an edge (M3GNet, AMD EPYC)
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
    """Numbers of the device on which JAX computes; starts JAX."""
    if _in_place:
        return _in_place[-1]
    device = jax.local_devices()[0]
    return nearest(device.device_kind, device.platform)


def nearest(kind: str, platform: str) -> Hardware:
    """Entry for this kind of device, otherwise for its platform, otherwise for any accelerator."""
    entries = {entry.device.lower(): entry for entry in KNOWN}
    return entries.get(kind.lower()) or entries.get(platform.lower()) or ACCELERATOR


def told() -> str:
    """Sentence that names the entry in use and says whether it was made for this device."""
    device, entry = jax.local_devices()[0], hardware()
    own = entry.device.lower() == device.device_kind.lower()
    told = f"those of {entry.device} ({entry.source})"
    return told if own else f"{told}; {device.device_kind} has none of its own"


@contextmanager
def in_place(numbers: Hardware) -> Iterator[None]:
    """Context manager that uses other numbers, for measurements. Programs compiled earlier remain."""
    _in_place.append(numbers)
    try:
        yield
    finally:
        _in_place.pop()
