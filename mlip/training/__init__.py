"""Training: from a recipe to a run folder and a model. `loop.py` has the main loop, `task.py` the interface that each
kind of model implements."""
