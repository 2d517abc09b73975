"""An ensemble of networks of one kind as a single network: the mean of their energies, and each member's energies.

The members share a config; their parameters are stacked along a leading axis, and one program evaluates all of them on
one graph. Each member keeps its own energy scale and reference energies: the ensemble's own scale is 1 eV, and its
reference energies are the mean of the members'.
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
"""Number of rows in a table by atomic number; row 0 is for padding."""


class EnsembleConfig(BaseModel):
    """Number of networks, and their common config."""

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
        """Kind of graph that every member reads."""
        return self.network.inputs

    @property
    def known_numbers(self) -> Any:
        """Atomic numbers for which the members have parameters."""
        return self.network.known_numbers


class Ensemble(nn.Module):
    """Graph -> (n,) energy per node, eV: the mean over the members, each with its own scale and offsets."""

    config: EnsembleConfig

    def __call__(self, graph: jraph.GraphsTuple) -> Float[Array, " n"]:
        return jnp.mean(self.energies(graph), axis=0)

    @nn.compact
    def energies(self, graph: jraph.GraphsTuple) -> Float[Array, "k n"]:
        """Energy of each node according to each member, eV."""
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
