"""A network G(u; x) whose weights another network predicts for each row.

Implemented as in CGAT, after V. Sitzmann et al., Scene Representation Networks, NeurIPS 2019.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mlip.models.torch_linear import uniform_by_inputs

N_LAYERS = 4
"""Number of layers of the network with predicted weights, and of hidden layers in each of the four networks that
predict them."""
_EPSILON = 1e-5
_ROWS = 128
"""Number of rows whose predicted weights are in memory at once; each takes 64 kB at width 128."""


class Hypernetwork(nn.Module):
    """(u, x) -> four layers of x with weights predicted from u; all but the last are tanh(LayerNorm(W x + b)).

    Each layer has its own predictor: four tanh layers, then a linear layer to W and b. The parameters of the latter are
    stored by the factors that they multiply: `kernel` [h, x, out] both, `from_input` [x, out], `from_hidden` [h, out],
    and `bias` neither.
    """

    @nn.compact
    def __call__(self, u: Float[Array, "... f"], x: Float[Array, "... f"]) -> Float[Array, "... f"]:
        width = x.shape[-1]
        shape, x = x.shape, x.reshape(-1, width)
        hidden = self._hidden(u.reshape(-1, width), width)

        small = nn.initializers.normal(0.1 * (2 / width) ** 0.5)
        uniform = uniform_by_inputs(width)
        kernel = self.param("kernel", small, (N_LAYERS, width, width, width))
        from_hidden = self.param("from_hidden", small, (N_LAYERS, width, width))
        from_input = self.param("from_input", uniform, (N_LAYERS, width, width))
        bias = self.param("bias", uniform, (N_LAYERS, width))
        for layer in range(N_LAYERS):
            h = hidden[layer]
            x = bilinear(h, x, kernel[layer]) + h @ from_hidden[layer] + x @ from_input[layer] + bias[layer]
            if layer < N_LAYERS - 1:
                x = jnp.tanh(_layer_norm(x))
        return x.reshape(shape)

    def _hidden(self, u: Float[Array, "n f"], width: int) -> Float[Array, "l n f"]:
        """Hidden features of each predictor before its last layer."""
        kernels = self.param(
            "hidden_kernel", nn.initializers.normal((2 / width) ** 0.5), (N_LAYERS, N_LAYERS, width, width)
        )
        biases = self.param("hidden_bias", uniform_by_inputs(width), (N_LAYERS, N_LAYERS, width))
        hidden = jnp.broadcast_to(u, (N_LAYERS, *u.shape))
        for depth in range(N_LAYERS):
            hidden = jnp.tanh(jnp.einsum("lnf,lfo->lno", hidden, kernels[:, depth]) + biases[:, depth, None])
        return hidden


def bilinear(h: Float[Array, "n k"], x: Float[Array, "n i"], kernel: Float[Array, "k i o"]) -> Float[Array, "n o"]:
    """Sum over k and i of h_k x_i kernel_kio."""

    def of_row(row):
        h, x = row
        return x @ jnp.tensordot(h, kernel, 1)

    return jax.lax.map(of_row, (h, x), batch_size=_ROWS) if len(x) > _ROWS else jax.vmap(of_row)((h, x))


def _layer_norm(x: Float[Array, "n f"]) -> Float[Array, "n f"]:
    centered = x - x.mean(-1, keepdims=True)
    return centered / jnp.sqrt((centered**2).mean(-1, keepdims=True) + _EPSILON)
