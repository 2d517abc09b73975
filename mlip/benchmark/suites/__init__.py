"""Suites that benchmark a potential in minutes. A suite is one module here and one entry of `NAMES`."""

NAMES = ("relaxation", "eos", "elasticity", "phonons", "pressure", "low-dimensional", "dimers")
"""Names of the suites; the module of each has `_` in place of `-` and defines `SUITE`."""
