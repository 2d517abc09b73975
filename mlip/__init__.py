"""mlip: universal machine-learning interatomic potentials in JAX, trained on ALEXANDRIA.

The public names are imported on first use, so that `import mlip` starts neither JAX nor pymatgen.
"""

import os
from importlib import import_module

from mlip.same_name import refuse_another_mlip

__version__ = "0.1.0"

_PUBLIC = {
    "Potential": "mlip.potential",
    "PropertyModel": "mlip.property_model",
    "load": "mlip.potential",
    "MLIPCalculator": "mlip.calculator",
    "relax": "mlip.relaxation",
    "train": "mlip.training.loop",
    "TrainingRun": "mlip.training.training_run",
    "RelaxResult": "mlip.relaxation",
    "elastic_tensor": "mlip.response",
    "equation_of_state": "mlip.response",
    "phonons": "mlip.response",
    "Store": "mlip.data",
    "MlipError": "mlip.errors",
    "keep_freed_memory": "mlip.allocator",
}

__all__ = [
    "MLIPCalculator",
    "MlipError",
    "Potential",
    "PropertyModel",
    "RelaxResult",
    "Store",
    "TrainingRun",
    "__version__",
    "elastic_tensor",
    "equation_of_state",
    "keep_freed_memory",
    "load",
    "phonons",
    "relax",
    "train",
]

refuse_another_mlip(os.path.dirname(os.path.dirname(__file__)))


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'mlip' has no attribute '{name}'")


def __dir__():
    return sorted(__all__)
