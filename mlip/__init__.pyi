"""The public names for type checkers, which do not see what is imported on first use."""

from mlip.allocator import keep_freed_memory as keep_freed_memory
from mlip.calculator import MLIPCalculator as MLIPCalculator
from mlip.data import Store as Store
from mlip.errors import MlipError as MlipError
from mlip.potential import Potential as Potential
from mlip.potential import load as load
from mlip.property_model import PropertyModel as PropertyModel
from mlip.relaxation import RelaxResult as RelaxResult
from mlip.relaxation import relax as relax
from mlip.response import elastic_tensor as elastic_tensor
from mlip.response import equation_of_state as equation_of_state
from mlip.response import phonons as phonons
from mlip.training.loop import train as train
from mlip.training.training_run import TrainingRun as TrainingRun

__version__: str
__all__: list[str]
