"""A round of screening: predict all candidates, keep the best of each composition, relax these and write them.

The folder of a round has recipe.yaml; round.npz, its progress; candidates.csv, histogram.csv and histogram.png;
relaxations.jsonl; candidates.h5, a store, and cifs/. A killed round resumes where it stopped when it is started again.
"""

import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from mlip.errors import MlipError
from mlip.files.one_writer import one_writer
from mlip.progress import count_bar
from mlip.screening.best import Best
from mlip.screening.candidates import Block
from mlip.screening.outputs import write_histogram, write_list, write_structures
from mlip.screening.plan import ScreeningPlan, plan_round
from mlip.screening.relaxed import relax_kept
from mlip.screening.round_state import RoundState
from mlip.screening.screen_on_cluster import screened_on_cluster
from mlip.screening.screener import Screened, Screener
from mlip.screening.screening_recipe import ScreeningRecipe

_CHECKPOINT_SECONDS = 30.0


def run_round(
    recipe: ScreeningRecipe,
    *,
    cluster: str | None = None,
    allow_functional_mismatch: bool = False,
    progress: bool = True,
    checkpoint_seconds: float = _CHECKPOINT_SECONDS,
) -> dict[str, Any]:
    """Screen, relax and write; resumes the round in the folder, if there is one.

    Args:
        cluster: a cluster in the notation of `mlip.cluster.client`, one device per worker; None: this process.
        allow_functional_mismatch: allow model, potential and the prototypes' store to be of several functionals.
        checkpoint_seconds: time between checkpoints, s; a killed process loses at most this much work.

    Returns:
        Counts, times and rates of the round.

    Raises:
        MlipError: the folder has another round, or another process screens there; also the errors of `plan_round`.
    """
    plan = plan_round(recipe, allow_functional_mismatch=allow_functional_mismatch)
    recipe.out.mkdir(parents=True, exist_ok=True)
    with one_writer(recipe.out / ".lock", MlipError("another process screens here now", where=str(recipe.out))):
        return _run(plan, cluster, progress, checkpoint_seconds)


def _run(plan: ScreeningPlan, cluster: str | None, progress: bool, checkpoint_seconds: float) -> dict[str, Any]:
    recipe, folder = plan.recipe, plan.recipe.out
    recipe.save(folder / "recipe.yaml")
    state = screen_candidates(plan, cluster=cluster, progress=progress, checkpoint_seconds=checkpoint_seconds)
    kept = list(plan.kept(state.best))
    write_list(folder / "candidates.csv", kept)
    write_histogram(folder, state.histogram, recipe.keep)
    relaxed = None
    if recipe.relax is not None:
        relaxed = relax_kept(recipe.relax, kept, folder / "relaxations.jsonl", cluster=cluster, progress=progress)
    n_written = write_structures(folder, kept, relaxed, plan)
    return {
        **describe_plan(plan),
        **_counts(plan, state),
        "relaxations": dict(Counter(record["reason"] for record in (relaxed or {}).values()).most_common()),
        **_doubtful(relaxed or {}),
        "written": n_written,
        "peak_memory_mb": round(_peak_memory_mb()),
    }


def screen_candidates(
    plan: ScreeningPlan,
    *,
    cluster: str | None = None,
    progress: bool = True,
    checkpoint_seconds: float = _CHECKPOINT_SECONDS,
) -> RoundState:
    """Predict all candidates. Resumes from round.npz in the plan's folder, which is saved at intervals and at the end.

    Raises:
        MlipError: round.npz is of another round.
    """
    path, protocol, at_most = plan.recipe.out / "round.npz", plan.protocol, plan.recipe.keep.at_most
    state = RoundState.load(path, protocol, at_most) if path.exists() else RoundState(Best(at_most))
    before, begun = state.seconds, time.monotonic()
    saved = begun
    with count_bar(progress) as bar:
        task = bar.add_task("screening", total=len(plan.candidates), completed=state.cursor)
        judged = _screened_here if cluster is None else screened_on_cluster
        for block, screened in judged(plan, state.cursor, cluster):
            state.add(screened, block.stop)
            bar.update(task, completed=state.cursor)
            state.seconds = before + time.monotonic() - begun
            if time.monotonic() - saved >= checkpoint_seconds:
                state.save(path, protocol)
                saved = time.monotonic()
    state.save(path, protocol)
    return state


def _screened_here(plan: ScreeningPlan, start: int, _: None) -> Iterator[tuple[Block, Screened]]:
    screener = Screener(plan.model, plan.candidates, plan.rules, plan.recipe.keep, plan.sieve)
    for block in plan.candidates.blocks(start):
        yield block, screener.screen(block)


def describe_plan(plan: ScreeningPlan) -> dict[str, Any]:
    """Summary of a planned round: counts of prototypes, elements and candidates."""
    return {
        "prototypes": len(plan.prototypes.prototypes),
        "skipped_structures": dict(plan.prototypes.skipped.most_common()),
        "elements": len(plan.candidates.elements),
        "candidates": len(plan.candidates),
        "functional_note": "; ".join(plan.functional_notes) or None,
    }


def _counts(plan: ScreeningPlan, state: RoundState) -> dict[str, Any]:
    return {
        "predicted": state.n_allowed,
        "not_finite": state.n_not_finite,
        "below_cutoff": state.n_below,
        "kept": len(state.best.candidates),
        "seconds": round(state.seconds, 2),
        "per_second": round(len(plan.candidates) / state.seconds, 1) if state.seconds else None,
    }


def _doubtful(relaxed: Mapping[int, Mapping[str, Any]]) -> dict[str, int]:
    """Number of relaxed candidates flagged `do_not_trust`; empty if the potential was not calibrated."""
    flags = [record["do_not_trust"] for record in relaxed.values() if "do_not_trust" in record]
    return {"do_not_trust": sum(flags)} if flags else {}


def _peak_memory_mb() -> float:
    """Peak memory of this process, MB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, else KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
