"""CrabNet (A. Y.-T. Wang, S. K. Kauwe, R. J. Murdock and T. D. Sparks, npj Comput. Mater. 7, 77, 2021), as released.

Predicts a property of a material from its composition alone. Encodings of an element's fraction are added to its
vector, the elements attend to each other, and the contributions of the elements are averaged.

Only attention, where elements interact, includes the empty slots of a batch. The cost of a batch with known slots thus
depends on its number of elements, not on its width.
"""

import zlib
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlip.graph.composition import CompositionBatch, ElementList
from mlip.models.torch_linear import Initializer, leaky_relu, linear, uniform_by_inputs

RESOLUTION = 5000
"""Number of rows in the table of encodings: fractions are resolved in steps of 1 / 5000."""
JITTER = 0.02
"""Standard deviation of the noise added to fractions in training, relative to each fraction."""
_LOG_SCALE = 0.0025
_LONGEST_WAVE = 50.0


class CrabNetConfig(BaseModel):
    """Architecture of a CrabNet; the defaults are the original's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Literal["crabnet"] = "crabnet"
    features: int = Field(512, ge=4, multiple_of=4, description="features of an element")
    heads: int = Field(4, ge=1, description="attention heads, each with features / heads channels")
    n_layers: int = Field(3, ge=1, description="attention layers")
    hidden: int = Field(2048, ge=1, description="width of the two-layer network in each layer")
    output_widths: tuple[int, ...] = (1024, 512, 256, 128)
    dropout: float = Field(0.1, ge=0, lt=1, description="share of activations dropped in training")
    element_vectors: Literal["learned", "fixed"] = Field(
        "fixed", description="'fixed' vectors are given, e.g. mat2vec's, and not trained"
    )
    element_features: int = Field(200, ge=1, description="length of the element vectors")
    max_atomic_number: int = Field(118, ge=1, le=118)
    max_elements: int = Field(12, ge=1, description="largest number of elements in a composition")

    @model_validator(mode="after")
    def _heads_share_the_features(self):
        if self.features % self.heads:
            raise ValueError(f"features = {self.features} is no multiple of heads = {self.heads}")
        return self

    @property
    def inputs(self) -> ElementList:
        """Kind of composition that the network reads."""
        return ElementList(self.max_elements)

    @property
    def is_random_in_training(self) -> bool:
        """Whether training steps need random numbers; always, for the noise of the fractions."""
        return True

    @property
    def known_numbers(self) -> range:
        """Atomic numbers with an element vector."""
        return range(1, self.max_atomic_number + 1)


class CrabNet(nn.Module):
    """Batch -> (k, 2): a property, standardized by mean and standard deviation, and the logarithm of its uncertainty.

    Training (`deterministic=False`) needs a random number generator named "dropout".
    """

    config: CrabNetConfig

    @nn.compact
    def __call__(self, batch: CompositionBatch | jraph.GraphsTuple, deterministic: bool = True) -> Float[Array, "k 2"]:
        config = self.config
        if isinstance(batch, jraph.GraphsTuple):
            batch = batch_of_graph(batch, config.max_elements)
            if not deterministic:
                batch = jittered(batch, self.make_rng("dropout"))
        slots = Slots.of(batch)
        fractions = slots.pack(batch.fractions)
        first_key = self.make_rng("params") if self.is_initializing() else None
        x = Embedding(config, name="embedding")(slots.pack(batch.species), fractions)
        for layer in range(config.n_layers):
            x = EncoderLayer(config, first_key, deterministic, name=f"layer_{layer}")(x, slots)
        x = jnp.where(fractions[:, None] > 0, x, 0.0)
        contributions = slots.unpack(OutputNetwork(config.output_widths, name="output")(x))

        is_element = (batch.species > 0)[..., None]
        count = jnp.maximum(is_element.sum(1), 1)  # at least 1, for empty rows of the batch
        value, log_sigma, gate = jnp.split(jnp.where(is_element, contributions, 0.0).sum(1) / count, 3, axis=1)
        return jnp.concatenate([value * nn.sigmoid(gate), log_sigma], axis=1)


def batch_of_graph(graph: jraph.GraphsTuple, width: int) -> CompositionBatch:
    """Compositions of a padded batch of element graphs, with `width` slots each."""
    n_graphs, species = len(graph.n_node), graph.nodes["species"]
    graph_of_node = jnp.repeat(jnp.arange(n_graphs), graph.n_node, total_repeat_length=len(species))
    place = jnp.arange(len(species)) - (jnp.cumsum(graph.n_node) - graph.n_node)[graph_of_node]
    slots = jnp.where(species > 0, graph_of_node * width + place, n_graphs * width)

    def spread(nodes: Float[Array, " n"]) -> Float[Array, "k w"]:
        return jnp.zeros(n_graphs * width, nodes.dtype).at[slots].set(nodes, mode="drop").reshape(n_graphs, width)

    return CompositionBatch(spread(species), spread(graph.nodes["fractions"]), slots)


class Slots:
    """Conversion between two layouts of a batch: one row per existing element, or (k, w) slots, some of them empty."""

    def __init__(self, rows: Int[Array, " r"], row_of_slot: Int[Array, " s"], is_there: Bool[Array, "k w"]):
        self.rows, self.row_of_slot, self.is_there = rows, row_of_slot, is_there

    @classmethod
    def of(cls, batch: CompositionBatch) -> "Slots":
        shape = batch.species.shape
        n_slots = shape[0] * shape[1]
        rows = jnp.arange(n_slots) if batch.slots is None else batch.slots
        row_of_slot = jnp.full(n_slots, len(rows)).at[rows].set(jnp.arange(len(rows)), mode="drop")
        return cls(rows, row_of_slot, batch.fractions > 0)

    def pack(self, slots: Array) -> Array:
        """(k, w, ...) -> (r, ...), zeros for spare rows."""
        return exchange(slots.reshape(-1, *slots.shape[2:]), self.rows, self.row_of_slot)

    def unpack(self, rows: Array) -> Array:
        """(r, ...) -> (k, w, ...), zeros for empty slots."""
        return exchange(rows, self.row_of_slot, self.rows).reshape(*self.is_there.shape, *rows.shape[1:])


@jax.custom_vjp
def exchange(values: Array, source: Int[Array, " m"], target: Int[Array, " n"]) -> Float[Array, "m ..."]:
    """values[source], with zeros where a source is out of range; no source occurs twice, and `target` is the inverse
    index.

    The gradient is gathered with `target`, which is faster than a scatter-add and equivalent because no source repeats.
    """
    del target
    return jnp.take(values, source, axis=0, mode="fill", fill_value=0)


def _exchange_forward(values, source, target):
    return exchange(values, source, target), target


def _exchange_backward(target, change):
    return jnp.take(change, target, axis=0, mode="fill", fill_value=0), None, None


exchange.defvjp(_exchange_forward, _exchange_backward)


class Embedding(nn.Module):
    """Element and fraction -> features: the element's vector plus encodings of the fraction and of its logarithm."""

    config: CrabNetConfig

    @nn.compact
    def __call__(self, species: Int[Array, " r"], fractions: Float[Array, " r"]) -> Float[Array, "r f"]:
        config = self.config
        shape = (config.max_atomic_number + 1, config.element_features)  # row 0 is for padding
        vectors = self.param("element_vectors", nn.initializers.normal(shape[1] ** -0.5), shape)
        if config.element_vectors == "fixed":
            vectors = jax.lax.stop_gradient(vectors)
        table = jax.lax.stop_gradient(self.param("encodings", _encodings, (RESOLUTION, config.features // 2)))
        element_scale, scale, log_scale = (
            self.param(name, nn.initializers.ones_init(), ()) for name in ("element_scale", "scale", "log_scale")
        )
        vectors = linear(config.features, shape[1], "element")(vectors)[species] * 2**element_scale
        linear_part = table[encoding_row(fractions)] * 2 ** ((1 - scale) ** 2)
        log_part = table[encoding_row(log_fraction(fractions))] * 2 ** ((1 - log_scale) ** 2)
        return vectors + jnp.concatenate([linear_part, log_part], axis=-1).astype(vectors.dtype)


def _encodings(key, shape: tuple[int, int], dtype=jnp.float32) -> Float[Array, "n h"]:
    return jnp.asarray(encodings(*shape), dtype)


def encodings(n: int, width: int) -> Float[np.ndarray, "n h"]:
    """Table of encodings in double precision: sines in even columns, cosines in odd ones.

    The original computes it in single precision, with errors up to 4e-4; its checkpoints contain their own table.
    """
    angles = np.arange(n)[:, None] / _LONGEST_WAVE ** (2 * np.arange(width) / width)
    return np.where(np.arange(width) % 2 == 0, np.sin(angles), np.cos(angles))


def log_fraction(fractions: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Square of the binary logarithm, scaled; 1 for fractions below 1e-6."""
    logarithm = jnp.log2(jnp.where(fractions > 0, fractions, 1.0))
    return jnp.where(fractions > 0, jnp.minimum(_LOG_SCALE * logarithm**2, 1.0), 1.0)


def encoding_row(fractions: Float[Array, "*s"]) -> Int[Array, "*s"]:
    """Row of the table that encodes a fraction: 0 to 4999."""
    return jnp.round(jnp.maximum(fractions, 1 / RESOLUTION) * RESOLUTION).astype(jnp.int32) - 1


class EncoderLayer(nn.Module):
    """Attention among the elements of each composition, then a two-layer network applied to each element."""

    config: CrabNetConfig
    first_key: Array | None
    """Random key for initializing the parameters. All layers share it and start equal, because the original copies one
    layer."""
    deterministic: bool

    @nn.compact
    def __call__(self, x: Float[Array, "r f"], slots: Slots) -> Float[Array, "r f"]:
        config = self.config
        dropout = self._dropout
        projected = self._linear(x, 3 * config.features, "queries_keys_values", is_attention=True)
        heard = slots.pack(attention(slots.unpack(projected), slots.is_there, config.heads, dropout))
        heard = self._linear(heard, config.features, "heard", is_attention=True)
        x = nn.LayerNorm(epsilon=1e-5, name="norm_attention")(x + dropout(heard))
        hidden = dropout(nn.relu(self._linear(x, config.hidden, "hidden")))
        change = self._linear(hidden, config.features, "change")
        return nn.LayerNorm(epsilon=1e-5, name="norm_change")(x + dropout(change))

    def _dropout(self, x: Float[Array, "*s"]) -> Float[Array, "*s"]:
        if self.deterministic or not self.config.dropout:
            return x
        return dropped(x, self.config.dropout, self.make_rng("dropout"))

    def _linear(self, x: Float[Array, "r i"], features: int, name: str, is_attention: bool = False):
        kernel = bias = uniform_by_inputs(x.shape[-1])
        if is_attention:
            bias = nn.initializers.zeros_init()
        if name == "queries_keys_values":
            kernel = nn.initializers.xavier_uniform()
        if self.first_key is not None:
            key = jax.random.fold_in(self.first_key, zlib.crc32(name.encode()))
            kernel, bias = _with_key(kernel, jax.random.fold_in(key, 0)), _with_key(bias, jax.random.fold_in(key, 1))
        return nn.Dense(features, kernel_init=kernel, bias_init=bias, name=name)(x)


def _with_key(initialize: Initializer, key: Array) -> Initializer:
    return lambda _, shape, dtype=jnp.float32: initialize(key, shape, dtype)


def dropped(x: Float[Array, "*s"], rate: float, key: Array) -> Float[Array, "*s"]:
    """Dropout: sets a random share of the numbers to zero and scales the others to preserve the mean.

    The random bits are a hash of each number's index (the finalizer of MurmurHash3) with two random words. Bits from
    jax.random would take a quarter of a training step on a CPU.
    """
    first, second = jax.random.bits(key, (2,), jnp.uint32)
    bits = jax.lax.iota(jnp.uint32, x.size).reshape(x.shape) * jnp.uint32(0x9E3779B9) + first
    for factor in (0x85EBCA6B, 0xC2B2AE35):
        bits = (bits ^ (bits >> 15) ^ second) * jnp.uint32(factor)
    bits ^= bits >> 16
    return jnp.where(bits >= jnp.uint32(rate * 2**32), x / (1 - rate), 0.0)


def attention(
    projected: Float[Array, "k w q"],
    is_there: Bool[Array, "k w"],
    heads: int,
    dropout: Callable[[Array], Array],
) -> Float[Array, "k w f"]:
    """Mean of the values of each composition's elements for each slot, weighted by the softmax of query * key.

    Args:
        projected: queries, keys and values concatenated; each consists of one block of channels per head.
        dropout: applied to the weights.
    """
    k, w, _ = projected.shape
    queries, keys, values = jnp.moveaxis(projected.reshape(k, w, 3, heads, -1), 2, 0)
    scores = jnp.einsum("kihc,kjhc->khij", queries, keys) / queries.shape[-1] ** 0.5
    scores = jnp.where(is_there[:, None, None, :], scores, jnp.finfo(scores.dtype).min)  # not -inf: avoids NaN
    weights = dropout(nn.softmax(scores, axis=-1))
    return jnp.einsum("khij,kjhc->kihc", weights, values).reshape(k, w, -1)


class OutputNetwork(nn.Module):
    """Blocks x -> leaky ReLU(W x + b) + R x, then a linear layer to three outputs; R is the identity if the width is
    unchanged."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "r f"]) -> Float[Array, "r 3"]:
        for block, width in enumerate(self.widths):
            kept = x
            if width != x.shape[-1]:
                kept = linear(width, x.shape[-1], f"residual_{block}", use_bias=False)(x)
            x = leaky_relu(linear(width, x.shape[-1], f"block_{block}")(x)) + kept
        return linear(3, x.shape[-1], "out")(x)


def jittered(batch: CompositionBatch, key: Array) -> CompositionBatch:
    """Batch for a training step, with 2 % relative noise on its fractions, which are then normalized to 1."""
    fractions = jnp.asarray(batch.fractions)
    noise = jax.random.normal(key, fractions.shape, fractions.dtype)
    fractions = jnp.where(batch.species > 0, jnp.clip(fractions * (1 + JITTER * noise), 0.0, 1.0), 0.0)
    total = fractions.sum(1, keepdims=True)
    return batch._replace(fractions=fractions / jnp.where(total > 0, total, 1.0))
