"""Roost, a vector for a composition (R. E. A. Goodall and A. A. Lee, Nat. Commun. 11, 6280, 2020), as used in CGAT.

The distinct elements of a crystal exchange messages weighted by their fractions. Since there are few, every crystal has
the same number of element slots, empty ones with fraction 0, and all pairs of slots form one small dense array.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from mlip.models.torch_linear import TwoLayers, leaky_relu, linear, uniform_by_inputs

_HIDDEN = 256
_TINY = 1e-13


class Roost(nn.Module):
    """Element vectors (c, k, v) and fractions (c, k) -> a vector (c, features) for each composition."""

    features: int
    n_steps: int

    @nn.compact
    def __call__(self, vectors: Float[Array, "c k v"], fractions: Float[Array, "c k"]) -> Float[Array, "c f"]:
        is_element = fractions > 0
        elements = linear(self.features - 1, vectors.shape[-1], "embedding")(vectors)
        elements = jnp.concatenate([elements, fractions[..., None]], axis=-1)
        others = is_element[:, None, :] & ~jnp.eye(elements.shape[1], dtype=bool)
        for step in range(self.n_steps):
            elements += Messages(name=f"messages_{step}")(elements, fractions, others)

        scores = TwoLayers(_HIDDEN, 1, name="pool_gate")(elements)[..., 0]
        power = self.param("pool_power", nn.initializers.normal(1.0), ())
        weights = fraction_softmax(scores, fractions, is_element, power)
        return jnp.einsum("ck,ckf->cf", weights, elements)


class Messages(nn.Module):
    """Messages to each element from the others; zero for a single element.

    Both networks read [self | other]. Their first layers are applied to elements before pairing; the last layer of the
    message network is applied after the weighted sum, with which it commutes.
    """

    @nn.compact
    def __call__(
        self, elements: Float[Array, "c k f"], fractions: Float[Array, "c k"], others: Bool[Array, "c k k"]
    ) -> Float[Array, "c k f"]:
        width = elements.shape[-1]

        def hidden(name: str) -> Float[Array, "c k k h"]:
            at_self = linear(_HIDDEN, 2 * width, f"{name}_self")(elements)
            at_other = linear(_HIDDEN, 2 * width, f"{name}_other", use_bias=False)(elements)
            return leaky_relu(at_self[:, :, None] + at_other[:, None, :])

        scores = linear(1, _HIDDEN, "gate")(hidden("gate"))[..., 0]
        power = self.param("power", nn.initializers.normal(1.0), ())
        weights = fraction_softmax(scores, fractions[:, None, :], others, power)
        heard = jnp.einsum("cij,cijh->cih", weights, hidden("message"))
        initialize = uniform_by_inputs(_HIDDEN)
        kernel = self.param("message_kernel", initialize, (_HIDDEN, width))
        bias = self.param("message_bias", initialize, (width,))
        return heard @ kernel + weights.sum(-1, keepdims=True) * bias


def fraction_softmax(
    scores: Float[Array, "... k"],
    fractions: Float[Array, "... k"],
    counts: Bool[Array, "... k"],
    power: Float[Array, ""],
) -> Float[Array, "... k"]:
    """Softmax weights w^power exp(score), normalized over the entries in `counts`; zero if there are none."""
    largest = jax.lax.stop_gradient(jnp.where(counts, scores, -jnp.inf).max(-1, keepdims=True))
    largest = jnp.where(jnp.isfinite(largest), largest, 0.0)
    exponents = jnp.where(counts, scores - largest, 0.0)
    weights = jnp.where(counts, jnp.where(counts, fractions, 1.0) ** power * jnp.exp(exponents), 0.0)
    return weights / (weights.sum(-1, keepdims=True) + _TINY)
