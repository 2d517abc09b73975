"""Plan of a recipe before anything is written: sizes, memory, and the time of a few real steps."""

import time
from itertools import islice

import jax
import numpy as np

from mlip.graph.batching import shape_of
from mlip.runtime import precision_scope, set_up_jax
from mlip.training import parallel
from mlip.training.loop import Run, open_store
from mlip.training.optimizer import parameter_names
from mlip.training.recipe import Recipe

_STEPS = 10
_SECONDS = 20.0  # no further step is timed after this
_NAMED = 12


def describe_plan(recipe: Recipe) -> str:
    """Describe what `train` would do. Reads the training split once, runs a few steps, and writes nothing.

    Raises:
        MlipError: the recipe or the data are invalid; see `train`.
    """
    set_up_jax()
    with precision_scope(recipe.train.precision), open_store(recipe) as store:
        run = Run(recipe, store)
        n_atoms, n_edges, *n_pairs = run.batches.sizes.mean(axis=0)
        pairs = "".join(f" and {n:.0f} bond pairs" for n in n_pairs)
        sizes = "atoms, edges, structures" + (", bond pairs" if n_pairs else "")
        lines = [
            *run.describe(),
            f"a structure has {n_atoms:.1f} atoms and {n_edges:.0f} edges{pairs} on average",
            f"shapes of batches ({sizes} a device): "
            + ", ".join(str(shape[: 3 + len(n_pairs)]) for shape in run.batches.ladder.rungs),
            f"parameters: {_names(run)}",
            *_measured(run),
            f"{run.plan.n_steps} steps in all; run folder: {recipe.out}",
        ]
        run.batches.close()
    return "\n".join(lines)


def _names(run: Run) -> str:
    """First parts of the parameters' names, as patterns for `train.frozen` and `train.decayed`."""
    rooms = list(dict.fromkeys(name.split("/")[0] + "/*" for name in parameter_names(run.state.params)))
    more = f" and {len(rooms) - _NAMED} more" if len(rooms) > _NAMED else ""
    return ", ".join(rooms[:_NAMED]) + more


def _measured(run: Run) -> list[str]:
    """Memory and time of a step, measured on batches of one shape."""
    start = time.perf_counter()
    parts = run.recipe.train.accumulate
    batch, _ = next(run.batches)
    state, knobs = parallel.replicate(run.state), run.plan.knobs(1)
    step = run.train_step.lower(state, parallel.cut(batch, parts), run.scale, knobs).compile()
    compilation = time.perf_counter() - start
    state, report = step(state, parallel.cut(batch, parts), run.scale, knobs)
    jax.block_until_ready(report)
    seconds = []
    for other, _ in islice(run.batches, _STEPS):
        if shape_of(other) != shape_of(batch):
            continue
        start = time.perf_counter()
        state, report = step(state, parallel.cut(other, parts), run.scale, knobs)
        jax.block_until_ready(report)
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > _SECONDS:
            break
    memory = step.memory_analysis()
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(run.state))
    lines = [f"memory a device: {_size(state_bytes)} of state" + _step_memory(memory)]
    if seconds:
        typical = float(np.median(seconds))
        rate, total = run.recipe.train.batch_size / typical, _duration(typical * run.plan.n_steps)
        lines.append(
            f"a step takes {typical:.3g} s ({rate:,.0f} structures/s), all of them {total}, besides"
            f" {compilation:.0f} s of compilation and the validations (median of {len(seconds)} steps)"
        )
    return lines


def _step_memory(memory) -> str:
    """Text about the memory of a step; empty if the backend does not report it."""
    return "" if memory is None else f", {_size(memory.temp_size_in_bytes)} in a step"


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 2**20:,.0f} MiB" if n_bytes < 2**30 else f"{n_bytes / 2**30:,.1f} GiB"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds > 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
