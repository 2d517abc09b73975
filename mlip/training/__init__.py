"""A recipe into a run folder and a model: `loop.py` is the story, `task.py` what each kind of model adds to it."""
