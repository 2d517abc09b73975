"""Learning rates start, peak and end where the recipe says; stage two changes what it should and nothing else."""

from pathlib import Path

import numpy as np
import pytest

from mlip.models import parse_config
from mlip.training.recipe import DataRecipe, LossRecipe, Recipe, ScheduleRecipe, StageTwoRecipe, TrainRecipe
from mlip.training.schedule import Improvement, Plan
from mlip.training.task_of_recipe import task_of


def plan(schedule="cosine", *, epochs=10, steps_per_epoch=10, stage_two=None, **train) -> Plan:
    recipe = Recipe(
        data=DataRecipe(store=Path("unused")),
        model=parse_config({"model": "m3gnet"}),
        loss=LossRecipe(energy=1, forces=100, stress=2),
        train=TrainRecipe(epochs=epochs, batch_size=1, learning_rate=0.01, schedule=schedule, **train),
        stage_two=None if stage_two is None else StageTwoRecipe(**stage_two),
        out=Path("unused"),
    )
    return Plan(task_of(recipe), steps_per_epoch)


def rates(plan: Plan) -> np.ndarray:
    return np.array([plan.learning_rate(step) for step in range(1, plan.n_steps + 1)])


@pytest.mark.parametrize("kind", ["cosine", "exponential"])
def test_a_schedule_rises_to_its_peak_and_falls_to_its_fraction(kind):
    found = rates(plan({"kind": kind, "warmup_steps": 10, "final_fraction": 0.05}))
    assert found[0] == pytest.approx(0.001)
    assert found[9] == found[10] == pytest.approx(0.01)
    assert np.all(np.diff(found[:10]) > 0)
    assert np.all(np.diff(found[10:]) < 0)
    assert found[-1] == pytest.approx(0.0005, rel=0.1)


def test_a_rise_begins_where_the_recipe_says():
    found = rates(plan({"kind": "constant", "warmup_steps": 10, "warmup_from": 0.2}))
    np.testing.assert_allclose(found[:11], 0.01 * np.array([*np.arange(0.28, 1.001, 0.08), 1.0]))


def test_a_constant_schedule_stays():
    assert np.all(rates(plan("constant")) == 0.01)


def test_the_cyclical_schedule_is_that_of_cgat(shared):
    golden = np.load(shared / "goldens/cgat/lr_schedule.npz")
    print({key: golden[key].shape for key in golden.files})
    schedule = {"kind": "cyclical", "period": 130, "final_fraction": 0.1}
    found = rates(plan(schedule, epochs=390, steps_per_epoch=1)) / 0.01
    assert found[[0, 65, 130, 195, 260, 325]] == pytest.approx([0.1, 1, 0.1, 1, 0.1, 1])


def test_one_cycle_is_that_of_pytorch(shared):
    golden = np.load(shared / "goldens/alignn/onecycle_lr.npz")
    cycle = {"kind": "one-cycle", "final_fraction": 1 / 25e4, "momentum": [0.95, 0.85]}
    found = plan(cycle, epochs=10, steps_per_epoch=10)
    np.testing.assert_allclose(rates(found) / 10, golden["lr"], rtol=1e-12)
    momenta = [float(found.momentum(step)) for step in range(1, 101)]
    np.testing.assert_allclose(momenta, golden["beta1"], rtol=1e-12)
    knobs = found.knobs(1)
    assert float(knobs.momentum) == pytest.approx(0.95)
    assert plan("cosine").knobs(1).momentum is None  # not an argument of the step then
    assert np.isfinite(rates(plan(cycle, epochs=1, steps_per_epoch=1))).all()


def test_a_plateau_lowers_the_rate_after_its_patience():
    schedule = ScheduleRecipe(kind="plateau", patience=2, factor=0.5, final_fraction=0.2)
    improvement, factors = Improvement(), []
    for loss in (3.0, 2.0, 2.5, 2.5, 2.5, 1.0, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5):
        improvement.observe(loss, schedule, stage=1)
        factors.append(improvement.plateau_factor)
    assert factors == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]
    assert improvement.since_best == 6
    assert plan(schedule.model_dump()).learning_rate(50, 0.5) == pytest.approx(0.005)
    assert plan(schedule.model_dump()).learning_rate(50, 0.125) == pytest.approx(0.002)  # not below final_fraction


def test_losses_of_another_stage_are_not_compared():
    improvement = Improvement()
    for loss, stage in ((1.0, 1), (1.5, 1), (70.0, 2)):
        improvement.observe(loss, ScheduleRecipe(), stage)
    assert improvement.since_best == 0
    assert improvement.best == 70.0


def test_stage_two_changes_the_weights_it_names_and_keeps_the_stress():
    found = plan("constant", stage_two={"after_epoch": 5, "energy": 10, "learning_rate": 0.001})
    assert found.weights(5) == {"energy": 1, "forces": 100, "stress": 2}
    assert found.weights(6) == {"energy": 10, "forces": 100, "stress": 2}
    assert found.first_of_stage(51)
    assert not found.first_of_stage(50)


def test_stage_two_anneals_linearly_to_its_rate_within_an_epoch():
    found = rates(plan("constant", stage_two={"after_epoch": 5, "learning_rate": 0.001}))
    assert np.all(found[:50] == 0.01)
    assert np.allclose(np.diff(found[49:60]), -0.0009)
    assert found[59:] == pytest.approx(0.001)


def test_stage_two_without_a_rate_leaves_the_schedule_alone():
    assert np.all(rates(plan(stage_two={"after_epoch": 5, "energy": 10})) == rates(plan()))


def test_weight_averaging_gives_the_mean_of_the_ends_of_epochs():
    found = plan(stage_two={"after_epoch": 5, "average": True})
    rng = np.random.default_rng(0)
    average, ends = 7.0, []
    for step in range(51, 101):
        value, decay = rng.normal(), found.average_decay(step)
        average = decay * average + (1 - decay) * value
        if found.is_epoch_end(step):
            ends.append(value)
    assert average == pytest.approx(np.mean(ends))


def test_the_average_forgets_its_start_within_a_short_run():
    found, average = plan(ema_decay=0.999), 100.0
    for step in range(1, 31):
        decay = found.average_decay(step)
        average = decay * average + (1 - decay) * 1.0
    assert abs(average - 1.0) < 0.01  # a fixed decay of 0.999 would leave 97 % of the start
