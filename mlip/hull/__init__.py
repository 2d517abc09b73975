"""Convex hulls of phases: distances, rules on which energies may be combined in one hull, and hulls that grow."""
