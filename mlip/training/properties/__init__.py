"""Property models as a task of training: one scalar of each relaxed crystal."""
