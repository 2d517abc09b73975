"""Relaxation of many structures at once."""

from mlip.relaxation.cell import Along
from mlip.relaxation.options import Options, check_options
from mlip.relaxation.queue import Statistics, relax, relaxations
from mlip.relaxation.result import Reason, RelaxResult

__all__ = ["Along", "Options", "Reason", "RelaxResult", "Statistics", "check_options", "relax", "relaxations"]
