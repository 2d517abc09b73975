"""MACE (Batatia et al., NeurIPS 2022, arXiv:2206.07697): equivariant messages of high body order.

One layer: the densities of a neighborhood (eqs. 8 and 9, `Interaction`), their products with themselves (eqs. 10 and
11, `SymmetricContraction`), the update (eq. 12) and the readout (eq. 13). Equations in brackets are the paper's.

The network, the meaning of its parameters and their scale are those of mace-torch (ScaleShiftMACE), so that published
weights and recipes can be used: weights are of order one, and every product is divided by the square root of its number
of inputs. The implementation differs: element-dependent weights are gathered instead of multiplied by one-hot vectors;
components come before channels, which are contiguous; the last layer keeps only scalars.

The center i of a bond is its receiver, the neighbor j its sender. In mace-torch, vectors point to the center.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import e3nn_jax as e3nn
import jax.numpy as jnp
import jraph
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mlip.graph.ends import any_rows, ascending_rows
from mlip.graph.radius_graph import RadiusGraph
from mlip.models.edge_blocks import EdgeBlocks, edge_blocks
from mlip.models.last_layer import tell_features
from mlip.models.mace_radial import agnesi_transform, bessel_functions, polynomial_cutoff
from mlip.models.node_places import element_indices, heads_of_nodes
from mlip.models.symmetric_contraction import SymmetricContraction, wigner_3j
from mlip.models.zbl import zbl_energies
from mlip.runtime import products_in

SILU_NORM = 1.6791767923989418  # makes E[silu(x)^2] = 1 for normal x; the value of e3nn, from seeded samples
_BLOCK = 4  # edges per block; larger blocks leave more slots empty
_MATERIALS_PROJECT = (*range(1, 84), *range(89, 95))

Features = list[Float[Array, "n m c"]]
"""Features of atoms: one array for each order l = 0, 1, ... of parity (-1)^l, with m = 2l + 1 components (e3nn's order)
and c channels."""


class MACEConfig(BaseModel):
    """Architecture of a MACE; the defaults are those of the published medium MACE-MP-0."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    measured_on_data: ClassVar[tuple[str, ...]] = ("elements", "mean_neighbors")

    model: Literal["mace"] = "mace"
    cutoff: float = Field(6.0, gt=0, description="longest bond that becomes an edge, A")
    elements: tuple[int, ...] = Field(_MATERIALS_PROJECT, min_length=1, description="atomic numbers, ascending")
    channels: int = Field(128, ge=1)
    max_l: int = Field(1, ge=0, le=2, description="highest order of the features that pass from layer to layer")
    max_ell: int = Field(3, ge=0, le=3, description="highest order of the harmonics and of the densities")
    correlation: int = Field(3, ge=1, le=4, description="densities in a product; its body order is one higher")
    n_layers: int = Field(2, ge=1)
    n_bessel: int = Field(10, ge=1)
    cutoff_power: int = Field(5, ge=2)
    radial_hidden: tuple[int, ...] = (64, 64, 64)
    readout_hidden: int = Field(16, ge=1, description="width of the last readout")
    first_block: Literal["residual", "element"] = Field(
        "residual", description="where elements enter the first layer: next to the product, or on its densities"
    )
    normalization: Literal["mean", "density"] = Field(
        "mean", description="densities are divided by the mean number of neighbors, or by 1 + a learned density"
    )
    mean_neighbors: float = Field(61.96, gt=0, description="mean number of neighbors in the training set")
    distance_transform: Literal["none", "agnesi"] = "none"
    zbl: bool = Field(False, description="add the repulsion of bare nuclei")
    heads: tuple[str, ...] = Field(
        ("default",),
        min_length=1,
        description="levels of theory, such as functionals, with separate readouts and everything else in common",
    )

    @field_validator("elements")
    @classmethod
    def _elements_are_ascending(cls, elements: tuple[int, ...]) -> tuple[int, ...]:
        if list(elements) != sorted(set(elements)) or not 0 < elements[0] <= elements[-1] <= 118:
            raise ValueError("must be atomic numbers in ascending order")
        return elements

    @field_validator("heads")
    @classmethod
    def _heads_differ(cls, heads: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(heads)) != len(heads) or not all(heads):
            raise ValueError("must be different names")
        return heads

    @model_validator(mode="after")
    def _features_within_densities(self):
        if self.max_l > self.max_ell:
            raise ValueError(f"max_l ({self.max_l}) is higher than max_ell ({self.max_ell})")
        return self

    @property
    def inputs(self) -> RadiusGraph:
        """Kind of graph that the network reads."""
        return RadiusGraph(self.cutoff)

    @property
    def known_numbers(self) -> tuple[int, ...]:
        """Atomic numbers with parameters."""
        return self.elements

    def orders_out(self, layer: int) -> tuple[int, ...]:
        """Orders of a layer's output features; only scalars for the last layer."""
        return (0,) if layer == self.n_layers - 1 else tuple(range(self.max_l + 1))


class Edges(NamedTuple):
    """Edges with the functions that all layers share."""

    blocks: EdgeBlocks
    lengths: Float[Array, " s"]
    """Bond lengths, A."""
    radial: Float[Array, "s k"]
    """Radial functions, zero beyond the cutoff."""
    harmonics: Float[Array, "s lm"]
    """Spherical harmonics Y_lm of the direction to the center, |Y_l|^2 = 2l + 1."""


class MACE(nn.Module):
    """Graph -> (n,) energy per node, in units of the potential's scale; without reference energies.

    Reads nodes["species"] (n,) atomic numbers and edges["vectors"] (e, 3) from center to neighbor, A, none of length
    zero; edges beyond the cutoff contribute nothing. Receivers ascend. With several heads, globals["head"] (g,) is the
    index of each graph's head.
    """

    config: MACEConfig

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple) -> Float[Array, " n"]:
        config = self.config
        species = graph.nodes["species"]
        elements = element_indices(config.elements, species)
        edges = edges_of(config, graph)
        heads = heads_of_nodes(graph) if len(config.heads) > 1 else None

        embedding = _weight(self, "embedding", (len(config.elements), config.channels))
        features = [embedding[elements][:, None, :] / np.sqrt(len(config.elements))]
        energies = jnp.zeros(len(species), edges.lengths.dtype)
        if config.zbl:
            blocks = edges.blocks
            energies += zbl_energies(edges.lengths, species, blocks.senders, blocks.slot_receivers, config.cutoff_power)
        for layer in range(config.n_layers):
            orders = config.orders_out(layer)
            density = Interaction(config, layer, name=f"interaction_{layer}")(features, elements, edges)
            products = SymmetricContraction(
                config.max_ell, orders, config.correlation, len(config.elements), name=f"product_{layer}"
            )(jnp.concatenate([jnp.swapaxes(chunk, 0, 1) for chunk in density]), elements)
            updated = Linear(config.channels, name=f"update_{layer}")(products)
            if not (layer == 0 and config.first_block == "element"):
                kept = ElementLinear(len(config.elements), config.channels, name=f"skip_{layer}")(
                    features[: len(orders)], elements
                )
                updated = [new + old for new, old in zip(updated, kept, strict=False)] + updated[len(kept) :]
            features = updated  # eq. 12
            is_last = 0 < layer == config.n_layers - 1
            energies += Readout(config, is_last, name=f"readout_{layer}")(features[0], heads)
        return energies


def edges_of(config: MACEConfig, graph: jraph.GraphsTuple) -> Edges:
    """Edges in blocks, with their radial functions and harmonics."""
    species = graph.nodes["species"]
    blocks = edge_blocks(graph, len(species), _BLOCK, padding_length=2 * config.cutoff)
    vectors = blocks.vectors
    distances = jnp.sqrt(jnp.sum(vectors * vectors, axis=-1))
    argument = distances
    if config.distance_transform == "agnesi":
        argument = agnesi_transform(
            distances, any_rows(species, blocks.senders), ascending_rows(species, blocks.slot_receivers)
        )
    radial = bessel_functions(argument, config.n_bessel, config.cutoff)
    radial *= polynomial_cutoff(distances, config.cutoff, config.cutoff_power)[:, None]
    with products_in("highest"):
        harmonics = e3nn.spherical_harmonics(
            e3nn.Irreps.spherical_harmonics(config.max_ell),
            e3nn.IrrepsArray("1o", -vectors / distances[:, None]),
            normalize=False,
            normalization="component",
        )
    return Edges(blocks, distances, radial, harmonics.array)


class Path(NamedTuple):
    """Coupling of a neighbor's features of order `node` with harmonics of order `edge` to a density of order `out`."""

    node: int
    edge: int
    out: int


def coupling_paths(max_node: int, max_ell: int) -> list[Path]:
    """Coupling paths in e3nn's order: sorted by the order of the density, then of the neighbor's features, then of the
    harmonics."""
    paths = [
        Path(node, edge, out)
        for node in range(max_node + 1)
        for edge in range(max_ell + 1)
        for out in range(abs(node - edge), min(node + edge, max_ell) + 1)
        if (node + edge + out) % 2 == 0
    ]
    return sorted(paths, key=lambda path: path.out)


class Interaction(nn.Module):
    """Features -> densities A of order 0 .. max_ell (eqs. 8 and 9).

    A_i = sum over paths p of W_p (sum over j of R_p(r_ij) [Y(r_ij) x h_j]_p) / mean number of neighbors (or 1 + a
    learned density).
    """

    config: MACEConfig
    layer: int

    @nn.compact
    def __call__(self, features: Features, elements: Int[Array, " n"], edges: Edges) -> Features:
        config, n_atoms, blocks = self.config, len(elements), edges.blocks
        paths = coupling_paths(len(features) - 1, config.max_ell)
        neighbors = [any_rows(chunk, blocks.senders) for chunk in Linear(config.channels, name="linear_up")(features)]
        widths = (*config.radial_hidden, len(paths) * config.channels)
        radial = RadialMLP(widths, name="radial")(edges.radial).reshape(-1, len(paths), config.channels)
        densities = []
        for out in range(config.max_ell + 1):
            sums = [
                _sum_in_blocks(radial[:, k, None] * neighbors[path.node], edges, path)
                for k, path in enumerate(paths)
                if path.out == out
            ]
            densities.append(blocks.sum_blocks(jnp.concatenate(sums, axis=-1), n_atoms))
        densities = Linear(config.channels, name="linear")(densities)
        if config.normalization == "density":
            weight = _weight(self, "density", (config.n_bessel,)) / np.sqrt(config.n_bessel)
            crowding = jnp.tanh((edges.radial @ weight) ** 2)
            crowding = blocks.sum_blocks(crowding.reshape(-1, blocks.size).sum(axis=1), n_atoms)
            densities = [chunk / (1.0 + crowding)[:, None, None] for chunk in densities]
        else:
            densities = [chunk / config.mean_neighbors for chunk in densities]
        if self.layer == 0 and config.first_block == "element":
            densities = ElementLinear(len(config.elements), config.channels, name="skip")(densities, elements)
        return densities


def _sum_in_blocks(features: Float[Array, "s m c"], edges: Edges, path: Path) -> Float[Array, "b m_out c"]:
    """Sum over the edges of each block of [Y x h] for one path, normalized so that components keep unit variance."""
    symbol = np.sqrt(2 * path.out + 1) * wigner_3j(*path)
    harmonics = edges.harmonics[:, path.edge**2 : (path.edge + 1) ** 2]
    rotations = jnp.einsum("abo,sb->sao", jnp.asarray(symbol, harmonics.dtype), harmonics)
    n_blocks = len(edges.blocks.receivers)
    # XLA calls a batched matrix product block by block on a CPU; this sum is one loop, and so are its derivatives.
    terms = rotations.reshape(n_blocks, -1, 2 * path.out + 1, 1) * features.reshape(n_blocks, -1, 1, features.shape[-1])
    return jnp.sum(terms, axis=1)  # over the edges of a block and the components of their features


class RadialMLP(nn.Module):
    """Radial functions -> R_p for every path and channel; without biases, so that zero remains zero."""

    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: Float[Array, "e k"]) -> Float[Array, "e w"]:
        for layer, width in enumerate(self.widths):
            x = x @ _weight(self, f"layer_{layer}", (x.shape[-1], width)) / np.sqrt(x.shape[-1])
            if layer < len(self.widths) - 1:
                x = SILU_NORM * nn.silu(x)
        return x


class Linear(nn.Module):
    """Mixes channels separately for each order; the kernel of order l is (inputs, channels)."""

    channels: int

    @nn.compact
    def __call__(self, features: Features) -> Features:
        return [
            chunk @ _weight(self, f"order{order}", (chunk.shape[-1], self.channels)) / np.sqrt(chunk.shape[-1])
            for order, chunk in enumerate(features)
        ]


class ElementLinear(nn.Module):
    """Mixes channels separately for each order, with a kernel (channels, channels) for each element."""

    n_elements: int
    channels: int

    @nn.compact
    def __call__(self, features: Features, elements: Int[Array, " n"]) -> Features:
        norm = np.sqrt(self.n_elements * self.channels)
        shape = (self.n_elements, self.channels, self.channels)
        return [
            jnp.einsum("nmc,ncd->nmd", chunk, _weight(self, f"order{order}", shape)[elements]) / norm
            for order, chunk in enumerate(features)
        ]


class Readout(nn.Module):
    """Scalars -> energy (eq. 13): linear, except in the last of several layers, which has one hidden layer per head."""

    config: MACEConfig
    is_last: bool

    @nn.compact
    def __call__(self, scalars: Float[Array, "n 1 c"], heads: Int[Array, " n"] | None) -> Float[Array, " n"]:
        x, n_heads = scalars[:, 0, :], len(self.config.heads)
        n_inputs = x.shape[-1]
        if self.is_last:
            width, n_inputs = self.config.readout_hidden, n_heads * self.config.readout_hidden
            x = x @ _weight(self, "hidden", (x.shape[-1], n_inputs)) / np.sqrt(x.shape[-1])
            x = SILU_NORM * nn.silu(x)
        if heads is None:
            tell_features(self, lambda: x / np.sqrt(n_inputs))
            return x @ _weight(self, "energy", (n_inputs,)) / np.sqrt(n_inputs)
        if self.is_last:
            x = jnp.take_along_axis(x.reshape(-1, n_heads, width), heads[:, None, None], axis=1)[:, 0]
        weights = _weight(self, "energy", (n_heads, x.shape[-1]))
        return jnp.sum(x * weights[heads], axis=-1) / np.sqrt(n_inputs)  # inputs of all heads, as in mace-torch


def select_head(config: MACEConfig, params: dict, head: str) -> tuple[MACEConfig, dict]:
    """Config and parameters of the network with only the given head."""
    place, n_heads = config.heads.index(head), len(config.heads)
    params = dict(params)
    for layer in range(config.n_layers):
        readout = {name: np.asarray(array) for name, array in params[f"readout_{layer}"].items()}
        energy = readout["energy"][place]
        if "hidden" in readout:
            hidden = readout["hidden"].reshape(config.channels, n_heads, -1)[:, place]
            # In double precision: the norm of a single head differs, and its square root need not be a float32.
            readout = {"hidden": hidden, "energy": energy.astype(np.float64) / np.sqrt(n_heads)}
        else:
            readout = {"energy": energy}
        params[f"readout_{layer}"] = readout
    return config.model_copy(update={"heads": (head,)}), params


def _weight(module: nn.Module, name: str, shape: tuple[int, ...]) -> Float[Array, "..."]:
    return module.param(name, nn.initializers.normal(1.0), shape)
