"""Streams of training and validation batches over all devices and processes."""

from typing import Any

from mlip.data import Store
from mlip.graph.loader import EvaluationLoader, TrainingLoader
from mlip.training import parallel, processes
from mlip.training.epoch_sources import Epoch
from mlip.training.task import Task, TrainingData


def training_batches(task: Task, store: Store, data: TrainingData, epoch: Epoch) -> TrainingLoader:
    """Endless, shuffled, resumable stream of training batches."""
    recipe, options = task.recipe, _sharing()
    # To the loader, the parts that a device processes one after another count as devices.
    options["n_devices"] *= recipe.train.accumulate
    return TrainingLoader(
        task.graphs(store, data),
        list(epoch.sources.values()),
        batch_size=recipe.train.batch_size,
        n_frames=epoch.n_frames,
        seed=recipe.train.seed,
        block=recipe.data.shuffle_block,
        n_workers=recipe.data.workers,
        **options,
    )


def validation_batches(task: Task, store: Store, data: TrainingData) -> EvaluationLoader:
    """The validation frames once, always in the same order."""
    train = task.recipe.train
    batch_size = max(1, train.batch_size // train.accumulate)
    return EvaluationLoader(task.graphs(store, data), data.validation, batch_size=batch_size, **_sharing())


def _sharing() -> dict[str, Any]:
    """Arguments of a loader that describe the devices and processes sharing its batches."""
    return {
        "n_devices": parallel.n_devices(),
        "process_index": processes.index(),
        "process_count": processes.count(),
        "gather": processes.gather,
    }
