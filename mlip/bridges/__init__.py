"""Adapters that offer mlip's potentials to other programs, one file per program, which must be installed."""
