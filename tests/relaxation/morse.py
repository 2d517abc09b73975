"""A pair potential that relaxes real crystals and compiles in a moment: Morse, by covalent radii, cut off smoothly."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from ase.data import chemical_symbols, covalent_radii
from flax import linen as nn
from pydantic import BaseModel, ConfigDict

from mlip.graph.radius_graph import RadiusGraph
from mlip.potential import Potential, PotentialMetadata

WELL_DEPTH = 0.4
STIFFNESS = 1.4


class MorseConfig(BaseModel):
    model_config = ConfigDict(frozen=True)
    model: str = "morse"
    cutoff: float = 5.0
    known_numbers: tuple[int, ...] = tuple(range(1, 95))

    @property
    def inputs(self) -> RadiusGraph:
        return RadiusGraph(self.cutoff)


class Morse(nn.Module):
    """Half of each bond's energy for its center; zero, with two derivatives, from the cutoff on."""

    config: MorseConfig

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple):
        vectors, species = graph.edges["vectors"], graph.nodes["species"]
        distances = jnp.sqrt(jnp.sum(vectors * vectors, axis=-1))
        radii = jnp.asarray(np.nan_to_num(covalent_radii), distances.dtype)[species]
        stretch = jnp.exp(-STIFFNESS * (distances - radii[graph.senders] - radii[graph.receivers]))
        u = jnp.clip(distances / self.config.cutoff, 0, 1)
        envelope = 1 - 10 * u**3 + 15 * u**4 - 6 * u**5
        energies = 0.5 * WELL_DEPTH * (stretch**2 - 2 * stretch) * envelope
        return jax.ops.segment_sum(energies, graph.receivers, len(species), indices_are_sorted=True)


@dataclass(frozen=True, eq=False)
class MorsePotential(Potential):
    @cached_property
    def model(self) -> nn.Module:
        return Morse(self.config)


def morse_potential(cutoff: float = 5.0) -> MorsePotential:
    symbols = chemical_symbols[1:95]
    metadata = PotentialMetadata(reference_energies={s: -0.1 * k for k, s in enumerate(symbols)})
    return MorsePotential(MorseConfig(cutoff=cutoff), {}, metadata)
