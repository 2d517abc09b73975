"""Convex hulls of phases: distances, which entries may meet in one hull, and a hull that grows."""
