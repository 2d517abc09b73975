"""Our potentials as other programs want them, one file a program; each needs that program installed."""
