"""Several networks of one kind as one: the mean of their energies, and the energies of each.

Members have the same config and other parameters, which are stacked along a leading axis. All go through one program,
which finds what depends on the structure alone, bonds and basis functions, once. Members whose energy scales or
reference energies differ keep them: the ensemble's own scale is 1 eV, and its reference energies are their mean.
"""

from typing import Any, Literal

import jax.numpy as jnp
import jraph
from flax import linen as nn
from jaxtyping import Array, Float
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, field_validator

from mlip.graph.radius_graph import RadiusGraph
from mlip.models import build_model, heads_of, parse_config, target_of

N_ELEMENTS = 119
"""Rows of a table by atomic number; row 0 is padding's."""


class EnsembleConfig(BaseModel):
    """How many networks there are, and the config that they share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Literal["ensemble"] = "ensemble"
    n_members: int = Field(ge=2)
    network: SerializeAsAny[BaseModel]

    @field_validator("network", mode="before")
    @classmethod
    def _is_of_a_potential(cls, network: Any) -> BaseModel:
        config = parse_config(network) if isinstance(network, dict) else network
        if config.model == "ensemble" or target_of(config) != "energy" or len(heads_of(config)) > 1:
            raise ValueError(f"an ensemble is of potentials with one head, not of {config.model}")
        return config

    @property
    def inputs(self) -> RadiusGraph:
        """Graph that every member reads of a structure."""
        return self.network.inputs

    @property
    def known_numbers(self) -> Any:
        """Atomic numbers that the members have parameters for."""
        return self.network.known_numbers


class Ensemble(nn.Module):
    """Graph -> (n,) energy per node, eV: the mean of the members', each with its own scale and offsets."""

    config: EnsembleConfig

    def __call__(self, graph: jraph.GraphsTuple) -> Float[Array, " n"]:
        return jnp.mean(self.energies(graph), axis=0)

    @nn.compact
    def energies(self, graph: jraph.GraphsTuple) -> Float[Array, "k n"]:
        """Energy of each node by each member, eV."""
        config = self.config
        members = nn.vmap(
            type(build_model(config.network)),
            in_axes=None,
            out_axes=0,
            axis_size=config.n_members,
            variable_axes={"params": 0},
            split_rngs={"params": True},
        )(config.network, name="members")
        scales = self.param("scales", nn.initializers.ones_init(), (config.n_members,))
        offsets = self.param("offsets", nn.initializers.zeros_init(), (config.n_members, N_ELEMENTS))
        outputs = members(graph)
        scaled = scales.astype(outputs.dtype)[:, None] * outputs
        return scaled + offsets.astype(outputs.dtype)[:, graph.nodes["species"]]
