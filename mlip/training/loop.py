"""The main loop of a training run, from the recipe to the model."""

import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree
from jraph import GraphsTuple

from mlip.data import Store
from mlip.errors import MlipError
from mlip.graph.loader import BatchStatistics, TrainingLoader
from mlip.models import check_elements
from mlip.recipe_reading import dotted
from mlip.runtime import ProductPrecision, precision_scope, set_up_jax
from mlip.training import parallel, processes
from mlip.training.batches import training_batches, validation_batches
from mlip.training.checkpoint import Checkpoints
from mlip.training.epoch_sources import describe_epoch, epoch_of
from mlip.training.good_average import GoodAverage
from mlip.training.hard_examples import HardExamples
from mlip.training.log import RunLog, SilentLog
from mlip.training.measured import complete_recipe, describe_measured
from mlip.training.monitor import Monitor, SentStep
from mlip.training.provenance import provenance_of
from mlip.training.quantity import describe, errors_of
from mlip.training.recipe import Recipe
from mlip.training.recipe_file import load_recipe
from mlip.training.report.curves import plot_learning_curves
from mlip.training.run_folder import RunFolder, open_run_folder, store_fingerprint
from mlip.training.schedule import Improvement, Plan
from mlip.training.step import TrainState, initial_state, train_step_of, validation_step_of
from mlip.training.task import Task, TrainedModel, TrainingData
from mlip.training.task_of_recipe import task_of
from mlip.training.terms import add_terms
from mlip.training.training_run import TrainingRun


def train(recipe: Recipe | str | Path, *, resume: bool = False, quiet: bool = False, **values: Any) -> TrainingRun:
    """Run a recipe, or resume it where it stopped::

        run = mlip.train("m3gnet-pbesol", data={"store": "store.h5"}, out="runs/first", train={"epochs": 50})
        potential = mlip.load(run)

    Args:
        recipe: a YAML file, the name of one of mlip's recipes (`mlip recipes` lists them), or a `Recipe`.
        resume: continue the run in the recipe's folder.
        quiet: print nothing.
        values: sections of the recipe with values that override its own.

    Returns:
        The run. It can be used in place of the path of its model, and notebooks show its curves and errors.

    When several processes train together (`processes.joined`), all make the same call, and the first one writes.

    Raises:
        MlipError: the run folder holds a run and `resume` is false, or another process trains into it; the data do not
            match the recipe; or too many steps were not finite.
    """
    started = time.perf_counter()
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, dotted(values))
    elif values:
        raise TypeError("values are for a recipe that is read; this one has been")
    set_up_jax()
    with open_store(recipe) as store:
        fingerprint = store_fingerprint(store)
    processes.check_same(recipe=recipe.fingerprint(), store=fingerprint, number_of_devices=parallel.n_devices())
    folder = RunFolder(recipe.out)
    with ExitStack() as held:
        processes.from_first(lambda: str(held.enter_context(open_run_folder(recipe, fingerprint, resume=resume)).path))
        try:
            _train(recipe, folder, started=started, resume=resume, quiet=quiet)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(" ".join(filter(None, (str(interrupt), how_to_go_on(folder))))) from None
    return TrainingRun(folder.path)


def how_to_go_on(folder: RunFolder) -> str:
    """Describe what an interrupted run left behind, and the commands to resume or export it."""
    last = folder.last_checkpoint()
    if last is None:
        return f"{folder.path} has no checkpoint yet; the same command begins again"
    return (
        f"{folder.path} has a checkpoint of step {last}. Go on: the same command with --resume. The best state so far: "
        f"mlip export {folder.path}"
    )


def _train(recipe: Recipe, folder: RunFolder, *, started: float, resume: bool, quiet: bool) -> None:
    with (
        precision_scope(recipe.train.precision),
        open_store(recipe) as store,
        Checkpoints(folder.checkpoints, keep=recipe.train.keep) as checkpoints,
    ):
        run = processes.after_first(lambda: Run(recipe, store, folder))
        run.restore(checkpoints)
        with open_log(run, quiet=quiet) if processes.is_first() else SilentLog() as log:
            if resume and not run.done:
                log.say(f"no checkpoint in {folder.path}: the run starts from the beginning")
            for line in run.describe():
                log.say(line)
            hard_examples = HardExamples(folder.path, store, resumed_from=run.done)
            monitor = Monitor(run.plan, store, log, hard_examples, started=started, state=run.monitored)
            run.note_changed_epochs(log)
            try:
                run.take_steps(checkpoints, monitor, log)
                run.finish(checkpoints, log)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"after step {run.done} of {run.plan.n_steps};") from None


class Run:
    """State and components of a run.

    Args:
        folder: run folder, which keeps quantities measured on the data; None (for a plan) measures them anew and writes
            nothing.
    """

    def __init__(self, recipe: Recipe, store: Store, folder: RunFolder | None = None):
        self.store, self.folder, self.written = store, folder, recipe
        self.task, self.start, self.data = prepare(recipe, folder)
        self.recipe = self.task.recipe
        check_elements(self.recipe.model, self.data.elements)
        check_validation(recipe, self.data)
        self.epoch = epoch_of(recipe.data, store, self.data)
        self.batches = training_batches(self.task, store, self.data, self.epoch)
        self.validation = validation_batches(self.task, store, self.data)
        self.plan = Plan(self.task, self.batches.steps_per_epoch)
        self.fresh = new_state(self.task, None if self.start is None else self.start.params)
        self.state, self.done, self.improvement, self.monitored = self.fresh, 0, Improvement(), None
        self.good_average = GoodAverage()
        self.epochs_before = recipe.train.epochs
        """Value of `train.epochs` in the run that wrote the checkpoint."""
        self.train_step, self.validation_step = train_step_of(_as_computed(self.task)), validation_step_of(self.task)
        self.scale = parallel.replicate(np.asarray(self.data.scale, recipe.train.precision))

    def restore(self, checkpoints: Checkpoints) -> None:
        """Restore the last checkpoint, if there is one.

        Raises:
            MlipError: the run has already completed more epochs than the recipe now has.
        """
        if checkpoints.last_step is None:
            return
        self.done = checkpoints.last_step
        if self.done > self.plan.n_steps:
            now, epoch = self.recipe.train.epochs, self.plan.epoch_of(self.done)
            raise MlipError(
                f"train.epochs is {now} now, and the run is in epoch {epoch} already",
                where=str(self.folder.path),
                fix=f"train.epochs={epoch} or more; the best state so far: mlip export {self.folder.path}",
            )
        self.state, progress = checkpoints.restore(self.fresh)
        self.batches.set_state(progress["batches"])
        self.monitored = progress["monitor"]
        self.improvement = Improvement(**progress["improvement"])
        self.good_average = GoodAverage(**progress.get("good_average", {}))
        self.epochs_before = progress.get("epochs", self.epochs_before)

    def describe(self) -> list[str]:
        """Lines for the user about the run at its start."""
        recipe, plan = self.recipe, self.plan
        n_parameters = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        parts = f" in {recipe.train.accumulate} parts" if recipe.train.accumulate > 1 else ""
        return [
            self.data.describe(),
            *describe_epoch(self.epoch),
            *describe_measured(self.written, recipe),
            f"{recipe.model.model} with {n_parameters:,} parameters on {parallel.describe_devices()}; "
            f"{recipe.train.epochs} epochs of {plan.steps_per_epoch} steps of "
            f"{recipe.train.batch_size} structures{parts}"
            + (f", stage two after epoch {recipe.stage_two.after_epoch}" if recipe.stage_two else "")
            + (f"; resumed after step {self.done} of {plan.n_steps}" if self.done else ""),
            *describe_products(recipe.train.matmul_precision),
            *([] if len(self.data.validation) else ["warning: no validation frames: the last step will be exported"]),
        ]

    def note_changed_epochs(self, log: RunLog) -> None:
        """Report and log that a resumed run has a different number of epochs."""
        before, now = self.epochs_before, self.recipe.train.epochs
        if before == now:
            return
        log.write("epochs", self.done, {"before": before, "now": now})
        changed = f"train.epochs was {before} and is {now} from step {self.done + 1} on"
        if not self.plan.depends_on_epochs:
            log.say(f"{changed}; the learning rate's schedule does not depend on it")
            return
        train = self.recipe.train.model_copy(update={"epochs": before})
        old = Plan(
            replace(self.task, recipe=self.recipe.model_copy(update={"train": train})), self.plan.steps_per_epoch
        )
        factor, step = self.improvement.plateau_factor, self.done + 1
        rates = [f"{plan.learning_rate(min(step, plan.n_steps), factor):.3g}" for plan in (old, self.plan)]
        log.say(
            f"{changed}; the {train.schedule.kind} schedule is computed anew for that end: the learning rate goes from "
            f"{rates[0]} to {rates[1]}, and the result is not that of an undisturbed run of {now} epochs"
        )

    def take_steps(self, checkpoints: Checkpoints, monitor: Monitor, log: RunLog) -> None:
        """Take all remaining steps, with their validations and checkpoints."""
        plan = self.plan
        self.state = parallel.replicate(self.state)
        while self.done < plan.n_steps and not self._is_over():
            step = self.done + 1
            batch, statistics, waited = timed_next(self.batches)
            batch = parallel.cut(batch, self.recipe.train.accumulate)
            knobs = plan.knobs(step, self.improvement.plateau_factor)
            self.state, report = self.train_step(self.state, batch, self.scale, knobs)
            rate = float(knobs.learning_rate)
            monitor.add(SentStep(step, rate, report, batch.globals["frame"], statistics, waited))
            self.done = step
            if plan.is_epoch_end(step):
                self._end_epoch(checkpoints, monitor, log)
            elif is_due(step, self.recipe.train.checkpoint_every):
                with monitor.paused():
                    self._save(checkpoints, monitor)
        if self.done < plan.n_steps:
            patience = self.recipe.train.early_stopping
            log.say(f"stopped after step {self.done}: no better validation loss in the last {patience}")

    def _is_over(self) -> bool:
        """Whether early stopping applies: the last stage has stopped improving."""
        patience, improvement = self.recipe.train.early_stopping, self.improvement
        return patience is not None and improvement.stage == self.plan.last_stage and improvement.since_best >= patience

    def _end_epoch(self, checkpoints: Checkpoints, monitor: Monitor, log: RunLog) -> None:
        epoch = self.plan.epoch_of(self.done)
        health, loss = f"epoch {epoch:4d}  {monitor.end_epoch()}  training loss {monitor.epoch_loss:.4g}", None
        with monitor.paused():
            if has_validation(self.data, self.recipe, epoch):
                self._average_good(epoch)
                errors = self._validate(epoch, self.state.average)
                loss = self.task.judgement(errors)
                self.improvement.observe(loss, self.recipe.train.schedule, self.plan.stage_of(epoch))
                log.write("validation", self.done, {"epoch": epoch, **errors})
                health += f"  validation {describe(errors, self.task.quantities)}"
            log.say(health)
            if self.plan.stage_of(epoch + 1) > self.plan.stage_of(epoch):
                log.say(f"stage two from epoch {epoch + 1}: {self._describe_stage_two()}")
            self._save(checkpoints, monitor, loss)

    def _describe_stage_two(self) -> str:
        stage_two, weights = self.recipe.stage_two, self.plan.weights(self.recipe.stage_two.after_epoch + 1)
        words = ["weights " + ", ".join(f"{name} {weight:g}" for name, weight in weights.items())]
        if stage_two.learning_rate is not None:
            words.append(f"learning rate {stage_two.learning_rate:g}")
        if stage_two.average:
            words.append("mean of the parameters at the ends of epochs")
        return ", ".join(words)

    def _average_good(self, epoch: int) -> None:
        """Add the parameters to the average of good ones, if the recipe uses it and they qualify."""
        if self.recipe.train.average != "good":
            return
        error = self.task.judgement(self._validate(epoch, self.state.params))
        average, self.good_average = self.good_average.observe(self.state.average, self.state.params, error)
        self.state = self.state._replace(average=average)

    def _validate(self, epoch: int, params: PyTree) -> dict[str, float]:
        """Loss and mean absolute errors of the given parameters over the validation frames."""
        terms = None
        for batch, _ in self.validation:
            found = self.validation_step(params, batch, self.scale)
            terms = add_terms(terms, parallel.fetch(found))
        return errors_of(terms, self.plan.weights(epoch), self.task.quantities)

    def _save(self, checkpoints: Checkpoints, monitor: Monitor, loss: float | None = None) -> None:
        progress = {
            "batches": self.batches.get_state(),
            "monitor": monitor.get_state(),
            "improvement": asdict(self.improvement),
            "good_average": self.good_average._asdict(),
            "epochs": self.recipe.train.epochs,
        }
        stage = self.plan.stage_of(self.plan.epoch_of(self.done))
        checkpoints.save(self.done, parallel.fetch(self.state), progress, loss, stage)

    def finish(self, checkpoints: Checkpoints, log: RunLog) -> None:
        """Export the best state of the last stage."""
        best = checkpoints.best_step
        if best is None:
            best = self.done
            if len(self.data.validation):
                log.say("warning: no validation loss was finite; the last step is exported, not the best one")
        best_state, _ = checkpoints.restore(self.fresh, best)
        if not processes.is_first():
            return
        task, path = self.task, self.folder.path / self.task.file_name
        provenance = provenance_of(self.recipe, self.store, self.data, best, self.start, self.folder)
        model = task.export(best_state.average, self.data, provenance)
        model.save(path)
        plot_learning_curves(self.folder.path, task.quantities)
        with Store(*self.recipe.data.stores) as main:
            task.draw(self.folder, model, main, log)
        log.say(f"{task.noun} of step {best}: {path}")


def prepare(recipe: Recipe, folder: RunFolder | None) -> tuple[Task, TrainedModel | None, TrainingData]:
    """Task with its complete recipe, the starting model, and the data.

    Args:
        folder: run folder, which keeps quantities measured on the data; None measures them anew and writes nothing.

    Raises:
        MlipError: the data do not match the recipe, or the starting model does not exist.
    """
    task = task_of(recipe)
    start = task.starting_model()
    with Store(*recipe.data.stores) as main:
        data = task.open_data(main, start, folder)
        complete = complete_recipe(recipe, main, data, remembered=folder and folder.model)
    return replace(task, recipe=complete), start, data


def open_log(run: Run, *, quiet: bool) -> RunLog:
    """Log of the first process, which logs for all."""
    return RunLog(
        run.folder.path,
        n_steps=run.plan.n_steps,
        quantities=run.task.quantities,
        resumed_from=run.done,
        quiet=quiet,
        wandb_project=run.recipe.wandb_project,
    )


def open_store(recipe: Recipe) -> Store:
    """Frames of a run: the recipe's stores, followed by the replayed store."""
    replay = recipe.data.replay
    return Store(*recipe.data.stores, *([] if replay is None else [replay.store]))


def new_state(task: Task, params: PyTree | None = None) -> TrainState:
    """Host copy of the state before the first step, for one device.

    Args:
        params: parameters of the starting model; by default those of an untrained network.
    """
    train = task.recipe.train
    params = task.initial_params() if params is None else params
    params = jax.tree.map(lambda x: np.asarray(x, train.precision), params)
    return jax.tree.map(np.asarray, initial_state(params, train))


def timed_next(batches: TrainingLoader) -> tuple[GraphsTuple, BatchStatistics, float]:
    """Next batch, its statistics, and the seconds spent waiting for it."""
    start = time.perf_counter()
    return *next(batches), time.perf_counter() - start


def _as_computed(task: Task) -> Task:
    """Task with full-precision matrix products on a CPU, which has no others and rejects some in bfloat16."""
    if jax.default_backend() != "cpu":
        return task
    train = task.recipe.train.model_copy(update={"matmul_precision": "highest"})
    return replace(task, recipe=task.recipe.model_copy(update={"train": train}))


def describe_products(precision: ProductPrecision) -> list[str]:
    """Line about the precision of matrix products, if it is reduced."""
    if precision == "highest":
        return []
    on_cpu = ": without effect on a CPU, which makes them in full" if jax.default_backend() == "cpu" else ""
    return [f"matrix products of training steps in {precision}{on_cpu}"]


def is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def check_validation(recipe: Recipe, data: TrainingData) -> None:
    """Check that there are validation frames if the recipe depends on validation.

    Raises:
        MlipError: there are none.
    """
    needs = {
        "train.early_stopping": recipe.train.early_stopping,
        "a plateau": recipe.train.schedule.kind == "plateau",
        "train.average: good": recipe.train.average == "good",
    }
    asked = next((what for what, is_asked in needs.items() if is_asked), None)
    if asked is None or len(data.validation):
        return
    why, fix = "the store has none", "build it with a validation share: --split 0.9,0.05,0.05"
    if lacking := data.n_left_out:
        why = f"all {lacking} contain elements that the training set lacks"
        fix = "build it with another --seed or larger shares"
    raise MlipError(f"{asked} needs validation frames, and {why}", where=str(recipe.data.stores[0]), fix=fix)


def has_validation(data: TrainingData, recipe: Recipe, epoch: int) -> bool:
    """Whether this epoch ends with a validation; the last epoch always does if there are validation frames."""
    return len(data.validation) > 0 and (is_due(epoch, recipe.train.validate_every) or epoch == recipe.train.epochs)
