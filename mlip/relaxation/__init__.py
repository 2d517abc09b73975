"""Relaxation of many structures at once."""

from mlip.relaxation.cell import Along
from mlip.relaxation.options import Options, check_options
from mlip.relaxation.queue import relax, relaxations
from mlip.relaxation.result import Reason, RelaxResult
from mlip.relaxation.results_table import RelaxResults
from mlip.relaxation.statistics import Statistics

__all__ = [
    "Along",
    "Options",
    "Reason",
    "RelaxResult",
    "RelaxResults",
    "Statistics",
    "check_options",
    "relax",
    "relaxations",
]
