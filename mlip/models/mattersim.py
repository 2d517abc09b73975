"""MatterSim's network (Yang et al., arXiv:2405.04967), an M3GNet in which angles cost almost nothing.

Its layers are those of `mlip.models.m3gnet`, with four blocks, max_l = max_n = 4 and two differences, which follow the
authors' code (mattersim 1.2):

- In the three-body sum over pairs of bonds (ij, ik) the gate is that of the center i, not of the neighbor k, and
  factors out of the sum. The sum over k of B(r_ik, angle) f_c(r_ij) f_c(r_ik) is therefore the same for all blocks. It
  is computed once from densities on atoms (see `mlip.models.m3gnet`), and every block multiplies it by its gate.
- The constants of both bases are rounded to float32, as in the original, so that energies agree to rounding in float64.
  (Only one detail is omitted: the original keeps cosines 1e-7 away from -1 and 1.)
"""

from typing import Literal

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int
from pydantic import Field, model_validator

from mlip.graph.ends import ascending_rows
from mlip.models.angular import racah_harmonics
from mlip.models.m3gnet import Dimensions, FusedKernel, M3GNet, Readout, sigmoid, swish
from mlip.models.radial import smoothstep_cutoff, spherical_bessel_roots

MOST_ORDERS = 4
"""Largest number of angular orders, and of radial functions per order, in the original code."""


class MatterSimConfig(Dimensions):
    """Architecture of a MatterSim; the defaults are those of the published 1M model."""

    model: Literal["mattersim"] = "mattersim"
    units: int = Field(128, ge=1, description="features per atom and bond, and width of the hidden layers")
    max_n: int = Field(4, ge=1, le=MOST_ORDERS, description="radial functions per angular order, and of the bond basis")
    max_l: int = Field(4, ge=1, le=MOST_ORDERS, description="angular orders: l = 0 .. max_l - 1")
    element_scales: tuple[float, ...] | None = Field(
        None, description="energy scale of each element's atoms, by atomic number from 0; None: 1"
    )

    @model_validator(mode="after")
    def _one_scale_a_number(self):
        if self.element_scales is not None and len(self.element_scales) != self.max_atomic_number + 1:
            raise ValueError(f"{len(self.element_scales)} element_scales for {self.max_atomic_number + 1} numbers")
        return self

    # Settings that the layers of `mlip.models.m3gnet` read from a config.
    width = property(lambda self: self.units)
    hidden_layers = property(lambda self: 1)
    bond_embedding_bias = property(lambda self: False)
    atom_weight_swish = property(lambda self: True)
    aggregate = property(lambda self: "center")
    zbl = property(lambda self: False)


class MatterSim(M3GNet):
    """M3GNet's network with its own bases and three-body terms, and a scale for each element.

    Inputs and outputs are those of `M3GNet`.
    """

    config: MatterSimConfig

    @property
    def embedding_init(self) -> nn.initializers.Initializer:
        return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -0.05, 0.05)

    @property
    def three_body(self) -> type[nn.Module]:
        return ThreeBody

    def read_out(self, atoms: Float[Array, "n u"], graph: jraph.GraphsTuple) -> Float[Array, " n"]:
        if self.config.element_scales is None:
            return super().read_out(atoms, graph)
        scales = jnp.asarray(self.config.element_scales, atoms.dtype)[graph.nodes["species"]]
        return Readout(self.config, name="readout")(atoms, scales)

    def bond_basis(self, distances: Float[Array, " e"]) -> Float[Array, "e n"]:
        return bond_basis(self.config, distances)

    def angular_basis(
        self, vectors: Float[Array, "e 3"], distances: Float[Array, " e"], receivers: Int[Array, " e"], n_atoms: int
    ) -> Float[Array, "e ln"]:
        return three_body_sums(self.config, vectors, distances, receivers, n_atoms)


_KERNEL_INIT = nn.initializers.glorot_uniform()


class ThreeBody(nn.Module):
    """Bond update from angles: e_ij + swish(m P) * sigmoid(m Q), m_ij = gate(v_i) times the bond's sum over k."""

    config: MatterSimConfig

    @nn.compact
    def __call__(
        self,
        atoms: Float[Array, "n u"],
        bonds: Float[Array, "e u"],
        angles: Float[Array, "e ln"],
        senders: Int[Array, " e"],
        receivers: Int[Array, " e"],
    ) -> Float[Array, "e u"]:
        units, n_functions = self.config.units, angles.shape[1]
        gates = sigmoid(nn.Dense(n_functions, kernel_init=_KERNEL_INIT, name="center_gate")(atoms))
        kernel = FusedKernel((n_functions, 2 * units), name="core_and_gate")(bonds.dtype)
        messages = angles * ascending_rows(gates, receivers)
        return bonds + swish(messages @ kernel[:, :units]) * sigmoid(messages @ kernel[:, units:])


def three_body_sums(
    config: MatterSimConfig,
    vectors: Float[Array, "e 3"],
    distances: Float[Array, " e"],
    receivers: Int[Array, " e"],
    n_atoms: int,
) -> Float[Array, "e ln"]:
    """Sum over k != j, for each bond ij, of j_ln(r_ik) Y_l0(angle) f_c(r_ij) f_c(r_ik); columns (l, n), n fastest.

    The sum over all k is a density on atom i, contracted with C_lm(r_ij); the bond's own contribution, k = j, is j_ln
    Y_l0(0) f_c^2, because sum_m C_lm^2 = 1.
    """
    order = np.repeat(np.arange(config.max_l), 2 * np.arange(config.max_l) + 1)  # order l of each (l, m)
    cutoff = smoothstep_cutoff(distances, config.three_body_cutoff)[:, None]
    y_l0 = np.sqrt((2 * np.arange(config.max_l) + 1) / (4 * np.pi))[:, None]
    radial = spherical_basis(config, distances) * jnp.asarray(y_l0, distances.dtype) * cutoff[:, :, None]
    harmonics = jnp.concatenate(racah_harmonics(vectors / distances[:, None], config.max_l), axis=1) * cutoff
    of_bonds = harmonics[:, :, None] * radial[:, order] / jnp.where(cutoff > 0, cutoff, 1)[:, :, None]
    density = jax.ops.segment_sum(of_bonds, receivers, n_atoms, indices_are_sorted=True)
    products = ascending_rows(density, receivers) * harmonics[:, :, None]
    sums = [jnp.sum(products[:, order == k], axis=1) for k in range(config.max_l)]
    return (jnp.stack(sums, axis=1) - radial * cutoff[:, :, None]).reshape(len(distances), -1)


def bond_basis(config: MatterSimConfig, distances: Float[Array, " e"]) -> Float[Array, "e n"]:
    """M3GNet's smooth functions h(r_ij) with constants in float32, zero beyond the cutoff."""
    norms, lower, upper, steps = _smooth_constants(config.max_n, config.cutoff)

    def sinc(frequencies: Float[np.ndarray, " n"]) -> Float[Array, "e n"]:
        x = distances[:, None] * jnp.asarray(frequencies, distances.dtype)
        return jnp.sin(x) / x

    raw = jnp.asarray(norms, distances.dtype) * (sinc(lower) + sinc(upper))
    functions = [raw[:, 0]]
    for n, (before, scale) in enumerate(steps, start=1):
        functions.append((raw[:, n] + before * functions[-1]) * scale)
    return jnp.where(distances[:, None] < config.cutoff, jnp.stack(functions, axis=1), 0.0)


def _smooth_constants(n_radial: int, cutoff: float):
    """Norms and both frequencies of the functions, in float32, and for each function after the first the coefficient of
    the previous one and the scale."""
    n = np.arange(n_radial, dtype=np.float32)
    signs = (np.float32(-1) ** n) * np.float32(1.41421356237) * np.float32(np.pi)
    norms = signs / np.float32(cutoff**1.5) * (n + 1) * (n + 2) / np.sqrt(2 * n**2 + 6 * n + 5)
    e = n**2 * (n + 2) ** 2 / (4 * (n + 1) ** 4 + 1)
    d = [np.float32(1)]
    for k in range(1, n_radial):
        d.append(np.float32(1) - e[k] / d[-1])
    steps = [
        (float(np.sqrt(np.float64(e[k]) / d[k - 1])), float(1 / np.sqrt(np.float64(d[k])))) for k in range(1, n_radial)
    ]
    pi = np.float32(np.pi)
    return norms, (n + 1) * pi / np.float32(cutoff), (n + 2) * pi / np.float32(cutoff), steps


def spherical_basis(config: MatterSimConfig, distances: Float[Array, " e"]) -> Float[Array, "e l n"]:
    """sqrt(2/rc^3) / |j_(l+1)(z_ln)| * j_l(z_ln d/rc), expanded in sines and cosines with constants in float32."""
    x = (distances / config.cutoff)[:, None]
    orders = []
    for order, roots in enumerate(spherical_bessel_roots(config.max_l, config.max_n)):
        y = jnp.asarray(roots.astype(np.float32), x.dtype) * x
        functions = jnp.sin(y), jnp.cos(y)
        terms = [
            sign * jnp.asarray(np.float32(weights[: config.max_n]), x.dtype) * functions[is_cosine] / x**power
            for power, (sign, is_cosine, weights) in enumerate(BESSEL_TERMS[order], start=1)
        ]
        orders.append(sum(terms))
    return jnp.asarray(np.sqrt(np.float32(2 / config.cutoff**3)), x.dtype) * jnp.stack(orders, axis=1)


BESSEL_TERMS = (
    ((1, 0, (1.0, 1.0, 1.0, 1.0)),),
    (
        (-1, 1, (1.0244648, 1.0083433, 1.0041964, 1.0025238)),
        (1, 0, (0.22799276, 0.13052563, 0.09209329, 0.07127186)),
    ),
    (
        (-1, 0, (1.0480795, 1.018618, 1.0100228, 1.0062896)),
        (-1, 1, (0.54554707, 0.3359923, 0.2458884, 0.1945824)),
        (1, 0, (0.094656184, 0.036942482, 0.019953711, 0.012541887)),
    ),
    (
        (1, 1, (1.0694283, 1.0292174, 1.0165081, 1.0106965)),
        (-1, 0, (0.91823584, 0.5928035, 0.44525027, 0.35832632)),
        (-1, 1, (0.32850772, 0.14226668, 0.08126178, 0.052932866)),
        (1, 0, (0.04701072, 0.013657009, 0.0059323725, 0.0031277505)),
    ),
)
"""Terms of j_l(z x)/|j_(l+1)(z)| for each order l, in the powers 1, 2, ... of 1/x: sign, whether the term is the cosine
of z x rather than the sine, and the weights for the first four roots z. The weights are those of the published models,
up to two units in the last place of float32 from the exact values."""
