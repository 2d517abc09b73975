"""The story of a run: recipe in, potential out."""

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jraph import GraphsTuple

from mlip.data import Store
from mlip.errors import MlipError
from mlip.graph.loader import BatchStatistics, EvaluationLoader, TrainingLoader
from mlip.models import build_model, check_elements, heads_of
from mlip.potential import Potential, PotentialMetadata, init_params
from mlip.runtime import precision_scope, set_up_jax
from mlip.training import parallel
from mlip.training.checkpoint import Checkpoints
from mlip.training.dataset import Dataset, open_dataset, store_fingerprint
from mlip.training.evaluation import evaluate, store_frames
from mlip.training.frame_errors import Errors
from mlip.training.log import RunLog
from mlip.training.measured import complete_recipe, describe_measured
from mlip.training.monitor import Monitor, SentStep, add_terms, describe, errors_of
from mlip.training.plots import plot_learning_curves, plot_parity
from mlip.training.recipe import Recipe
from mlip.training.run_folder import RunFolder, open_run_folder
from mlip.training.step import TrainState, initial_state, make_train_step, make_validation_step

_PARITY_FRAMES = 2000


def train(recipe: Recipe, *, resume: bool = False, quiet: bool = False) -> Path:
    """Run `recipe`, or go on with it where it stopped; returns the path of the exported potential.

    Raises:
        MlipError: the run folder holds a run and `resume` is false; the data do not fit the recipe; too many
            steps were not finite.
    """
    started = time.perf_counter()
    set_up_jax()
    with Store(recipe.data.store) as store:
        folder = open_run_folder(recipe, store_fingerprint(store), resume=resume)

    with (
        precision_scope(recipe.train.precision),
        Store(recipe.data.store) as store,
        Checkpoints(folder.checkpoints, keep=recipe.train.keep) as checkpoints,
    ):
        data = open_dataset(store, heads_of(recipe.model), remembered=folder.statistics)
        written, recipe = recipe, complete_recipe(recipe, store, data, remembered=folder.model)
        batches = training_batches(recipe, store, data)
        validation = validation_batches(recipe, store, data)
        n_steps = recipe.train.epochs * batches.steps_per_epoch

        check_elements(recipe.model, data.elements)
        model = build_model(recipe.model)
        train_step = make_train_step(model, recipe, n_steps)
        validation_step = make_validation_step(model, recipe)
        scale = parallel.replicate(np.asarray(data.scale, recipe.train.precision))

        state = fresh = new_state(recipe, n_steps)
        done, skipped = 0, 0
        if checkpoints.last_step is not None:
            done = checkpoints.last_step
            state, progress = checkpoints.restore(state)
            batches.set_state(progress["batches"])
            skipped = progress["skipped"]

        with RunLog(folder.path, n_steps=n_steps, resumed_from=done, quiet=quiet) as log:
            if resume and not done:
                log.say(f"no checkpoint in {folder.path}: the run starts from the beginning")
            for line in (data.describe(), *describe_measured(written, recipe)):
                log.say(line)
            log.say(describe_run(recipe, state, batches.steps_per_epoch, n_steps, done))
            monitor = Monitor(recipe, store, log, batches.steps_per_epoch, started=started, skipped=skipped)
            state = parallel.replicate(state)

            for step in range(done + 1, n_steps + 1):
                batch, statistics, waited = timed_next(batches)
                state, report = train_step(state, batch, scale)
                monitor.add(SentStep(step, report, batch.globals["frame"], statistics, waited))

                is_epoch_end = step % batches.steps_per_epoch == 0
                if not is_epoch_end and not is_due(step, recipe.train.checkpoint_every):
                    continue
                loss, epoch = None, step // batches.steps_per_epoch
                health = f"epoch {epoch:4d}  {monitor.end_epoch()}" if is_epoch_end else ""
                with monitor.paused():
                    if is_epoch_end and has_validation(data, recipe, epoch):
                        errors = validate(validation_step, state, validation, scale, recipe)
                        loss = errors["loss"]
                        log.write("validation", step, {"epoch": epoch, **errors})
                        health += f"  validation {describe(errors)}"
                    if health:
                        log.say(health)
                    progress = {"batches": batches.get_state(), "skipped": monitor.skipped}
                    checkpoints.save(step, parallel.fetch(state), progress, loss)

            best = checkpoints.best_step
            if best is None:
                best = n_steps
                if len(data.validation):
                    log.say("warning: no validation loss was finite; the last step is exported, not the best one")
            best_state, _ = checkpoints.restore(fresh, best)
            potential = export(recipe, store, data, best_state, best)
            potential.save(folder.potential)
            draw(folder, potential, store, log)
            log.say(f"potential of step {best}: {folder.potential}")
    return folder.potential


def training_batches(recipe: Recipe, store: Store, data: Dataset) -> TrainingLoader:
    """The endless, shuffled, resumable stream of training batches."""
    return TrainingLoader(
        store,
        data.train,
        batch_size=recipe.train.batch_size,
        seed=recipe.train.seed,
        n_workers=recipe.data.workers,
        **_graph_options(recipe, data),
    )


def validation_batches(recipe: Recipe, store: Store, data: Dataset) -> EvaluationLoader:
    """The validation frames, once, always in the same order."""
    return EvaluationLoader(store, data.validation, batch_size=recipe.train.batch_size, **_graph_options(recipe, data))


def _graph_options(recipe: Recipe, data: Dataset) -> dict[str, Any]:
    return {
        "cutoff": recipe.model.cutoff,
        "reference_energies": data.reference_energies_by_z,
        "head_of_material": data.head_of_material,
        "n_devices": parallel.n_devices(),
        "dtype": np.dtype(recipe.train.precision).type,
    }


def new_state(recipe: Recipe, n_steps: int) -> TrainState:
    """The state before the first step, of one device, on the host."""
    params = init_params(recipe.model, recipe.train.seed)
    params = jax.tree.map(lambda x: np.asarray(x, recipe.train.precision), params)
    return jax.tree.map(np.asarray, initial_state(params, recipe, n_steps))


def timed_next(batches: TrainingLoader) -> tuple[GraphsTuple, BatchStatistics, float]:
    """(batch, its statistics, seconds until it was there)."""
    start = time.perf_counter()
    return *next(batches), time.perf_counter() - start


def is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def has_validation(data: Dataset, recipe: Recipe, epoch: int) -> bool:
    """Whether this epoch ends with a validation; the last one always does, if there are frames for it."""
    return len(data.validation) > 0 and (is_due(epoch, recipe.train.validate_every) or epoch == recipe.train.epochs)


def validate(
    validation_step: Callable,
    state: TrainState,
    batches: EvaluationLoader,
    scale: np.ndarray,
    recipe: Recipe,
) -> dict[str, float]:
    """Loss and mean absolute errors of the averaged parameters over the validation frames."""
    terms = None
    for batch, _ in batches:
        terms = add_terms(terms, parallel.fetch(validation_step(state.average, batch, scale)))
    return errors_of(terms, recipe.loss)


def export(recipe: Recipe, store: Store, data: Dataset, state: TrainState, step: int) -> Potential:
    """The potential with the averaged parameters of `state`."""
    provenance = {
        "recipe": recipe.model_dump(mode="json", exclude={"out"}),
        "recipe_fingerprint": recipe.fingerprint(),
        "store_fingerprint": store_fingerprint(store),
        "training_frames": len(data.train),
        "step": step,
    }
    if "surrogate" in data.functional.lower():
        provenance["note"] = "trained on surrogate labels (a learned potential-energy surface), not on DFT"
    metadata = PotentialMetadata.of_heads(data.heads, provenance=provenance, precision=recipe.train.precision)
    return Potential(recipe.model, state.average, metadata)


def draw(folder: RunFolder, potential: Potential, store: Store, log: RunLog) -> None:
    """Learning curves, and the parity of the exported potential on the first validation frames, if any."""
    plot_learning_curves(folder.path)
    errors = Errors()
    try:
        for head in potential.heads:
            frames = store_frames(store, "val", functional=head if len(potential.heads) > 1 else None)
            evaluate(potential.of_head(head), islice(frames, _PARITY_FRAMES), errors=errors)
    except MlipError as error:  # the potential is made: a missing picture does not fail the run
        log.say(f"no parity plot of the validation frames: {error.what}")
        return
    plot_parity(errors, folder.path, title=f"validation: {folder.path}")


def describe_run(recipe: Recipe, state: TrainState, steps_per_epoch: int, n_steps: int, done: int) -> str:
    """A line for whoever starts a run."""
    n_parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    return (
        f"{recipe.model.model} with {n_parameters:,} parameters on {parallel.describe_devices()}; "
        f"{recipe.train.epochs} epochs of {steps_per_epoch} steps of {recipe.train.batch_size} structures"
        + (f"; resumed after step {done} of {n_steps}" if done else "")
    )


def describe_plan(recipe: Recipe) -> str:
    """What `train` would do; reads the training split once, writes nothing."""
    set_up_jax()
    with precision_scope(recipe.train.precision), Store(recipe.data.store) as store:
        data = open_dataset(store, heads_of(recipe.model))
        written, recipe = recipe, complete_recipe(recipe, store, data)
        batches = training_batches(recipe, store, data)
        n_steps = recipe.train.epochs * batches.steps_per_epoch
        n_atoms, n_edges = batches.sizes.mean(axis=0)
        return "\n".join(
            [
                data.describe(),
                *describe_measured(written, recipe),
                describe_run(recipe, new_state(recipe, n_steps), batches.steps_per_epoch, n_steps, done=0),
                f"a structure has {n_atoms:.1f} atoms and {n_edges:.0f} edges on average",
                "shapes of batches (atoms, edges, structures a device): "
                + ", ".join(str(tuple(shape)) for shape in batches.ladder.rungs),
                f"{n_steps} steps in all; run folder: {recipe.out}",
            ]
        )
