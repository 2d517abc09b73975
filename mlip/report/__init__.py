"""Pieces of the HTML reports: one file each that needs nothing else, not even a network."""
