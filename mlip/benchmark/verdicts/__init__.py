"""Verdicts on relaxations that a benchmark can record beside our own; the rules of each are a module."""
