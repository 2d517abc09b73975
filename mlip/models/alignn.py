"""ALIGNN, the atomistic line graph network (K. Choudhary and B. DeCost, npj Comput. Mater. 7, 185, 2021), as released.

Predicts a property of a crystal from its bonds and the angles between them, with edge-gated convolutions on the crystal
graph and on its line graph, whose nodes are bonds and whose edges are pairs of bonds. Batch normalization gives the
paper's network, layer normalization the later `alignn_atomwise`.

Pairs dominate the cost. Terms that depend on one bond of a pair are computed per bond and gathered; per pair, each
layer has a single product, and the last layer only that of the gate. Equivalent atoms, bonds and pairs share one row
with a multiplicity (`mlip.graph.bond_pairs`), which weights sums and the means of batch normalization; this is exact.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int
from pydantic import BaseModel, ConfigDict, Field

from mlip.graph.batching import pairs_of
from mlip.graph.bond_pairs import BondPairGraph
from mlip.models.torch_linear import linear, uniform_by_inputs

Total = Callable[[Array], Array]
"""Function that sums a value over all devices."""

_EPSILON = 1e-5
_MOMENTUM = 0.1
_TINY = 1e-6
"""Added to the sum of the gates to avoid division by zero."""
_LOG_LINK = 0.7
"""Initial output of a network with `link: log`."""
_LONGEST = 8.0
"""Last center of the expansion of bond lengths, A."""


class ALIGNNConfig(BaseModel):
    """Architecture of an ALIGNN; the defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Literal["alignn"] = "alignn"
    neighbors: Literal["nearest", "radius"] = Field("nearest", description="neighbors to which an atom has bonds")
    n_neighbors: int = Field(12, ge=1, description="nearest neighbors to which an atom proposes bonds")
    cutoff: float = Field(8.0, gt=0, description="cutoff radius for neighbors='radius', A")
    shell_tolerance: float = Field(1e-6, ge=0, description="distances that differ by less are equal, A")
    lattice_decimals: int | None = Field(
        None, ge=0, description="decimals of rounded lattice vectors, A; the original has 5"
    )
    n_pair_layers: int = Field(4, ge=0, description="convolutions of bonds and pairs of bonds")
    n_bond_layers: int = Field(4, ge=0, description="convolutions of atoms and bonds, after the pair layers")
    features: int = Field(256, ge=1, description="features of atoms, bonds and pairs")
    embedding_features: int = Field(64, ge=1, description="width of the layer between an expansion and the features")
    length_centers: int = Field(80, ge=2, description="centers of the expansion of bond lengths")
    cosine_centers: int = Field(40, ge=2, description="centers of the expansion of cosines")
    norm: Literal["batch", "layer"] = Field("batch", description="'layer' as in alignn_atomwise")
    link: Literal["identity", "log", "logit"] = Field(
        "identity", description="output as is, its exponential ('log'), or its sigmoid ('logit')"
    )
    predicts_uncertainty: bool = Field(False, description="a second output, which robust losses train")
    element_vectors: Literal["learned", "fixed"] = Field(
        "learned", description="'fixed' vectors are given, e.g. CGCNN's, and not trained"
    )
    element_features: int = Field(92, ge=1, description="length of the element vectors")
    max_atomic_number: int = Field(118, ge=1, le=118)

    @property
    def inputs(self) -> BondPairGraph:
        """Kind of graph that the network reads."""
        return BondPairGraph(self.n_neighbors, self.cutoff, self.neighbors, self.shell_tolerance, self.lattice_decimals)

    @property
    def has_batch_statistics(self) -> bool:
        """Whether training normalizes by the mean and variance of the batch and keeps running averages."""
        return self.norm == "batch"

    @property
    def known_numbers(self) -> range:
        """Atomic numbers with an element vector."""
        return range(1, self.max_atomic_number + 1)


class ALIGNN(nn.Module):
    """Batch -> (c, 2): a property, and the logarithm of its uncertainty (0 if it is not predicted).

    Reads padded graphs of `BondPairGraph`. To train a network with batch statistics, pass `total`, the sum over
    devices; the new running averages are put into the collection "statistics", under the names of the parameters that
    they replace.
    """

    config: ALIGNNConfig

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple, total: Total | None = None) -> Float[Array, "c 2"]:
        config = self.config
        shape = (config.max_atomic_number + 1, config.element_features)  # row 0 is for padding
        vectors = self.param("element_vectors", nn.initializers.normal(shape[1] ** -0.5), shape)
        if config.element_vectors == "fixed":
            vectors = jax.lax.stop_gradient(vectors)
        layout = Layout.of(graph, vectors.dtype)
        normalize = Normalization(config.norm, total)

        x = linear(config.features, shape[1], "atom_embedding")(vectors)[graph.nodes["species"]]
        x = nn.silu(normalize(x, layout.atoms, "atom_embedding_norm"))
        y = self._embedded("bond", layout.lengths, (0.0, _LONGEST, config.length_centers), layout.bonds, normalize)
        z = None
        if config.n_pair_layers:
            z = self._embedded("pair", layout.cosines, (-1.0, 1.0, config.cosine_centers), layout.pairs, normalize)
        last = config.n_pair_layers + config.n_bond_layers - 1
        for layer in range(config.n_pair_layers):
            convolve = Convolution(normalize, updates_edges=layer < last, name=f"atoms_{layer}")
            x, m = convolve(x, y, layout.bonds, layout.atoms)
            is_last = layer == config.n_pair_layers - 1
            if layer < last:  # the last bonds and pairs are not used
                convolve = Convolution(normalize, updates_edges=not is_last, name=f"bonds_{layer}")
                y, z = convolve(m, z, layout.pairs, layout.bonds)
        for layer in range(config.n_bond_layers):
            is_last = layer == config.n_bond_layers - 1
            convolve = Convolution(normalize, updates_edges=not is_last, name=f"gated_{layer}")
            x, y = convolve(x, y, layout.bonds, layout.atoms)

        pooled = layout.sum_crystals(x * layout.atoms.weights[:, None])
        pooled /= jnp.maximum(layout.sum_crystals(layout.atoms.weights), 1.0)[:, None]
        pooled = Readout(name="readout")(pooled)
        out = self._output(1 + config.predicts_uncertainty)(pooled)
        value = {"identity": lambda v: v, "log": jnp.exp, "logit": nn.sigmoid}[config.link](out[:, :1])
        return jnp.concatenate([value, out[:, 1:] if config.predicts_uncertainty else jnp.zeros_like(value)], axis=1)

    def _output(self, n: int) -> nn.Dense:
        initialize = uniform_by_inputs(self.config.features)
        bias = nn.initializers.constant(math.log(_LOG_LINK)) if self.config.link == "log" else initialize
        return nn.Dense(n, kernel_init=initialize, bias_init=bias, name="out")

    def _embedded(self, of: str, values, expansion: tuple[float, float, int], rows: "Rows", normalize):
        """Features of lengths or cosines: an expansion in Gaussians and two layers."""
        config = self.config
        values = expanded(values, *expansion)
        for step, width in enumerate((config.embedding_features, config.features)):
            name = f"{of}_embedding_{step}"
            values = nn.silu(normalize(linear(width, values.shape[-1], name)(values), rows, f"{name}_norm"))
        return values


class Readout(nn.Module):
    """Identity on the mean over the atoms; gives it a name by which it can be captured."""

    @nn.compact
    def __call__(self, pooled: Float[Array, "c f"]) -> Float[Array, "c f"]:
        return pooled


def expanded(values: Float[Array, " r"], low: float, high: float, n: int) -> Float[Array, "r n"]:
    """Gaussians of the values; as in the original, the exponent is -(x - center)^2 divided by the spacing of the
    centers."""
    centers = _centers(low, high, n)
    per_spacing = float(1 / np.diff(centers).mean())
    return jnp.exp(-per_spacing * (values[:, None] - jnp.asarray(centers, values.dtype)) ** 2)


def _centers(low: float, high: float, n: int) -> Float[np.ndarray, " n"]:
    """Equally spaced centers in single precision, rounded as in PyTorch: from both ends towards the middle."""
    step = np.float64(np.float32(high - low) / np.float32(n - 1))
    place = np.arange(n)
    return np.where(place < n // 2, low + step * place, high - step * (n - 1 - place)).astype(np.float32)


class Rows(NamedTuple):
    """Atoms, bonds or pairs of a padded batch."""

    weights: Float[Array, " r"]
    """Number of atoms, bonds or pairs that each row represents; 0 for padding."""
    senders: Int[Array, " r"] | None = None
    receivers: Int[Array, " r"] | None = None
    """Receiver of each row, ascending."""
    arriving: Float[Array, " r"] | None = None
    """Number of these bonds or pairs that arrive at one of the receivers."""


class Layout(NamedTuple):
    """Arrangement of the atoms, bonds and pairs of a padded batch in arrays."""

    atoms: Rows
    bonds: Rows
    pairs: Rows
    lengths: Float[Array, " e"]
    cosines: Float[Array, " p"]
    crystal_of_atom: Int[Array, " n"]
    n_crystals: int

    @classmethod
    def of(cls, graph: jraph.GraphsTuple, dtype) -> "Layout":
        pairs = pairs_of(graph)
        of_atoms, of_bonds, of_pairs = (
            columns["multiplicity"].astype(dtype) for columns in (graph.nodes, graph.edges, pairs.columns)
        )
        n_crystals = len(graph.n_node)
        if "vectors" in graph.edges:
            lengths, cosines = _measured(graph.edges["vectors"], pairs.senders, pairs.receivers)
        else:
            lengths, cosines = graph.edges["lengths"], pairs.columns["cosines"]
        return cls(
            Rows(of_atoms),
            Rows(of_bonds, graph.senders, graph.receivers, _quotient(of_bonds, of_atoms[graph.receivers])),
            Rows(of_pairs, pairs.senders, pairs.receivers, _quotient(of_pairs, of_bonds[pairs.receivers])),
            lengths.astype(dtype),
            cosines.astype(dtype),
            jnp.repeat(jnp.arange(n_crystals), graph.n_node, total_repeat_length=len(of_atoms)),
            n_crystals,
        )

    def sum_crystals(self, values: Float[Array, "n ..."]) -> Float[Array, "c ..."]:
        return jax.ops.segment_sum(values, self.crystal_of_atom, self.n_crystals, indices_are_sorted=True)


def _quotient(counts: Float[Array, " r"], of: Float[Array, " r"]) -> Float[Array, " r"]:
    return jnp.where(of > 0, counts / jnp.where(of > 0, of, 1.0), 0.0)


def _measured(vectors: Float[Array, "e 3"], senders, receivers) -> tuple[Float[Array, " e"], Float[Array, " p"]]:
    """Lengths of bonds and cosines of pairs from the bond vectors, differentiable."""
    lengths = jnp.sqrt((vectors**2).sum(-1))
    units = vectors / lengths[:, None]
    # The first bond points away from the atom that both share, the second towards it.
    return lengths, jnp.clip(-(units[senders] * units[receivers]).sum(-1), -1.0, 1.0)


class Normalization(NamedTuple):
    """Factory of normalization layers."""

    kind: Literal["batch", "layer"]
    total: Total | None
    """Sum over devices, when training with batch statistics; otherwise None."""

    def __call__(self, x: Float[Array, "r f"], rows: Rows, name: str) -> Float[Array, "r f"]:
        if self.kind == "layer":
            return nn.LayerNorm(epsilon=_EPSILON, use_fast_variance=False, name=name)(x)
        return BatchNorm(name=name)(x, rows.weights, self.total)


class BatchNorm(nn.Module):
    """Normalizes each channel by its mean and variance: those of the batch in training, otherwise running averages.

    The running averages are parameters that training replaces but does not optimize; their variance is the unbiased
    one.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "r f"], weights: Float[Array, " r"], total: Total | None) -> Float[Array, "r f"]:
        shape, ones, zeros = x.shape[1:], nn.initializers.ones_init(), nn.initializers.zeros_init()
        scale, bias = self.param("scale", ones, shape), self.param("bias", zeros, shape)
        running_mean, running_variance = (
            jax.lax.stop_gradient(self.param(f"running_{name}", begin, shape))
            for name, begin in (("mean", zeros), ("variance", ones))
        )
        if total is None:
            mean, variance = running_mean, running_variance
        else:
            count = jnp.maximum(total(weights.sum()), 1.0)
            mean = total(weights @ x) / count
            variance = total(weights @ (x - mean) ** 2) / count
            unbiased = variance * count / jnp.maximum(count - 1, 1.0)
            for name, running, found in (("mean", running_mean, mean), ("variance", running_variance, unbiased)):
                moved = running + _MOMENTUM * (jax.lax.stop_gradient(found) - running)
                self.put_variable("statistics", f"running_{name}", moved)
        factor = scale * jax.lax.rsqrt(variance + _EPSILON)
        return x * factor + (bias - mean * factor)


class Convolution(nn.Module):
    """Edge-gated convolution: nodes receive messages from their neighbors through gates that depend on the edge and
    both nodes. The arguments of the gates also update the edges."""

    normalize: Normalization
    updates_edges: bool = True

    @nn.compact
    def __call__(
        self, nodes: Float[Array, "n f"], edges: Float[Array, "e f"], of_edges: Rows, of_nodes: Rows
    ) -> tuple[Float[Array, "n f"], Float[Array, "e f"] | None]:
        width = nodes.shape[-1]
        # One product computes everything that edges and nodes need from the nodes.
        of_sender, of_receiver, kept = jnp.split(
            linear(4 * width, width, "nodes")(nodes), (2 * width, 3 * width), axis=1
        )
        gate_of_sender, message = jnp.split(of_sender[of_edges.senders], 2, axis=1)
        change = linear(width, width, "edges")(edges) + gate_of_sender + of_receiver[of_edges.receivers]
        gates = nn.sigmoid(change) * of_edges.arriving[:, None]
        arrived, opened = (
            jax.ops.segment_sum(rows, of_edges.receivers, len(nodes), indices_are_sorted=True)
            for rows in (gates * message, gates)
        )
        heard = kept + arrived / (opened + _TINY)
        nodes = nodes + nn.silu(self.normalize(heard, of_nodes, "nodes_norm"))
        if not self.updates_edges:
            return nodes, None
        return nodes, edges + nn.silu(self.normalize(change, of_edges, "edges_norm"))
