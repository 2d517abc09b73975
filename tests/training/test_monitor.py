"""What a run says of its health: no step is missing from the log, and pauses do not count as slowness."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlip.data import Store
from mlip.graph.batching import Padding, Shape
from mlip.graph.loader import BatchStatistics
from mlip.training.hard_examples import HARD_EXAMPLES, HardExamples
from mlip.training.log import RunLog, read_metrics
from mlip.training.monitor import Monitor, SentStep
from mlip.training.schedule import Plan
from mlip.training.step import StepReport
from mlip.training.task_of_recipe import task_of
from mlip.training.terms import Sums

BATCH = BatchStatistics(8, 16, 200, Shape(32, 256, 9), Padding(0.1, 0.2))


def sent(step: int, gradient_norm: float = 1.0, losses=(0.125,) * 8) -> SentStep:
    """A step of one device with eight structures; a gradient that is not finite was skipped."""
    terms = {name: Sums(1.0, 2.0, 8.0) for name in ("energy", "forces", "stress")}
    losses = np.array(losses)
    report = StepReport(losses.sum(), terms, gradient_norm, np.isfinite(gradient_norm), losses)
    report = jax.tree.map(lambda x: jnp.asarray(x)[None], report)
    return SentStep(step, 0.01, report, np.arange(8)[None], BATCH, 0.0)


@pytest.fixture
def monitor(tiny_recipe, emt_store, tmp_path):
    task = task_of(tiny_recipe("train.max_skipped=1"))
    plan = Plan(task, steps_per_epoch=6)
    with Store(emt_store) as store, RunLog(tmp_path, n_steps=100, quantities=task.quantities, quiet=True) as log:
        yield Monitor(plan, store, log, HardExamples(tmp_path, store), started=time.perf_counter())


def test_a_checkpoint_in_mid_epoch_loses_no_train_record(monitor, tmp_path):
    for step in range(1, 4):
        monitor.add(sent(step))
    with monitor.paused():
        assert [record["step"] for record in read_metrics(tmp_path, "train")] == [3]
    monitor.add(sent(4))
    monitor.end_epoch()
    assert [record["step"] for record in read_metrics(tmp_path, "train")] == [3, 4]


def test_padding_of_batches_without_edges_is_that_of_their_nodes(monitor, tmp_path):
    without_edges = BATCH._replace(n_edges=0, padding=Padding(0.25, 1.0))
    for step in range(1, 3):
        monitor.add(sent(step)._replace(batch=without_edges))
    monitor.end_epoch()
    assert read_metrics(tmp_path, "train")[-1]["padded_fraction"] == 0.25


def test_a_pause_does_not_lower_the_speed(monitor):
    for step in range(1, 4):
        monitor.add(sent(step))
    with monitor.paused():
        time.sleep(1.0)
    monitor.add(sent(4))
    speed = float(monitor.end_epoch().split()[0].replace(",", ""))
    assert speed > 3 * 8 / 1.0  # steps 2 to 4; without the pause they take milliseconds


def test_an_epoch_of_one_step_has_a_health_line(monitor):
    monitor.add(sent(1))
    assert "data wait 0%, padding 20%, 1 compiled" in monitor.end_epoch()


def test_the_mean_gradient_norm_leaves_out_skipped_steps(monitor, tmp_path):
    for step, norm in enumerate([2.0, np.nan, 4.0], start=1):
        monitor.add(sent(step, norm))
    monitor.end_epoch()
    (record,) = read_metrics(tmp_path, "train")
    assert record["gradient_norm"] == pytest.approx(3.0)
    assert record["skipped_steps"] == 1


def test_an_epoch_of_skipped_steps_alone_has_a_health_line_and_no_record(monitor, tmp_path):
    for step in (1, 2):
        monitor.add(sent(step, np.nan))
    assert "structures/s" in monitor.end_epoch()
    assert not read_metrics(tmp_path, "train")


def test_a_loss_spike_is_written_down_with_the_frames_that_made_it(monitor, tmp_path):
    for step in range(1, 31):
        monitor.add(sent(step, losses=np.linspace(0.9, 1.1, 8) + 0.01 * step))
    monitor.add(sent(31, losses=[1, 1, 1, 90, 1, 9, 1, 1]))
    monitor.add(sent(32))
    monitor.flush()
    (line,) = (tmp_path / HARD_EXAMPLES).read_text().splitlines()
    record = json.loads(line)
    assert record["step"] == 31
    assert record["loss"] == pytest.approx(105)
    assert record["usual_loss"] == pytest.approx(8, rel=0.2)
    assert record["frames"][:2] == [3, 5]
    assert record["materials"][:2] == ["emt-3", "emt-5"]
    assert record["shares"][0] == pytest.approx(90 / 105, abs=1e-4)


def test_losses_below_zero_are_no_spikes(tmp_path, emt_store):
    with Store(emt_store) as store:
        hard_examples = HardExamples(tmp_path, store)
        assert not any(hard_examples.is_spike(-1.0 - 0.01 * step) for step in range(40))


def test_spikes_after_the_step_that_a_run_goes_on_from_are_dropped(tmp_path, emt_store):
    lines = [json.dumps({"step": step}) for step in (3, 8)]
    (tmp_path / HARD_EXAMPLES).write_text("\n".join([*lines, '{"step": 9, "lo']))
    with Store(emt_store) as store:
        HardExamples(tmp_path, store, resumed_from=5)
    assert (tmp_path / HARD_EXAMPLES).read_text() == lines[0] + "\n"
