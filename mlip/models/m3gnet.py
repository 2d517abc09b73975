"""M3GNet (Chen and Ong, Nat. Comput. Sci. 2, 718, 2022) without explicit triplets.

The many-body sum over pairs of bonds (ij, ik) is computed exactly from a density on atom i. Its basis is a radial
function of r_ik times a Legendre polynomial of the angle, and by the addition theorem P_l(r_ij . r_ik) = sum_m
C_lm(r_ij) C_lm(r_ik). The cost is O(bonds), not O(triplets). The dense layers on [v_i | v_j | e_ij] are split by input,
so that two thirds of their work is done on atoms instead of bonds.

Equations in brackets are the paper's. The center i of a bond is its receiver, the neighbor j its sender.

The config's defaults reproduce the original code (m3gnet 0.2.4). matgl's M3GNet is the same network with another basis,
deeper gated MLPs, an additional bias and one swish fewer; see `matgl_config`.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlip.graph.ends import any_rows, ascending_rows, sums_at
from mlip.graph.radius_graph import RadiusGraph
from mlip.models.angular import racah_harmonics
from mlip.models.last_layer import tell_features
from mlip.models.radial import smooth_bessel_basis, smoothstep_cutoff, spherical_bessel_basis
from mlip.models.zbl import zbl_energies

Basis = Literal["smooth", "bessel"]

_ZBL_POWER = 6  # of the polynomial that cuts off the repulsion at the sum of the covalent radii, as in MACE
_KERNEL_INIT = nn.initializers.glorot_uniform()  # as in the original


class Dimensions(BaseModel):
    """Fields common to all networks that use these layers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cutoff: float = Field(5.0, gt=0, description="longest bond that becomes an edge, A")
    three_body_cutoff: float = Field(4.0, gt=0, description="longest bond that enters angles, A")
    n_blocks: int = Field(3, ge=1)
    max_atomic_number: int = Field(94, ge=1, le=118)

    @model_validator(mode="after")
    def _three_body_within_cutoff(self):
        if self.three_body_cutoff > self.cutoff:
            raise ValueError(f"three_body_cutoff ({self.three_body_cutoff}) is longer than cutoff ({self.cutoff})")
        return self

    @property
    def inputs(self) -> RadiusGraph:
        """Kind of graph that the network reads."""
        return RadiusGraph(self.cutoff)

    @property
    def known_numbers(self) -> range:
        """Atomic numbers with an embedding."""
        return range(1, self.max_atomic_number + 1)


class M3GNetConfig(Dimensions):
    """Architecture of an M3GNet; the defaults are those of the published MP-2021.2.8-EFS (227,549 parameters)."""

    model: Literal["m3gnet"] = "m3gnet"
    units: int = Field(64, ge=1, description="features per atom and bond, and width of the hidden layers")
    hidden_units: int | None = Field(None, ge=1, description="width of the hidden layers if it differs from `units`")
    hidden_layers: Literal[1, 2] = Field(1, description="hidden layers of a gated MLP; the readout has one more")
    max_n: int = Field(3, ge=1, le=8, description="radial functions per angular order, and of the bond basis")
    max_l: int = Field(3, ge=1, le=6, description="angular orders: l = 0 .. max_l - 1")
    bond_basis: Basis = Field("smooth", description="max_n smooth functions, or max_l max_n spherical Bessel functions")
    three_body_basis: Basis = Field(
        "bessel", description="basis for the second bond of an angle; max_n functions per l"
    )
    bond_embedding_bias: bool = False
    atom_weight_swish: bool = Field(True, description="whether the radial weight of atom messages has a swish")
    aggregate: Literal["center", "neighbor"] = Field(
        "center", description="end of a bond that receives its atom message; matgl < 3 trained with 'neighbor'"
    )
    zbl: bool = Field(
        False, description="add the repulsion of bare nuclei; its output is in eV, so data.statistics.scale must be 1"
    )

    @property
    def is_in_ev(self) -> bool:
        """Whether the output is in eV, so that its scale must be 1."""
        return self.zbl

    @property
    def width(self) -> int:
        """Width of the hidden layers."""
        return self.hidden_units or self.units


def matgl_config(smooth: bool = True, **changes) -> M3GNetConfig:
    """Config of matgl's M3GNet; `hidden_units` corresponds to matgl's `units`.

    Args:
        smooth: matgl's `use_smooth`; otherwise both bases are spherical Bessel functions.
        changes: values for any fields of the config.
    """
    basis = "smooth" if smooth else "bessel"
    values = {
        "hidden_layers": 2,
        "bond_basis": basis,
        "three_body_basis": basis,
        "bond_embedding_bias": True,
        "atom_weight_swish": False,
    }
    return M3GNetConfig(**values | changes)


class M3GNet(nn.Module):
    """Graph -> (n,) energy per node, in units of the potential's scale.

    Reads nodes["species"] (n,) atomic numbers and edges["vectors"] (e, 3) from center to neighbor, A, none of length
    zero; edges beyond the cutoff contribute nothing.
    """

    config: M3GNetConfig

    @property
    def embedding_init(self) -> nn.initializers.Initializer:
        """Initializer of the element embeddings."""
        return nn.initializers.normal(1.0)

    @property
    def three_body(self) -> type[nn.Module]:
        """Class of the modules that update bonds from angles."""
        return ThreeBody

    @nn.compact
    def __call__(self, graph: jraph.GraphsTuple) -> Float[Array, " n"]:
        config = self.config
        senders, receivers, species = graph.senders, graph.receivers, graph.nodes["species"]
        vectors = graph.edges["vectors"]
        distances = jnp.sqrt(jnp.sum(vectors * vectors, axis=-1))

        basis = self.bond_basis(distances)
        angular = self.angular_basis(vectors, distances, receivers, len(species))

        atoms = nn.Embed(
            config.max_atomic_number + 1,  # row 0 is for padding
            config.units,
            embedding_init=self.embedding_init,
            dtype=vectors.dtype,
            name="embedding",
        )(species)
        bonds = swish(_dense(config.units, "bond_embedding", config.bond_embedding_bias)(basis))
        for block in range(config.n_blocks):
            bonds = self.three_body(config, name=f"three_body_{block}")(atoms, bonds, angular, senders, receivers)
            atoms, bonds = Convolution(config, name=f"convolution_{block}")(atoms, bonds, basis, senders, receivers)
        return self.read_out(atoms, graph)

    def read_out(self, atoms: Float[Array, "n u"], graph: jraph.GraphsTuple) -> Float[Array, " n"]:
        """Output of the network from the final atom features."""
        energies = Readout(self.config, name="readout")(atoms)
        if self.config.zbl:
            vectors = graph.edges["vectors"]
            distances = jnp.sqrt(jnp.sum(vectors * vectors, axis=-1))
            energies += zbl_energies(distances, graph.nodes["species"], graph.senders, graph.receivers, _ZBL_POWER)
        return energies

    def bond_basis(self, distances: Float[Array, " e"]) -> Float[Array, "e k"]:
        """Basis functions h(r_ij) that initialize the bonds and weight the messages; zero beyond the cutoff."""
        return bond_basis(self.config, distances)

    def angular_basis(
        self, vectors: Float[Array, "e 3"], distances: Float[Array, " e"], receivers: Int[Array, " e"], n_atoms: int
    ) -> "AngularBasis":
        """Functions of the bonds that the three-body terms of all blocks share."""
        return AngularBasis.of_bonds(self.config, vectors, distances)


def bond_basis(config: M3GNetConfig, distances: Float[Array, " e"]) -> Float[Array, "e k"]:
    """Basis functions h(r_ij), zero beyond the cutoff."""
    if config.bond_basis == "smooth":
        return smooth_bessel_basis(distances, config.max_n, config.cutoff)
    basis = spherical_bessel_basis(distances, config.max_l, config.max_n, config.cutoff)
    return jnp.where(distances[:, None] < config.cutoff, basis.reshape(len(distances), -1), 0.0)


def three_body_basis(config: M3GNetConfig, distances: Float[Array, " e"]) -> Float[Array, "e l n"]:
    """Radial functions of the angular terms; the caller applies the three-body cutoff."""
    if config.three_body_basis == "bessel":
        return spherical_bessel_basis(distances, config.max_l, config.max_n, config.cutoff)
    basis = smooth_bessel_basis(distances, config.max_l * config.max_n, config.cutoff)
    return basis.reshape(len(distances), config.max_l, config.max_n)


class AngularBasis(NamedTuple):
    """Basis functions that the three-body terms of all blocks share. Columns are (l, m, n), with n fastest; see
    `angular_columns`."""

    weights: Float[Array, "e lmn"]
    """Factors of a bond ik, the second of an angle: its radial function, C_lm and the norm of Y_l0, cut off by f_c."""
    harmonics: Float[Array, "e lmn"]
    """Harmonics C_lm of a bond ij, the first of an angle, cut off by f_c."""

    @classmethod
    def of_bonds(
        cls, config: M3GNetConfig, vectors: Float[Array, "e 3"], distances: Float[Array, " e"]
    ) -> "AngularBasis":
        """Basis of the densities (eqs. 4 and 5); both bonds of an angle carry the cutoff f_c (eq. 6)."""
        radial = three_body_basis(config, distances)
        # Y_l0 of the angle = sqrt((2l + 1) / 4 pi) P_l.
        y_l0 = np.sqrt((2 * np.arange(config.max_l) + 1) / (4 * np.pi))[:, None]
        radial = (radial * jnp.asarray(y_l0, distances.dtype)).reshape(len(distances), -1)
        harmonics = jnp.concatenate(racah_harmonics(vectors / distances[:, None], config.max_l), axis=1)
        harmonics *= smoothstep_cutoff(distances, config.three_body_cutoff)[:, None]
        radial_column, harmonic_column = angular_columns(config)
        harmonics = _repeat_columns(harmonics, harmonic_column)
        return cls(_repeat_columns(radial, radial_column) * harmonics, harmonics)


def angular_columns(config: M3GNetConfig) -> tuple[Int[np.ndarray, " lmn"], Int[np.ndarray, " lmn"]]:
    """Column (l, n) of the radial functions and column (l, m) of the harmonics for every (l, m, n)."""
    order = np.repeat(np.arange(config.max_l), 2 * np.arange(config.max_l) + 1)  # order l of each (l, m)
    n = np.arange(config.max_n)
    return (order[:, None] * config.max_n + n).ravel(), np.repeat(np.arange(len(order)), config.max_n)


def _repeat_columns(array: Float[Array, "e a"], columns: Int[np.ndarray, " b"]) -> Float[Array, "e b"]:
    """array[:, columns] as an exact product with a matrix of zeros and ones, whose transpose is also a product."""
    return jnp.matmul(array, jnp.asarray(np.eye(array.shape[1])[:, columns], array.dtype), precision="highest")


class ThreeBody(nn.Module):
    """Bond update from angles: e_ij + swish(m P) * sigmoid(m Q) (eqs. 4 and 7).

    m_ij = sum over k != j of B_ijk a_k f_c(r_ij) f_c(r_ik) is the density on atom i minus the bond's own contribution,
    k = j, whose P_l(1) = sum_m C_lm^2 = 1. The product with P and Q carries out the sum over m.
    """

    config: M3GNetConfig

    @nn.compact
    def __call__(
        self,
        atoms: Float[Array, "n u"],
        bonds: Float[Array, "e u"],
        angular: AngularBasis,
        senders: Int[Array, " e"],
        receivers: Int[Array, " e"],
    ) -> Float[Array, "e u"]:
        config = self.config
        columns, _ = angular_columns(config)
        n_functions = config.max_l * config.max_n
        gates = _repeat_columns(sigmoid(_dense(n_functions, "neighbour_gate")(atoms)), columns)
        own = angular.weights * any_rows(gates, senders)
        density = jax.ops.segment_sum(own, receivers, len(atoms), indices_are_sorted=True)
        messages = (ascending_rows(density, receivers) - own) * angular.harmonics
        kernel = FusedKernel((n_functions, 2 * config.units), name="core_and_gate")(bonds.dtype)[columns]
        core, gate = (messages @ half for half in jnp.split(kernel, 2, axis=1))
        return bonds + swish(core) * sigmoid(gate)


class Convolution(nn.Module):
    """Update of bonds, then of atoms (eqs. 8 and 9), each by a gated MLP of [v_i | v_j | e_ij] times a radial weight.

    As in the original code, the radial weight of the bonds is linear even if that of the atoms has a swish.
    """

    config: M3GNetConfig

    @nn.compact
    def __call__(
        self,
        atoms: Float[Array, "n u"],
        bonds: Float[Array, "e u"],
        basis: Float[Array, "e k"],
        senders: Int[Array, " e"],
        receivers: Int[Array, " e"],
    ) -> tuple[Float[Array, "n u"], Float[Array, "e u"]]:
        config = self.config
        weight = _dense(config.units, "bond_weight", use_bias=False)(basis)
        bonds = bonds + GatedMessage(config, name="bond_message")(atoms, bonds, weight, senders, receivers)
        weight = _dense(config.units, "atom_weight", use_bias=False)(basis)
        if config.atom_weight_swish:
            weight = swish(weight)
        atom_message = GatedMessage(config, name="atom_message")(atoms, bonds, weight, senders, receivers)
        if config.aggregate == "center":
            sums = jax.ops.segment_sum(atom_message, receivers, len(atoms), indices_are_sorted=True)
        else:
            sums = sums_at(atom_message, senders, len(atoms))
        return atoms + sums, bonds


class GatedMessage(nn.Module):
    """phi(x) = swish-MLP(x) * sigmoid-gated MLP(x) of x = [v_i | v_j | e_ij] (eq. 10), times a weight.

    W [v_i | v_j | e_ij] = (W1 v)_i + (W2 v)_j + W3 e_ij: the first two products are computed on atoms.
    """

    config: M3GNetConfig

    @nn.compact
    def __call__(
        self,
        atoms: Float[Array, "n u"],
        bonds: Float[Array, "e u"],
        weight: Float[Array, "e u"],
        senders: Int[Array, " e"],
        receivers: Int[Array, " e"],
    ) -> Float[Array, "e u"]:
        units, width = self.config.units, self.config.width
        kernel = self.param("kernel", _init_fused_kernel, (3 * units, 2 * width)).astype(bonds.dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), (2 * width,)).astype(bonds.dtype)

        at_center = atoms @ kernel[:units] + bias
        at_neighbor = atoms @ kernel[units : 2 * units]

        def branch(name: str, columns: slice) -> Float[Array, "e u"]:
            of_bonds = bonds @ kernel[2 * units :, columns]
            of_ends = ascending_rows(at_center[:, columns], receivers) + any_rows(at_neighbor[:, columns], senders)
            hidden = swish(of_ends + of_bonds)
            for layer in range(1, self.config.hidden_layers):
                hidden = swish(_dense(width, f"{name}_{layer}")(hidden))
            return _dense(units, name)(hidden)

        # Two narrow branches without slicing are faster on a CPU than one wide one.
        return swish(branch("core", slice(width))) * sigmoid(branch("gate", slice(width, None))) * weight


class Readout(nn.Module):
    """Energy of each atom: a gated MLP whose core has a linear last layer (eq. 13).

    E_i = (w . c_i + b) sigma(g_i) is linear in the last layer of the core, w and b; its features are the hidden layer
    c_i and 1, times the gate. It is not linear in the last layer of the gate, which is treated as part of the features.
    """

    config: M3GNetConfig

    @nn.compact
    def __call__(self, atoms: Float[Array, "n u"], scales: Float[Array, " n"] | None = None) -> Float[Array, " n"]:
        """Energies of the atoms, multiplied by `scales` if these are given."""
        config = self.config
        # With two hidden layers, matgl's first one has the width of the features.
        widths = [config.units] * (config.hidden_layers - 1) + [config.width] * 2
        core, gate = atoms, atoms
        for layer, width in enumerate(widths):
            core = swish(_dense(width, f"core_{layer}")(core))
            gate = swish(_dense(width, f"gate_{layer}")(gate))
        last = len(widths)
        core, hidden = _dense(1, f"core_{last}")(core), core
        gate = sigmoid(_dense(1, f"gate_{last}")(gate))
        weight = gate if scales is None else gate * scales[:, None]
        tell_features(self, lambda: weight * jnp.concatenate([hidden, jnp.ones_like(core)], axis=1))
        energies = (core * gate)[:, 0]
        return energies if scales is None else energies * scales


def _dense(features: int, name: str, use_bias: bool = True) -> nn.Dense:
    return nn.Dense(features, use_bias=use_bias, kernel_init=_KERNEL_INIT, name=name)


class FusedKernel(nn.Module):
    """Kernels of the core and gate layers for one input, side by side, without biases."""

    shape: tuple[int, int]

    @nn.compact
    def __call__(self, dtype) -> Float[Array, "i o"]:
        return self.param("kernel", _init_fused_kernel, self.shape).astype(dtype)


def sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Sigmoid computed with tanh: on a CPU, XLA takes less than half the time of an exponential and a division."""
    return 0.5 * jnp.tanh(0.5 * x) + 0.5


def swish(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return x * sigmoid(x)


def _init_fused_kernel(key, shape: tuple[int, int], dtype=jnp.float32) -> Float[Array, "i o"]:
    """Kernels of core and gate side by side, each initialized like the separate layer of the paper."""
    core, gate = jax.random.split(key)
    half = (shape[0], shape[1] // 2)
    return jnp.concatenate([_KERNEL_INIT(core, half, dtype), _KERNEL_INIT(gate, half, dtype)], axis=1)
