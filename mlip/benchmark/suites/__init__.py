"""Suites by which a potential is judged in minutes. A suite is one file here and one line of `NAMES`."""

NAMES = ("relaxation", "eos", "elasticity", "phonons", "pressure", "low-dimensional", "dimers")
"""Names of the suites; the module of each has `_` for `-` and a `SUITE`."""
