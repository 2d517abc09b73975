"""Average of parameters that validate well, as in CrabNet's code.

Unlike stochastic weight averaging (P. Izmailov et al., UAI 2018) it includes only parameters that validate nearly as
well as the best so far, restarts on a large improvement, and gives recent parameters more weight than a mean does.
"""

from typing import NamedTuple

import jax
from jaxtyping import PyTree

_BEGIN_ANEW, _NEARLY_BEST = 0.98, 1.01


class GoodAverage(NamedTuple):
    """Bookkeeping of such an average, which is stored elsewhere: JSON-serializable numbers."""

    count: int = 0
    """Number of parameters averaged since the last restart, including those of the restart."""
    best: float = 1e9
    """Smallest validation error so far."""
    begun_at: float = 1e9
    """Validation error at the last restart."""
    is_good: bool = False
    """Whether the last parameters were included."""

    def observe(self, average: PyTree, params: PyTree, error: float) -> tuple[PyTree, "GoodAverage"]:
        """The average and its bookkeeping after a validation of these parameters.

        The average restarts if the error is 2 % below that of the last restart. Parameters with an error within 1 % of
        the best are included with a weight of (1 / (count + 1))^(1/3), so that recent ones weigh most; this also
        applies right after a restart.

        Args:
            average: previous average; ignored at the first validation.
        """
        count, begun_at = self.count, self.begun_at
        if error < _BEGIN_ANEW * begun_at:
            average, count, begun_at = params, 1, error
        best = min(error, self.best)
        is_good = error <= _NEARLY_BEST * best
        if is_good:
            share = (1 / (count + 1)) ** (1 / 3)
            average = jax.tree.map(lambda a, p: a + (p - a) * share, average, params)
            count += 1
        return average, GoodAverage(count, best, begun_at, is_good)
