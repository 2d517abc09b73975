"""An average of the parameters that validate well, as the authors of CrabNet have it.

Unlike the stochastic weight averaging of P. Izmailov et al. (UAI 2018) it takes those parameters only that validate
nearly as well as the best so far, begins anew on a large improvement, and weighs the newest more than a mean does.
"""

from typing import NamedTuple

import jax
from jaxtyping import PyTree

_BEGIN_ANEW, _NEARLY_BEST = 0.98, 1.01


class GoodAverage(NamedTuple):
    """Account of such an average, which is kept elsewhere: numbers that JSON can hold."""

    count: int = 0
    """Additions since it began anew; the beginning counts."""
    best: float = 1e9
    """Smallest validation error so far."""
    begun_at: float = 1e9
    """Validation error at which the average last began."""
    is_good: bool = False
    """Whether the last parameters were added."""

    def observe(self, average: PyTree, params: PyTree, error: float) -> tuple[PyTree, "GoodAverage"]:
        """The average and its account after a validation of these parameters.

        It begins anew where the error is 2 % below that of its last beginning. Parameters within 1 % of the best error
        are added with a share of (1 / (count + 1))^(1/3): the newest ones weigh most. What begins is added, too.

        Args:
            average: of before; of no meaning before the first validation.
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
