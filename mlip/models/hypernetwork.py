"""A network whose weights another network predicts, for each row anew: G(u; x).

As CGAT has it (after V. Sitzmann et al., Scene Representation Networks, NeurIPS 2019).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mlip.models.torch_linear import uniform_by_inputs

N_LAYERS = 4
"""Layers of the network whose weights are predicted, and hidden layers of each of the four that predict them."""
_EPSILON = 1e-5
_ROWS = 128
"""Predicted weights of so many rows, 64 kB each at width 128, are in memory at once."""


class Hypernetwork(nn.Module):
    """(u, x) -> four layers of x with weights predicted from u; layers but the last are tanh(LayerNorm(W x + b)).

    Four predictors, one a layer: four layers of tanh, then a linear one to W and b. The latter's parameters are kept
    by what they multiply: `kernel` [h, x, out] both, `from_input` [x, out], `from_hidden` [h, out] and `bias`.
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
        """Features that each predictor makes of u before its last layer."""
        kernels = self.param(
            "hidden_kernel", nn.initializers.normal((2 / width) ** 0.5), (N_LAYERS, N_LAYERS, width, width)
        )
        biases = self.param("hidden_bias", uniform_by_inputs(width), (N_LAYERS, N_LAYERS, width))
        hidden = jnp.broadcast_to(u, (N_LAYERS, *u.shape))
        for depth in range(N_LAYERS):
            hidden = jnp.tanh(jnp.einsum("lnf,lfo->lno", hidden, kernels[:, depth]) + biases[:, depth, None])
        return hidden


def bilinear(h: Float[Array, "n k"], x: Float[Array, "n i"], kernel: Float[Array, "k i o"]) -> Float[Array, "n o"]:
    """sum over k and i of h_k x_i kernel_kio."""

    def of_row(row):
        h, x = row
        return x @ jnp.tensordot(h, kernel, 1)

    return jax.lax.map(of_row, (h, x), batch_size=_ROWS) if len(x) > _ROWS else jax.vmap(of_row)((h, x))


def _layer_norm(x: Float[Array, "n f"]) -> Float[Array, "n f"]:
    centered = x - x.mean(-1, keepdims=True)
    return centered / jnp.sqrt((centered**2).mean(-1, keepdims=True) + _EPSILON)
