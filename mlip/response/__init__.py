"""Responses of crystals to a change of volume, to strain and to displacements: equations of state, elastic tensors and
phonons, of many structures at once."""

from mlip.response.elastic_tensor import ElasticResult, elastic_tensor, elastic_tensors
from mlip.response.equation_of_state import EosResult, equation_of_state, equations_of_state
from mlip.response.options import ElasticOptions, EosOptions, PhononOptions
from mlip.response.results import Responses

__all__ = [
    "ElasticOptions",
    "ElasticResult",
    "EosOptions",
    "EosResult",
    "PhononOptions",
    "Responses",
    "elastic_tensor",
    "elastic_tensors",
    "equation_of_state",
    "equations_of_state",
]
