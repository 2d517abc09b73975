"""Calculation of proposals: every proposal gets an outcome, and a round continues when all outcomes are settled."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mlip.campaign.folder import StageFolder, write_json
from mlip.data.workers import n_cores
from mlip.dft.handover import collect, hand_over
from mlip.dft.recipe import DftRecipe
from mlip.dft.records import FINISHED, NOT_STARTED, UNFINISHED, Outcome, Proposal

OPEN = (UNFINISHED, NOT_STARTED)
"""Reasons of outcomes that may still change."""


def calculated(
    recipe: DftRecipe, proposals: Sequence[Proposal], folder: StageFolder, *, progress: bool
) -> list[Outcome] | None:
    """Current outcomes of all proposals. If the user has closed the stage, no further calculations are started.

    Returns:
        The outcomes; None while some are not settled, unless the user has closed the stage.
    """
    if not proposals:
        return []
    if not (folder.closed.exists() and (folder.dft / "handover.json").exists()):
        hand_over(recipe, proposals, folder.dft, progress=progress)
    outcomes = collect(recipe, folder.dft, workers=n_cores())
    is_settled = folder.closed.exists() or not any(outcome.reason in OPEN for outcome in outcomes)
    return outcomes if is_settled else None


def write_outcomes(folder: StageFolder, outcomes: Sequence[Outcome], set_aside: dict[str, tuple[str, str]]) -> None:
    """Write the outcome of each proposal to the folder, without structures.

    Args:
        set_aside: id of a finished calculation that does not become an entry -> reason and message.
    """
    records = []
    for outcome in outcomes:
        record: dict[str, Any] = {key: value for key, value in _without_frame(outcome).items() if value}
        if outcome.id in set_aside:
            record["reason"], record["message"] = set_aside[outcome.id]
        records.append(record)
    write_json(folder.outcomes, records)


def _without_frame(outcome: Outcome) -> dict[str, Any]:
    record = {key: getattr(outcome, key) for key in ("id", "reason", "message", "functional", "n_steps", "source")}
    return record | {"follow_ups": dict(outcome.follow_ups)}


def finished(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.reason == FINISHED and outcome.frame is not None]


def count_reasons(records: Sequence[dict[str, Any]]) -> dict[str, int]:
    return dict(Counter(record["reason"] for record in records).most_common())
