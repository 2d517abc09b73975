"""CGAT, the crystal graph attention network (J. Schmidt et al., Sci. Adv. 7, eabi7948, 2021), as released.

Predicts a property of a crystal from its neighbor shells, without bond lengths. Two properties of the released code
make the network far cheaper than it seems, exactly:

- The edge update depends only on the edge, which starts as the embedding of its shell, so it is computed for the table
  of 25 shells.
- W [x_r | e | x_s] = (W1 x)_r + (W2 e) + (W3 x)_s: the first layers of all attention networks are computed for nodes
  and shells instead of 24 edges per atom.

The attention networks of the original's edge module, whose result its code discards, and the edge module of the last
step are omitted: nothing depends on them.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import jraph
from flax import linen as nn
from jaxtyping import Array, Float
from pydantic import BaseModel, ConfigDict, Field

from mlip.graph.prototype import PrototypeBatch
from mlip.graph.shells import ShellGraph
from mlip.models.crystal_layout import AlikeCrystals, Layout, PackedCrystals
from mlip.models.hypernetwork import Hypernetwork
from mlip.models.roost import Roost
from mlip.models.torch_linear import TwoLayers, leaky_relu, linear, uniform_by_inputs


class CGATConfig(BaseModel):
    """Architecture of a CGAT; the defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Literal["cgat"] = "cgat"
    cutoff: float = Field(18.0, gt=0, description="search radius for neighbors, A")
    n_neighbors: int = Field(24, ge=1, description="nearest neighbors of an atom that become its edges")
    shell_tolerance: float = Field(1e-8, gt=0, description="distances within a shell differ by less than this, A")
    features: int = Field(128, ge=2, description="features of an atom")
    shell_features: int = Field(512, ge=1, description="features of an edge")
    heads: int = Field(6, ge=1)
    n_steps: int = Field(5, ge=1, description="steps of message passing")
    composition_steps: int = Field(3, ge=0, description="steps of message passing between elements")
    vector_attention: bool = Field(True, description="one weight per feature of a message instead of a single one")
    vector_pooling: bool = Field(True, description="one weight per feature of an atom in its crystal")
    edge_update: Literal["shell", "attention"] = Field(
        "shell", description="'attention' depends on the atoms, at a cost per edge"
    )
    pooled_heads: Literal["concatenated", "mean"] = "concatenated"
    output_widths: tuple[int, ...] = (1024, 1024, 512, 512, 256, 256, 128)
    rezero: bool = Field(True, description="blocks of the output network start with weight zero")
    element_vectors: Literal["learned", "fixed"] = Field(
        "learned", description="'fixed' vectors are given, e.g. matscholar's, and not trained"
    )
    element_features: int = Field(200, ge=1, description="length of the element vectors")
    max_atomic_number: int = Field(103, ge=1, le=118)

    @property
    def inputs(self) -> ShellGraph:
        """Kind of graph that the network reads."""
        return ShellGraph(self.n_neighbors, self.cutoff, self.shell_tolerance)

    @property
    def known_numbers(self) -> range:
        """Atomic numbers with an element vector."""
        return range(1, self.max_atomic_number + 1)

    @property
    def hidden(self) -> int:
        """Width of the hidden layer of the attention networks."""
        return int((2 * self.features + self.shell_features) / 1.5)


class CGAT(nn.Module):
    """Batch -> (c, 2): a property, standardized by mean and standard deviation, and the logarithm of its uncertainty.

    Reads padded graphs of `mlip.graph.shells.shell_graph`, or one prototype with many assignments of elements.
    """

    config: CGATConfig

    @nn.compact
    def __call__(self, batch: jraph.GraphsTuple | PrototypeBatch) -> Float[Array, "c 2"]:
        config = self.config
        shape = (config.max_atomic_number + 1, config.element_features)  # row 0 is for padding
        vectors = self.param("element_vectors", nn.initializers.normal(shape[1] ** -0.5), shape)
        if config.element_vectors == "fixed":
            vectors = jax.lax.stop_gradient(vectors)
        if isinstance(batch, PrototypeBatch):
            species, layout = batch.species, AlikeCrystals.of(batch, vectors.dtype)
            elements, fractions = batch.elements, batch.fractions
        else:
            species, layout = batch.nodes["species"], PackedCrystals.of(batch, vectors.dtype)
            elements, fractions = batch.globals["elements"], batch.globals["fractions"]

        # Embedded before gathering, because there are fewer elements than atoms.
        atoms = initial = linear(config.features, shape[1], "embedding", use_bias=False)(vectors)[species]
        edges = initial_edges = self._initial_edges(layout)
        for step in range(config.n_steps):
            change = nn.remat(AtomUpdate)(config, step, name=f"atoms_{step}")(atoms, edges, initial, layout)
            if step < config.n_steps - 1:  # the last edges are not used
                edges += self._edge_change(step, atoms, edges, initial_edges, layout)
            atoms += change
        composition = Roost(config.features, config.composition_steps, name="composition")(
            vectors[elements], fractions.astype(vectors.dtype)
        )
        pooled = Pooling(config, name="pooling")(atoms, composition, layout)
        return ResidualNetwork(config.output_widths, config.rezero, name="output")(pooled)

    def _initial_edges(self, layout: Layout) -> Float[Array, "... f"]:
        """Initial features: a row for each shell, or for each edge if the atoms will change the edges."""
        config = self.config
        shape = (config.n_neighbors + 1, config.shell_features)  # shells are numbered from 1
        table = self.param("shell_embedding", nn.initializers.normal(1.0), shape)
        return table if config.edge_update == "shell" else layout.of_shells(table)

    def _edge_change(self, step: int, atoms, edges, initial_edges, layout: Layout) -> Float[Array, "... f"]:
        config, name = self.config, f"edges_{step}"
        if config.edge_update == "shell":
            return TwoLayers(config.shell_features, config.shell_features, name=name)(edges)
        return nn.remat(EdgeUpdate)(config, step, name=name)(atoms, edges, initial_edges, layout)


class HeadNets(NamedTuple):
    """A two-layer network for each attention head, stacked; `jax.lax.map` over it yields one network at a time."""

    hidden_kernel: Float[Array, "heads i h"]
    hidden_bias: Float[Array, "heads h"]
    kernel: Float[Array, "heads h o"]
    bias: Float[Array, "heads o"]

    def __call__(self, *parts: tuple[Float[Array, "... i"], Callable]) -> Float[Array, "... o"]:
        """Output of one network for concatenated parts; each part comes with the function that gathers its rows.

        The first layer is applied before gathering, to fewer rows.
        """
        hidden, first = self.hidden_bias, 0
        for rows, place in parts:
            last = first + rows.shape[-1]
            hidden = hidden + place(rows @ self.hidden_kernel[first:last])
            first = last
        return leaky_relu(hidden) @ self.kernel + self.bias


class HeadParameters(nn.Module):
    """Parameters of the attention networks, returned as `HeadNets`."""

    heads: int
    n_inputs: int
    hidden: int
    features: int

    @nn.compact
    def __call__(self) -> HeadNets:
        heads, n_inputs, hidden, features = self.heads, self.n_inputs, self.hidden, self.features
        first, second = uniform_by_inputs(n_inputs), uniform_by_inputs(hidden)
        return HeadNets(
            self.param("hidden_kernel", first, (heads, n_inputs, hidden)),
            self.param("hidden_bias", first, (heads, hidden)),
            self.param("kernel", second, (heads, hidden, features)),
            self.param("bias", second, (heads, features)),
        )


def _same(rows: Float[Array, "... f"]) -> Float[Array, "... f"]:
    return rows


class AtomUpdate(nn.Module):
    """Change of the atom features: attention over the incoming edges, then a hypernetwork applied to the mean of the
    heads.

    The weights of the first step depend on the element, those of later steps on a mixture of the element and the
    messages.
    """

    config: CGATConfig
    step: int

    @nn.compact
    def __call__(
        self,
        atoms: Float[Array, "n ... f"],
        edges: Float[Array, "... d"],
        initial: Float[Array, "n ... f"],
        layout: Layout,
    ) -> Float[Array, "n ... f"]:
        config = self.config
        place = layout.of_shells if config.edge_update == "shell" else _same
        n_inputs = 2 * config.features + config.shell_features

        def nets(name: str, features: int) -> HeadNets:
            return HeadParameters(config.heads, n_inputs, config.hidden, features, name=name)()

        def head(nets: tuple[HeadNets, HeadNets]) -> Float[Array, "n ... f"]:
            scores, messages = (
                net((atoms, layout.at_receivers), (edges, place), (atoms, layout.at_senders)) for net in nets
            )
            return layout.attend_to_edges(scores, messages)

        score_nets = nets("scores", config.features if config.vector_attention else 1)
        arrived = jax.lax.map(head, (score_nets, nets("messages", config.features))).mean(0)
        weights_from = initial if self.step == 0 else mixture(self, initial, arrived)
        return Hypernetwork(name="hypernetwork")(weights_from, arrived)


class EdgeUpdate(nn.Module):
    """Change of the edge features from the atoms at both ends; the softmax runs over the heads of each edge."""

    config: CGATConfig
    step: int

    @nn.compact
    def __call__(
        self,
        atoms: Float[Array, "n ... f"],
        edges: Float[Array, "... d"],
        initial_edges: Float[Array, "... d"],
        layout: Layout,
    ) -> Float[Array, "... d"]:
        config = self.config
        n_inputs = 2 * config.features + config.shell_features

        def each_head(name: str, features: int) -> Float[Array, "heads ... o"]:
            nets = HeadParameters(config.heads, n_inputs, config.hidden, features, name=name)()
            parts = (atoms, layout.at_senders), (edges, _same), (atoms, layout.at_receivers)
            return jax.lax.map(lambda net: net(*parts), nets)

        weights = nn.softmax(each_head("scores", config.shell_features if config.vector_attention else 1), axis=0)
        arrived = (weights * each_head("messages", config.shell_features)).mean(0)
        weights_from = edges if self.step == 0 else mixture(self, initial_edges, arrived)
        return Hypernetwork(name="hypernetwork")(weights_from, arrived)


def mixture(module: nn.Module, initial: Float[Array, "... f"], arrived: Float[Array, "... f"]) -> Float[Array, "... f"]:
    """Mixture of initial features and messages; the weight of the former is learned, between 0 and 1."""
    damping = jnp.clip(module.param("damping", nn.initializers.uniform(1.0), ()), 0.0, 1.0)
    return damping * initial + (1 - damping) * arrived


class Pooling(nn.Module):
    """Atoms -> crystals: attention over the atoms, with scores that depend on the composition; heads are concatenated
    or averaged."""

    config: CGATConfig

    @nn.compact
    def __call__(
        self, atoms: Float[Array, "n ... f"], composition: Float[Array, "c f"], layout: Layout
    ) -> Float[Array, "c p"]:
        config, width = self.config, self.config.features
        score_width = width if config.vector_pooling else 1
        score_nets = HeadParameters(config.heads, 2 * width, width, score_width, name="scores")()
        value_nets = HeadParameters(config.heads, width, width, width, name="values")()

        def head(nets: tuple[HeadNets, HeadNets]) -> Float[Array, "c f"]:
            scores = nets[0]((atoms, _same), (composition, layout.of_crystals))
            return layout.attend_to_nodes(scores, nets[1]((atoms, _same)))

        pooled = jax.lax.map(head, (score_nets, value_nets))
        if config.pooled_heads == "mean":
            return pooled.mean(0)
        return jnp.moveaxis(pooled, 0, 1).reshape(len(composition), -1)


class ResidualNetwork(nn.Module):
    """Blocks x -> weight * relu(W x + b) + R x, then a linear layer to two outputs; R is the identity if the width is
    unchanged."""

    widths: tuple[int, ...]
    rezero: bool

    @nn.compact
    def __call__(self, x: Float[Array, "c p"]) -> Float[Array, "c 2"]:
        for block, width in enumerate(self.widths):
            kept = x
            if width != x.shape[-1]:
                kept = linear(width, x.shape[-1], f"residual_{block}", use_bias=False)(x)
            change = nn.relu(linear(width, x.shape[-1], f"block_{block}")(x))
            if self.rezero:
                change *= self.param(f"weight_{block}", nn.initializers.zeros_init(), ())
            x = change + kept
        return linear(2, x.shape[-1], "out")(x)
