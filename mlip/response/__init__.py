"""Responses of crystals to changes of volume, strains and displacements: equations of state, elastic tensors and
phonons, for many structures at once."""

from mlip.response.elasticity import ElasticResult, elastic_tensor, elastic_tensors
from mlip.response.eos import EosResult, equation_of_state, equations_of_state
from mlip.response.options import ElasticOptions, EosOptions, PhononOptions
from mlip.response.phonon_result import PhononResult
from mlip.response.results import Responses
from mlip.response.vibrations import phonons, phonons_of_each

__all__ = [
    "ElasticOptions",
    "ElasticResult",
    "EosOptions",
    "EosResult",
    "PhononOptions",
    "PhononResult",
    "Responses",
    "elastic_tensor",
    "elastic_tensors",
    "equation_of_state",
    "equations_of_state",
    "phonons",
    "phonons_of_each",
]
