"""Cost of each relaxation of many that run together."""

from collections.abc import Iterator

from mlip.relaxation.result import RelaxResult
from mlip.relaxation.statistics import Statistics


def timed(ended: Iterator[tuple[int, RelaxResult]], statistics: Statistics) -> Iterator[tuple[int, RelaxResult, float]]:
    """Each result with the seconds that the device spent since the result before it, compilation apart.

    Structures relax together and none has a time of its own, but the sum over results is what all have cost, and it
    survives a run that is killed and goes on.
    """
    before = 0.0
    for index, result in ended:
        now = statistics.seconds - statistics.compile_seconds
        yield index, result, now - before
        before = now
