"""The time of a campaign by step, and a projection to the number of candidates in the paper at the same rates."""

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
"""Steps of a round: name in its summary -> name in the report."""
PAPER_CANDIDATES = 19_000_000_000
"""Number of candidates in the paper's campaign."""
PAPER_CALCULATIONS = 5_000_000
"""Number of calculations in the database of the paper's campaign."""
_HOUR = 3600.0


class Cost(NamedTuple):
    """Cost of a step of a larger campaign, at the measured rate."""

    step: str
    units: str
    """Name of the units."""
    rate: float
    """Measured rate, units per second."""
    n: float
    """Number of units in the larger campaign."""

    @property
    def hours(self) -> float:
        return self.n / self.rate / _HOUR


def step_seconds(rounds: Sequence[Round]) -> dict[str, float]:
    """Total seconds of each step over all rounds. Steps without data are left out; those not in `STEPS` come last."""
    names = dict.fromkeys([*STEPS, *(name for one in rounds for name in one.counts("seconds"))])
    parts = {name: [one.counts("seconds").get(name) for one in rounds] for name in names}
    return {name: sum(filter(None, known)) for name, known in parts.items() if any(p is not None for p in known)}


def candidates_a_second(one: Round) -> float:
    """Candidates of a round per second of all its steps together."""
    return _ratio(one.count("candidates"), one.seconds)


def projected(campaign: Campaign, n: int = PAPER_CANDIDATES, calculations: int = PAPER_CALCULATIONS) -> list[Cost]:
    """The time for `n` candidates and this number of calculations on the same machine, at the measured rates.

    The number of relaxations for each calculation is that of the campaign. Training is left out, because it does not
    grow with the candidates, and so are steps without a measured rate.
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
    """Ratio of two numbers; NaN if the denominator is 0 or not finite."""
    return numerator / denominator if denominator and math.isfinite(denominator) else math.nan
