"""Files -> frames on disk: readers, sub-sampling, outliers, split, statistics, and the store. Knows no JAX."""

from mlip.data.records import Entry, Frame, Skipped, Trajectory
from mlip.data.store import Material, Store
from mlip.data.writer import StoreWriter

__all__ = ["Entry", "Frame", "Material", "Skipped", "Store", "StoreWriter", "Trajectory"]
