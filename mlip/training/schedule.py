"""Values that the host passes to each step of a run: learning rate, loss weights, decay of the average.

All of them are functions of the step (and, for a plateau, of the validations so far), so that a resumed run continues
as if uninterrupted. None is compiled into the step: other schedules, longer runs and a second stage use the same
program.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mlip.training.recipe import Recipe, ScheduleRecipe
from mlip.training.task import Task

Scalar = Float[np.ndarray, ""]


class Knobs(NamedTuple):
    """Values that the host passes to every step."""

    learning_rate: Scalar
    average_decay: Scalar
    """Decay d in average <- d * average + (1 - d) * parameters."""
    weights: dict[str, Scalar]
    """Weight of each term of the loss that is fitted in any stage."""
    seed: Scalar
    """Seed of the step's random numbers, for networks that need them."""
    momentum: Scalar | None = None
    """Adam's first beta, if the schedule changes it."""


@dataclass(frozen=True)
class Plan:
    """Steps of a run; steps and epochs are counted from 1."""

    task: Task
    steps_per_epoch: int

    @property
    def recipe(self) -> Recipe:
        return self.task.recipe

    @property
    def n_steps(self) -> int:
        return self.recipe.train.epochs * self.steps_per_epoch

    def epoch_of(self, step: int) -> int:
        return (step - 1) // self.steps_per_epoch + 1

    def is_epoch_end(self, step: int) -> bool:
        return step % self.steps_per_epoch == 0

    @property
    def last_stage(self) -> int:
        return 1 if self.recipe.stage_two is None else 2

    def stage_of(self, epoch: int) -> int:
        """Stage of an epoch, 1 or 2."""
        stage_two = self.recipe.stage_two
        return 2 if stage_two is not None and epoch > stage_two.after_epoch else 1

    def first_of_stage(self, step: int) -> bool:
        """Whether a stage begins with this step."""
        first_epoch = 1 if self.recipe.stage_two is None else self.recipe.stage_two.after_epoch + 1
        return step in (1, (first_epoch - 1) * self.steps_per_epoch + 1)

    @property
    def fitted(self) -> tuple[str, ...]:
        """Terms of the loss with a nonzero weight in any stage."""
        stages = range(1, self.last_stage + 1)
        names = self.task.weights(1)
        return tuple(name for name in names if any(self.task.weights(stage)[name] for stage in stages))

    def weights(self, epoch: int) -> dict[str, float]:
        """Weights of the fitted terms of the loss in this epoch."""
        return {name: weight for name, weight in self.task.weights(self.stage_of(epoch)).items() if name in self.fitted}

    def learning_rate(self, step: int, plateau_factor: float = 1.0) -> float:
        """Learning rate of a step.

        Args:
            plateau_factor: factor from the validations so far (plateau schedule).
        """
        stage_two = self.recipe.stage_two
        if stage_two is None or stage_two.learning_rate is None or self.stage_of(self.epoch_of(step)) == 1:
            return self._stage_one_rate(step, plateau_factor)
        start = stage_two.after_epoch * self.steps_per_epoch
        ramp = stage_two.anneal_epochs * self.steps_per_epoch
        done = min(1.0, (step - start) / ramp) if ramp else 1.0
        before = self._stage_one_rate(start, plateau_factor)
        return before + done * (stage_two.learning_rate - before)

    def _stage_one_rate(self, step: int, plateau_factor: float) -> float:
        train = self.recipe.train
        schedule = train.schedule
        if step <= schedule.warmup_steps:
            risen = step / schedule.warmup_steps
            return train.learning_rate * (schedule.warmup_from + (1 - schedule.warmup_from) * risen)
        stage_two = self.recipe.stage_two
        ends = stage_two is not None and stage_two.learning_rate is not None
        n_steps = stage_two.after_epoch * self.steps_per_epoch if ends else self.n_steps
        done = (step - 1 - schedule.warmup_steps) / max(n_steps - schedule.warmup_steps, 1)
        if schedule.kind == "one-cycle":
            height = _height_of_cycle(step - 1, n_steps, schedule.rise)
            low = schedule.start_fraction if height.is_rising else schedule.final_fraction
            return train.learning_rate * (low + (1 - low) * height.share)
        by_step = schedule.moves == "each step"
        epochs = (step - 1) / self.steps_per_epoch if by_step else self.epoch_of(step) - 1
        return train.learning_rate * _fraction_of_peak(schedule, done, epochs, plateau_factor)

    @property
    def depends_on_epochs(self) -> bool:
        """Whether the learning rate before the end depends on `train.epochs`, so that changing it alters the
        remaining steps."""
        stage_two = self.recipe.stage_two
        ends = stage_two is not None and stage_two.learning_rate is not None
        return self.recipe.train.schedule.kind in ("cosine", "exponential", "one-cycle") and not ends

    def momentum(self, step: int) -> float | None:
        """Adam's first beta in a one-cycle schedule with momentum, which is lowest where the rate is highest; otherwise
        None."""
        schedule = self.recipe.train.schedule
        if schedule.momentum is None:
            return None
        highest, lowest = schedule.momentum
        return highest + (lowest - highest) * _height_of_cycle(step - 1, self.n_steps, schedule.rise).share

    def average_decay(self, step: int) -> float:
        """Decay of the average. An exponential average uses n / (9 + n) up to its final value, so that a short run does
        not include its random start. Stochastic weight averaging uses 1 except at the ends of epochs, of which it takes
        the plain mean. An average of good parameters changes at validations, not at steps, and uses 1."""
        stage_two, epoch = self.recipe.stage_two, self.epoch_of(step)
        if stage_two is not None and stage_two.average and epoch > stage_two.after_epoch:
            averaged = epoch - stage_two.after_epoch  # number of averaged ends of epochs, including this one
            return 1 - 1 / averaged if self.is_epoch_end(step) else 1.0
        if self.recipe.train.average == "good":
            return 1.0
        if self.recipe.train.ema_decay is None:
            return 0.0
        return min(self.recipe.train.ema_decay, step / (9 + step))

    def knobs(self, step: int, plateau_factor: float = 1.0) -> Knobs:
        """The values for a step, as arrays in the precision of the run."""
        number = np.dtype(self.recipe.train.precision).type
        weights = self.weights(self.epoch_of(step))
        momentum = self.momentum(step)
        return Knobs(
            np.asarray(number(self.learning_rate(step, plateau_factor))),
            np.asarray(number(self.average_decay(step))),
            {name: np.asarray(number(weight)) for name, weight in weights.items()},
            np.random.SeedSequence((self.recipe.train.seed, step)).generate_state(1)[0],
            None if momentum is None else np.asarray(number(momentum)),
        )


class _Height(NamedTuple):
    share: float
    """Fraction of the way from the bottom to the peak."""
    is_rising: bool


def _height_of_cycle(done: int, n_steps: int, rise: float) -> _Height:
    """Position in a cycle of `n_steps` after `done` steps. It rises and falls along half a cosine each; the last of the
    fraction `rise` of the steps is the peak (L. N. Smith, 2018; PyTorch's OneCycleLR)."""
    top = max(rise * n_steps - 1, 0.0)
    if done <= top:
        return _Height(0.5 * (1 - math.cos(math.pi * done / top)) if top else 1.0, True)
    return _Height(0.5 * (1 + math.cos(math.pi * min((done - top) / (n_steps - 1 - top), 1.0))), False)


def _fraction_of_peak(schedule: ScheduleRecipe, done: float, epochs: float, plateau_factor: float) -> float:
    """Fraction of the peak learning rate after the warm-up, except for one-cycle schedules.

    Args:
        done: completed fraction of the schedule, 0 to 1.
        epochs: number of completed epochs, fractional if the rate changes every step.
    """
    final = schedule.final_fraction
    match schedule.kind:
        case "cosine":
            return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))
        case "exponential":
            return final**done
        case "cyclical":
            phase = epochs / schedule.period % 1
            return final + (1 - final) * (1 - abs(2 * phase - 1))
        case "plateau":
            return max(final, plateau_factor)
        case _:
            return 1.0


@dataclass
class Improvement:
    """Progress of the validations, for the plateau schedule and early stopping. Small and JSON-serializable."""

    best: float = math.inf
    stale: int = 0
    """Validations since the best one, or since the rate was last reduced."""
    since_best: int = 0
    plateau_factor: float = 1.0
    stage: int = 1

    def observe(self, loss: float, schedule: ScheduleRecipe, stage: int) -> None:
        """Register a validation loss; losses of different stages are not compared."""
        if stage != self.stage:
            self.best, self.stale, self.since_best, self.stage = math.inf, 0, 0, stage
        if loss < self.best:
            self.best, self.stale, self.since_best = loss, 0, 0
            return
        self.stale += 1
        self.since_best += 1
        if schedule.kind == "plateau" and self.stale > schedule.patience:
            self.plateau_factor, self.stale = self.plateau_factor * schedule.factor, 0
