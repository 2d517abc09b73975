"""Potentials beside labeled frames: predictions, errors, and the trivial predictors that put them in proportion."""
