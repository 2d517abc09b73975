"""NequIP (Batzner et al., Nature Communications 13, 2453, 2022) with the variants of two published model families.

Nequix (Koker et al., arXiv:2508.16067): one-hot atoms enter the first layer, features are divided by their root mean
square, and parity is tracked. SevenNet (Park et al., J. Chem. Theory Comput. 20, 4857, 2024): atoms are embedded, there
is no norm, and all features are even, so that products with odd l1 + l2 + l3 also occur.

One layer, for atom i with neighbors j:

    m   = Linear1(h)
    a_i = sum over j of R(r_ij) [m_j x Y(r_ij)] / N      one term for each coupling of m_j with the harmonics
    f_i = Linear2(a_i) + Skip(h_i)                       Skip may have a matrix for each element
    h_i = Gate(Norm(f_i))                                scalars by silu, the others times silu of further scalars

Energies are a linear function of the last layer's scalars. Features are (n, 2l + 1, c) with contiguous channels. The
sum over neighbors is computed over blocks of edges (`mlip.models.edge_blocks`) without storing messages. The first
layer's features are rows of a table with one row per element; the last layer computes only scalars.

The center i of a bond is its receiver, the neighbor j its sender; vectors point from i to j.
"""

import re
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import jraph
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mlip.graph.ends import any_rows
from mlip.graph.radius_graph import RadiusGraph
from mlip.models.edge_blocks import EdgeBlocks, edge_blocks
from mlip.models.last_layer import tell_features
from mlip.models.mace_radial import polynomial_cutoff
from mlip.models.node_places import element_indices, heads_of_nodes
from mlip.runtime import products_in

_BLOCK = 4  # edges per block; larger blocks leave more slots empty
_MATERIALS_PROJECT = (*range(1, 84), *range(89, 95))
_EPSILON = 1e-12
"""Added to the mean square of features before taking its root."""
_IRREPS = re.compile(r"(?P<channels>[1-9]\d*)x(?P<order>\d+)(?P<parity>[eo])")
ACTIVATION_NORMS = {
    "e3nn": {"silu": 1.6791767923989418, "tanh": 1.5937334472592695},
    "e3nn-jax": {"silu": 1.6765620560798837, "tanh": 1.5925386426301724},
}
"""Factors that make E[f(x)^2] = 1 for normal x: those of e3nn, from seeded samples, and of e3nn-jax, from quantiles."""


class Irrep(NamedTuple):
    """Order l and parity of features with 2l + 1 components."""

    order: int
    parity: int

    def __str__(self) -> str:
        return f"{self.order}{'e' if self.parity > 0 else 'o'}"

    @property
    def rank(self) -> tuple[int, bool]:
        """Sort key in e3nn's order: by order, with parity (-1)^l first."""
        return self.order, self.parity != (-1) ** self.order


SCALAR = Irrep(0, 1)
Channels = dict[Irrep, int]
"""Number of channels of each irrep, sorted by rank."""
Features = Mapping[Irrep, Float[Array, "n m c"]]
"""Features of atoms by irrep, with m = 2l + 1 components in e3nn's order and c channels."""
ONE_HOT = None
"""Stands for one-hot features of the elements: a unit matrix, which need not be multiplied."""


def parse_irreps(text: str) -> Channels:
    """Number of channels of each irrep in a text such as "128x0e + 64x1o".

    Raises:
        ValueError: the text has another form, repeats irreps, has them out of order, or has no even scalars.
    """
    found: Channels = {}
    for part in text.split("+"):
        match = _IRREPS.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{part.strip()!r} is not like 64x1o")
        found[Irrep(int(match["order"]), 1 if match["parity"] == "e" else -1)] = int(match["channels"])
    ranks = [irrep.rank for irrep in found]
    if len(found) != len(text.split("+")) or ranks != sorted(ranks):
        raise ValueError("each irrep stands once, by order; parity (-1)^l before the other one")
    if SCALAR not in found:
        raise ValueError("no even scalars (0e), of which energies are made")
    return found


class NequIPConfig(BaseModel):
    """Architecture and variants of a NequIP; the defaults are those of the published Nequix."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    measured_on_data: ClassVar[tuple[str, ...]] = ("elements", "mean_neighbors")

    model: Literal["nequip"] = "nequip"
    cutoff: float = Field(6.0, gt=0, description="longest bond that becomes an edge, A")
    elements: tuple[int, ...] = Field(_MATERIALS_PROJECT, min_length=1, description="atomic numbers, ascending")
    hidden: str = Field("128x0e + 64x1o + 32x2e + 32x3o", description="irreps of the features between layers")
    max_ell: int = Field(3, ge=0, le=6, description="highest order of the harmonics")
    parity: bool = Field(True, description="harmonics have parity (-1)^l; otherwise everything is even")
    n_layers: int = Field(4, ge=1)
    embedding: int | None = Field(None, ge=1, description="scalars in an element's embedding; None: one-hot vectors")
    n_bessel: int = Field(8, ge=1)
    trained_frequencies: bool = Field(False, description="whether the frequencies of the Bessel functions are trained")
    cutoff_function: Literal["polynomial", "xplor"] = "polynomial"
    cutoff_power: int = Field(6, ge=2, description="power of the polynomial cutoff")
    cutoff_on: float = Field(0.0, ge=0, description="length up to which the xplor cutoff is 1, A")
    radial_hidden: tuple[int, ...] = (64, 64)
    skip: Literal["common", "element"] = Field("common", description="one matrix for all elements, or one for each")
    norm: bool = Field(True, description="divide features by their root mean square")
    mean_neighbors: float = Field(39.2, gt=0, description="mean number of neighbors in the training set")
    neighbor_norm: Literal["root", "mean"] = Field(
        "root", description="sums over neighbors are divided by the root of their mean number, or by that number"
    )
    activation_norm: Literal["e3nn", "e3nn-jax"] = Field(
        "e3nn-jax", description="library whose factors give the gate's functions unit mean square"
    )
    heads: tuple[str, ...] = Field(("default",), min_length=1, description="levels of theory, such as functionals")
    head_biases: bool = Field(False, description="biases for the scalars of the linear layers, separate for each head")

    @field_validator("elements")
    @classmethod
    def _elements_are_ascending(cls, elements: tuple[int, ...]) -> tuple[int, ...]:
        if list(elements) != sorted(set(elements)) or not 0 < elements[0] <= elements[-1] <= 118:
            raise ValueError("must be atomic numbers in ascending order")
        return elements

    @field_validator("hidden")
    @classmethod
    def _irreps_are_sound(cls, hidden: str) -> str:
        return " + ".join(f"{channels}x{irrep}" for irrep, channels in parse_irreps(hidden).items())

    @field_validator("heads")
    @classmethod
    def _heads_differ(cls, heads: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(heads)) != len(heads) or not all(heads):
            raise ValueError("must be different names")
        return heads

    @model_validator(mode="after")
    def _is_consistent(self):
        if not self.parity and any(irrep.parity < 0 for irrep in parse_irreps(self.hidden)):
            raise ValueError(f"{self.hidden} has odd irreps, and without parity all are even")
        if unreachable := set(parse_irreps(self.hidden)) - set(self.channels_out(self.n_layers)):
            raise ValueError(f"{min(unreachable, key=lambda irrep: irrep.rank)} is made by none of the layers")
        if self.cutoff_function == "xplor" and self.cutoff_on >= self.cutoff:
            raise ValueError(f"cutoff_on ({self.cutoff_on}) is not shorter than the cutoff ({self.cutoff})")
        if len(self.heads) > 1 and not self.head_biases:
            raise ValueError("several heads differ by their biases: head_biases")
        return self

    @property
    def inputs(self) -> RadiusGraph:
        """Kind of graph that the network reads."""
        return RadiusGraph(self.cutoff)

    @property
    def known_numbers(self) -> tuple[int, ...]:
        """Atomic numbers with parameters."""
        return self.elements

    @property
    def harmonics(self) -> list[Irrep]:
        """Irreps of the spherical harmonics."""
        return [Irrep(order, (-1) ** order if self.parity else 1) for order in range(self.max_ell + 1)]

    def channels_in(self, layer: int) -> Channels:
        """Channels of a layer's input features."""
        return self.channels_out(layer - 1) if layer else {SCALAR: self.embedding or len(self.elements)}

    def channels_out(self, layer: int) -> Channels:
        """Channels of a layer's output features: those of `hidden` that it can produce; only scalars for the last
        layer.

        A `layer` after the last one gives what a further layer could produce.
        """
        hidden, inputs = parse_irreps(self.hidden), self.channels_in(min(layer, self.n_layers - 1))
        made = set(inputs) | {path.out for path in couplings(inputs, self.harmonics, hidden)}
        is_last = layer == self.n_layers - 1
        return {irrep: n for irrep, n in hidden.items() if irrep in made and (irrep == SCALAR or not is_last)}


class Edges(NamedTuple):
    """Edges with the functions that all layers share."""

    blocks: EdgeBlocks
    radial: Float[Array, "s k"]
    """Radial functions, zero beyond the cutoff."""
    harmonics: Float[Array, "s lm"]
    """Spherical harmonics Y_lm of the direction to the neighbor, |Y_l|^2 = 2l + 1."""


class NequIP(nn.Module):
    """Graph -> (n,) energy per node, in units of the potential's scale; without reference energies.

    Reads nodes["species"] (n,) atomic numbers and edges["vectors"] (e, 3) from center to neighbor, A, none of length
    zero; edges beyond the cutoff contribute nothing. Receivers ascend. With several heads, globals["head"] (g,) is the
    index of each graph's head.
    """

    config: NequIPConfig

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple) -> Float[Array, " n"]:
        config = self.config
        elements = element_indices(config.elements, graph.nodes["species"])
        heads = heads_of_nodes(graph) if len(config.heads) > 1 else jnp.zeros_like(elements)
        frequencies = None
        if config.trained_frequencies:
            frequencies = self.param("frequencies", lambda _key: jnp.asarray(bessel_frequencies(config), jnp.float32))
        edges = edges_of(config, graph, frequencies)
        features = {SCALAR: self._features_of_elements()}
        for layer in range(config.n_layers):
            features = Layer(config, layer, name=f"layer_{layer}")(features, elements, heads, edges)
        scalars = features[SCALAR][:, 0, :]
        tell_features(self, lambda: scalars / np.sqrt(scalars.shape[-1]))
        return (scalars @ _weight(self, "readout", (scalars.shape[-1], 1)) / np.sqrt(scalars.shape[-1]))[:, 0]

    def _features_of_elements(self) -> Float[Array, "z 1 c"] | None:
        """Features of each element's atoms before the first layer; `ONE_HOT` without an embedding."""
        n_elements = len(self.config.elements)
        if self.config.embedding is None:
            return ONE_HOT
        return _weight(self, "embedding", (n_elements, self.config.embedding))[:, None, :] / np.sqrt(n_elements)


def edges_of(config: NequIPConfig, graph: jraph.GraphsTuple, frequencies: Float[Array, " k"] | None = None) -> Edges:
    """Edges in blocks, with their radial functions and harmonics.

    Args:
        frequencies: frequencies of the Bessel functions, 1/A; by default n pi / rc.
    """
    blocks = edge_blocks(graph, len(graph.nodes["species"]), _BLOCK, padding_length=2 * config.cutoff)
    vectors = blocks.vectors
    distances = jnp.sqrt(jnp.sum(vectors * vectors, axis=-1))
    if frequencies is None:
        frequencies = jnp.asarray(bessel_frequencies(config), distances.dtype)
    radial = 2 / config.cutoff * jnp.sin(distances[:, None] * frequencies) / distances[:, None]
    if config.cutoff_function == "polynomial":
        envelope = polynomial_cutoff(distances, config.cutoff, config.cutoff_power)
    else:
        envelope = xplor_cutoff(distances, config.cutoff, config.cutoff_on)
    with products_in("highest"):
        harmonics = e3nn.spherical_harmonics(
            e3nn.Irreps.spherical_harmonics(config.max_ell),
            e3nn.IrrepsArray("1o", vectors / distances[:, None]),
            normalize=False,
            normalization="component",
        )
    return Edges(blocks, radial * envelope[:, None], harmonics.array)


def bessel_frequencies(config: NequIPConfig) -> Float[np.ndarray, " k"]:
    """Frequencies n pi / rc of the Bessel functions, 1/A."""
    return np.pi / config.cutoff * np.arange(1, config.n_bessel + 1)


def xplor_cutoff(distances: Float[Array, " e"], cutoff: float, on: float) -> Float[Array, " e"]:
    """Cutoff function: one up to `on`, then (c^2 - r^2)^2 (c^2 + 2 r^2 - 3 on^2) / (c^2 - on^2)^3, zero beyond the
    cutoff c."""
    squared = jnp.minimum(distances, cutoff) ** 2
    falling = (cutoff**2 - squared) ** 2 * (cutoff**2 + 2 * squared - 3 * on**2) / (cutoff**2 - on**2) ** 3
    return jnp.where(distances < on, 1.0, falling)


class Path(NamedTuple):
    """Coupling of a neighbor's features of irrep `node` with harmonics of irrep `edge` to irrep `out`."""

    node: Irrep
    edge: Irrep
    out: Irrep

    @property
    def symbol(self) -> Float[np.ndarray, "m_node m_edge m_out"]:
        """Real 3j symbols with e3nn-jax's signs, scaled by sqrt(2 l_out + 1) so that components keep unit variance."""
        orders = self.node.order, self.edge.order, self.out.order
        return np.sqrt(2 * self.out.order + 1) * e3nn.clebsch_gordan(*orders)


def couplings(inputs: Channels, harmonics: list[Irrep], outputs: Channels) -> list[Path]:
    """Coupling paths in e3nn's order: sorted by the output irrep, then by that of the neighbor's features, then of the
    harmonics."""
    paths = [
        Path(node, edge, Irrep(order, node.parity * edge.parity))
        for node in inputs
        for edge in harmonics
        for order in range(abs(node.order - edge.order), node.order + edge.order + 1)
    ]
    return sorted((path for path in paths if path.out in outputs), key=lambda path: path.out.rank)


class Layer(nn.Module):
    """One layer, atom features -> atom features; the input of the first layer is features of the elements."""

    config: NequIPConfig
    layer: int

    @nn.compact
    def __call__(
        self, features: Features, elements: Int[Array, " n"], heads: Int[Array, " n"], edges: Edges
    ) -> Features:
        config = self.config
        outputs = config.channels_out(self.layer)
        gated = {irrep: n for irrep, n in outputs.items() if irrep.order > 0}
        wanted = outputs | {SCALAR: outputs[SCALAR] + sum(gated.values())}  # the scalars are followed by the gates
        inputs = config.channels_in(self.layer)
        of_rows = elements if self.layer else jnp.arange(len(config.elements))
        messages = Linear(inputs, inputs, name="linear_1")(features)
        if config.skip == "element":
            skipped = ElementLinear(inputs, wanted, len(config.elements), name="skip")(features, of_rows)
        else:
            skipped = Linear(inputs, wanted, name="skip")(features)
        if self.layer == 0:
            messages, skipped = _rows(messages, elements), _rows(skipped, elements)
        messages = self._with_head_bias("bias_1", messages, heads)
        summed = NeighborSum(config, outputs, name="neighbor_sum")(messages, edges)
        mixed = Linear(channels_of(summed), wanted, name="linear_2")(summed)
        mixed = self._with_head_bias("bias_2", mixed, heads)
        mixed = {irrep: _sum_of(irrep, mixed, skipped) for irrep in wanted}
        if config.norm:
            mixed = RMSNorm(name="norm")(mixed)
        return self._gate(mixed, outputs, gated)

    def _with_head_bias(self, name: str, features: Features, heads: Int[Array, " n"]) -> Features:
        if not self.config.head_biases or SCALAR not in features:
            return features
        scalars = features[SCALAR]
        bias = self.param(name, nn.initializers.zeros, (len(self.config.heads), scalars.shape[-1]))
        return {**features, SCALAR: scalars + bias[heads][:, None, :]}

    def _gate(self, mixed: Features, outputs: Channels, gated: Channels) -> Features:
        norms = ACTIVATION_NORMS[self.config.activation_norm]
        features = {}
        for irrep in outputs:
            if irrep == SCALAR:
                features[irrep] = norms["silu"] * nn.silu(mixed[SCALAR][..., : outputs[SCALAR]])
            elif irrep.order == 0:
                features[irrep] = norms["tanh"] * jnp.tanh(mixed[irrep])
        first = outputs[SCALAR]
        for irrep, n in gated.items():
            gates = norms["silu"] * nn.silu(mixed[SCALAR][..., first : first + n])
            features[irrep] = gates * mixed[irrep]
            first += n
        return {irrep: features[irrep] for irrep in outputs}


def channels_of(features: Features) -> Channels:
    """Number of channels of each irrep."""
    return {irrep: chunk.shape[-1] for irrep, chunk in features.items()}


def _rows(features: Features, places: Int[Array, " k"]) -> Features:
    return {irrep: chunk[places] for irrep, chunk in features.items()}


def _sum_of(irrep: Irrep, *parts: Features) -> Float[Array, "n m c"]:
    return sum(part[irrep] for part in parts if irrep in part)


class NeighborSum(nn.Module):
    """Sum over j of R(r_ij) [m_j x Y(r_ij)] / N; each coupling has its own channels, concatenated.

    The sum is computed before the coupling: sum over j of Y_b(r_ij) (R m_j)_ac for the components a of the neighbor's
    features and b of the harmonics, then the 3j symbols on atoms. Couplings to scalars are contracted first, so that
    one number is summed instead of (2l + 1)^2. No single array holds all couplings of an edge, because the gradient of
    slicing it is slow.
    """

    config: NequIPConfig
    outputs: Channels

    @nn.compact
    def __call__(self, messages: Features, edges: Edges) -> Features:
        config, blocks = self.config, edges.blocks
        n_atoms = len(messages[SCALAR])
        paths = couplings(channels_of(messages), config.harmonics, self.outputs)
        widths = tuple(messages[path.node].shape[-1] for path in paths)
        radials = RadialMLP(config.radial_hidden, widths, name="radial")(edges.radial)
        neighbors = {irrep: any_rows(chunk, blocks.senders) for irrep, chunk in messages.items()}
        norm = config.mean_neighbors if config.neighbor_norm == "mean" else np.sqrt(config.mean_neighbors)
        sums: dict[Irrep, list[Float[Array, "n m c"]]] = {}
        for path, radial in zip(paths, radials, strict=True):
            in_blocks = _sum_in_blocks(radial[:, None, :], neighbors[path.node], edges, path)
            total = blocks.sum_blocks(in_blocks, n_atoms)
            if path.out.order > 0:
                symbol = jnp.asarray(path.symbol.swapaxes(0, 1), total.dtype)
                total = jnp.einsum("bao,nbac->noc", symbol, total)
            sums.setdefault(path.out, []).append(total / norm)
        return {irrep: jnp.concatenate(parts, axis=-1) for irrep, parts in sums.items()}


def _sum_in_blocks(
    radial: Float[Array, "s 1 c"], features: Float[Array, "s a c"], edges: Edges, path: Path
) -> Float[Array, "e ..."]:
    """Sum over the edges of each block of Y_b (R m)_ac, (e, b, a, c), or for scalars of [R m x Y], (e, 1, c)."""
    order, size = path.edge.order, edges.blocks.size
    harmonics = edges.harmonics[:, order**2 : (order + 1) ** 2]
    if path.out.order == 0:
        harmonics = harmonics * jnp.asarray(np.diag(path.symbol[:, :, 0]), harmonics.dtype)  # the only nonzero elements
        weighted = radial * sum(harmonics[:, a, None] * features[:, a] for a in range(2 * order + 1))[:, None, :]
    else:
        weighted = radial * features
    weighted = weighted.reshape(-1, size, *weighted.shape[1:])
    if path.out.order == 0:
        return weighted.sum(axis=1)
    if order == 0:
        return weighted.sum(axis=1)[:, None]  # Y_0 = 1
    # XLA calls a batched matrix product block by block on a CPU; this sum is one loop, and so are its derivatives.
    return jnp.sum(harmonics.reshape(-1, size, 2 * order + 1, 1, 1) * weighted[:, :, None], axis=1)


class RadialMLP(nn.Module):
    """Radial functions -> R of each coupling by channel; without biases, so that zero remains zero."""

    hidden: tuple[int, ...]
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "e k"]) -> list[Float[Array, "e c"]]:
        for layer, width in enumerate(self.hidden):
            x = nn.silu(x @ self._kernel(layer, (x.shape[-1], width), variance=4.0))
        kernel = self._kernel(len(self.hidden), (x.shape[-1], sum(self.widths)), variance=1.0)
        return [x @ part for part in jnp.split(kernel, np.cumsum(self.widths)[:-1], axis=1)]

    def _kernel(self, layer: int, shape: tuple[int, int], variance: float) -> Float[Array, "i o"]:
        """Kernel initialized with the given variance divided by the number of inputs, as in Nequix."""
        return self.param(f"layer_{layer}", nn.initializers.normal(np.sqrt(variance / shape[0])), shape)


class Linear(nn.Module):
    """Mixes channels separately for each irrep that is in both inputs and outputs, with (inputs, outputs) kernels."""

    inputs: Channels
    outputs: Channels

    @nn.compact
    def __call__(self, features: Features) -> Features:
        mixed = {}
        for irrep, n in self.outputs.items():
            if irrep in self.inputs:
                n_inputs = self.inputs[irrep]
                kernel = _weight(self, str(irrep), (n_inputs, n)) / np.sqrt(n_inputs)
                mixed[irrep] = kernel[:, None, :] if features[irrep] is ONE_HOT else features[irrep] @ kernel
        return mixed


class ElementLinear(nn.Module):
    """Mixes channels separately for each irrep, with a kernel (inputs, outputs) for each element."""

    inputs: Channels
    outputs: Channels
    n_elements: int

    @nn.compact
    def __call__(self, features: Features, elements: Int[Array, " n"]) -> Features:
        mixed = {}
        for irrep, n in self.outputs.items():
            if irrep in self.inputs:
                n_inputs = self.inputs[irrep]
                kernels = _weight(self, str(irrep), (self.n_elements, n_inputs, n)) / np.sqrt(n_inputs)
                if features[irrep] is ONE_HOT:
                    mixed[irrep] = kernels[elements, elements][:, None, :]
                else:
                    mixed[irrep] = jnp.einsum("nmc,ncd->nmd", features[irrep], kernels[elements])
        return mixed


class RMSNorm(nn.Module):
    """f / sqrt(s) times a weight per channel; s is the mean over irreps of |f|^2 / (2l + 1)^2, summed over channels.

    This follows Nequix's code: its mean runs over components, not over channels.
    """

    @nn.compact
    def __call__(self, features: Features) -> Features:
        squares = [jnp.sum(f * f, axis=(1, 2), keepdims=True) / f.shape[1] ** 2 for f in features.values()]
        factor = jax.lax.rsqrt(sum(squares) / len(squares) + _EPSILON)
        return {
            irrep: chunk * factor * self.param(str(irrep), nn.initializers.ones, chunk.shape[-1:])
            for irrep, chunk in features.items()
        }


def select_head(config: NequIPConfig, params: dict, head: str) -> tuple[NequIPConfig, dict]:
    """Config and parameters of the network with only the given head."""
    place = config.heads.index(head)
    chosen = {}
    for name, group in params.items():
        if name.startswith("layer_"):
            group = {k: np.asarray(v)[[place]] if k.startswith("bias_") else v for k, v in group.items()}
        chosen[name] = group
    return config.model_copy(update={"heads": (head,)}), chosen


def _weight(module: nn.Module, name: str, shape: tuple[int, ...]) -> Float[Array, "..."]:
    return module.param(name, nn.initializers.normal(1.0), shape)
