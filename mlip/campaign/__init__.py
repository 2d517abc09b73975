"""Campaigns: rounds of screening, calculation and training that extend a convex hull."""
