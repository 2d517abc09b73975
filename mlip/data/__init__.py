"""Data pipeline: readers, subsampling, outlier rules, split, statistics, and the store on disk. Does not import JAX."""

from mlip.data.records import Entry, Frame, Skipped, Trajectory
from mlip.data.store import Material, Store
from mlip.data.writer import StoreWriter

__all__ = ["Entry", "Frame", "Material", "Skipped", "Store", "StoreWriter", "Trajectory"]
