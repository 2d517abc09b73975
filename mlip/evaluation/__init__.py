"""Evaluation of potentials on labeled frames: predictions, errors, and trivial predictors for comparison."""
