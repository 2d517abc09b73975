"""Training of property models: one scalar for each relaxed crystal."""
