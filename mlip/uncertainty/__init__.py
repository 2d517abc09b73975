"""Uncertainty of a potential's predictions, from an ensemble or from the last layer of a single network."""
