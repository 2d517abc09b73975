"""Adapters that offer mlip's potentials to other programs, one file a program, which must be installed."""
