"""Where the time of a campaign goes, and what as many candidates as the paper's would take at the same rates."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from mlip.campaign.report.rounds import Campaign, Round

STEPS = {
    "entries": "known entries",
    "candidates": "candidates",
    "screen": "prediction",
    "relax": "pre-relaxation",
    "dft": "calculations",
    "hull": "hull",
    "train": "training",
}
"""Steps of a round, as its summary and as the report name them."""
PAPER_CANDIDATES = 19_000_000_000
"""Candidates that the paper's campaign has gone through."""
PAPER_CALCULATIONS = 5_000_000
"""Calculations of the database that came of them."""
_HOUR = 3600.0


class Cost(NamedTuple):
    """A step of a larger campaign, at the rate that was measured."""

    step: str
    units: str
    """The name of its unit."""
    rate: float
    """Units a second."""
    n: float
    """Units of the larger campaign."""

    @property
    def hours(self) -> float:
        return self.n / self.rate / _HOUR


def step_seconds(rounds: Sequence[Round]) -> dict[str, float]:
    """Seconds by step, over all rounds; those of which nothing is known are left out. Steps that only the summaries
    know come last."""
    names = dict.fromkeys([*STEPS, *(name for one in rounds for name in one.counts("seconds"))])
    parts = {name: [one.counts("seconds").get(name) for one in rounds] for name in names}
    return {name: sum(filter(None, known)) for name, known in parts.items() if any(p is not None for p in known)}


def candidates_a_second(one: Round) -> float:
    """End to end: candidates of a round by the seconds of all of its steps."""
    return _ratio(one.count("candidates"), one.seconds)


def projected(campaign: Campaign, n: int = PAPER_CANDIDATES, calculations: int = PAPER_CALCULATIONS) -> list[Cost]:
    """The time that `n` candidates and so many calculations would take on the same machine, at the measured rates.

    Relaxations before a calculation are as many for each as in the campaign. Training is left out: it does not grow
    with the candidates. Steps without a measured rate are left out, too.
    """
    made, predicted = campaign.total("candidates"), campaign.total("predicted")
    relaxed, calculated = campaign.done("pre_relaxation"), campaign.done("outcomes")
    counts = {
        "candidates": ("candidates", made, n),
        "screen": ("predictions", predicted, n * _ratio(predicted, made)),
        "relax": ("relaxations", relaxed, calculations * _ratio(relaxed, calculated)),
        "dft": ("calculations", calculated, calculations),
        "hull": ("calculations", calculated, calculations),
    }
    costs = []
    for step, (units, done, larger) in counts.items():
        rate = _ratio(done, campaign.total("seconds", step))
        if math.isfinite(rate) and rate > 0 and math.isfinite(larger):
            costs.append(Cost(STEPS[step], units, rate, larger))
    return costs


def _ratio(numerator: float, denominator: float) -> float:
    """NaN where there is none."""
    return numerator / denominator if denominator and math.isfinite(denominator) else math.nan
