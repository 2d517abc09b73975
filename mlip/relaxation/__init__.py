"""Relaxation of many structures at once."""

from mlip.relaxation.cell import Along
from mlip.relaxation.queue import Statistics, check_options, relax, relaxations
from mlip.relaxation.result import Reason, RelaxResult

__all__ = ["Along", "Reason", "RelaxResult", "Statistics", "check_options", "relax", "relaxations"]
