"""Campaigns: rounds from candidates to a convex hull that has grown."""
