"""A potential with random weights: what it costs does not depend on them."""

from ase.data import chemical_symbols
from pydantic import BaseModel

from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata


def random_potential(config: BaseModel, scale: float = 1.0) -> Potential:
    """Of all elements that the model can know, without reference energies; `scale` in eV."""
    zeros = {chemical_symbols[z]: 0.0 for z in config.known_numbers}
    return Potential(config, init_parameters(config), PotentialMetadata(reference_energies=zeros, scale=scale))
