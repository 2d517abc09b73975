"""Verdicts on relaxations that a benchmark can give beside our own, each a set of rules in a file."""
