"""FIRE with ASE's constants and ASE's update, for every structure of a padded batch at once.

Bitzek et al., PRL 97, 170201 (2006), in the variant of `ase.optimize.FIRE` (3.29), which is not the paper's: forces act
on the velocity after the mixing, the step length is limited over all degrees of freedom together, and the first step
neither mixes nor halves the time step. The degrees of freedom are the rows of the atoms and, as in ASE's cell filters,
three rows of the cell. Each structure has its own time step, mixing and counter.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

INITIAL_TIME_STEP = 0.1
MAX_TIME_STEP = 1.0
MAX_STEP = 0.2
N_MIN = 5
TIME_STEP_GROWTH = 1.1
TIME_STEP_SHRINKAGE = 0.5
INITIAL_MIXING = 0.1
MIXING_DECAY = 0.99


class FireState(NamedTuple):
    """State of FIRE between steps."""

    velocities: Float[Array, "n 3"]
    cell_velocities: Float[Array, "g 3 3"]
    time_step: Float[Array, " g"]
    mixing: Float[Array, " g"]
    """Mixing parameter, ASE's `a`, the paper's alpha."""
    n_downhill: Int[Array, " g"]
    """Number of steps since the power was last negative (ASE's `Nsteps`)."""
    n_steps: Int[Array, " g"]
    """Number of steps taken."""


def initial_fire_state(n_nodes: int, n_graphs: int, dtype) -> FireState:
    return FireState(
        velocities=jnp.zeros((n_nodes, 3), dtype),
        cell_velocities=jnp.zeros((n_graphs, 3, 3), dtype),
        time_step=jnp.full((n_graphs,), INITIAL_TIME_STEP, dtype),
        mixing=jnp.full((n_graphs,), INITIAL_MIXING, dtype),
        n_downhill=jnp.zeros((n_graphs,), jnp.int32),
        n_steps=jnp.zeros((n_graphs,), jnp.int32),
    )


def fire_step(
    state: FireState,
    forces: Float[Array, "n 3"],
    cell_forces: Float[Array, "g 3 3"],
    graph_of_node: Int[Array, " n"],
    is_moving: Bool[Array, " g"],
) -> tuple[FireState, Float[Array, "n 3"], Float[Array, "g 3 3"]]:
    """One step of the moving structures; the others keep their state and get zero displacements.

    Args:
        forces, cell_forces: negative gradient with respect to the rows of atoms and cell; eV/A, zero on fixed rows.
        graph_of_node: ascending index of each atom's structure.
        is_moving: False for structures that have finished, wait for a neighbor list, or are padding.

    Returns:
        The new state, and the displacements of the atom rows (A) and of the cell rows.
    """
    dot = _Dot(graph_of_node, n_graphs=is_moving.shape[0])
    v, cell_v = state.velocities, state.cell_velocities
    is_first = state.n_steps == 0
    is_downhill = dot(v, forces, cell_v, cell_forces) > 0

    speed = jnp.sqrt(dot(v, v, cell_v, cell_v))
    force = jnp.sqrt(dot(forces, forces, cell_forces, cell_forces))
    keep = jnp.where(is_downhill, 1 - state.mixing, 0)
    turn = jnp.where(is_downhill, state.mixing * speed / jnp.where(force > 0, force, 1), 0)
    v = keep[graph_of_node, None] * v + turn[graph_of_node, None] * forces
    cell_v = keep[:, None, None] * cell_v + turn[:, None, None] * cell_forces

    is_fast = is_downhill & (state.n_downhill > N_MIN)
    grown = jnp.minimum(state.time_step * TIME_STEP_GROWTH, MAX_TIME_STEP)
    shrunk = state.time_step * TIME_STEP_SHRINKAGE
    time_step = jnp.where(is_fast, grown, jnp.where(is_downhill | is_first, state.time_step, shrunk))
    mixing = jnp.where(is_fast, state.mixing * MIXING_DECAY, state.mixing)
    mixing = jnp.where(is_downhill, mixing, INITIAL_MIXING)
    n_downhill = jnp.where(is_downhill, state.n_downhill + 1, 0)

    v = v + time_step[graph_of_node, None] * forces
    cell_v = cell_v + time_step[:, None, None] * cell_forces
    length = time_step * jnp.sqrt(dot(v, v, cell_v, cell_v))
    scale = time_step * jnp.where(length > MAX_STEP, MAX_STEP / jnp.where(length > 0, length, 1), 1)
    scale = jnp.where(is_moving, scale, 0)

    moved = FireState(v, cell_v, time_step, mixing, n_downhill, state.n_steps + 1)
    displacements = jnp.where(is_moving[graph_of_node, None], scale[graph_of_node, None] * v, 0)
    cell_displacements = jnp.where(is_moving[:, None, None], scale[:, None, None] * cell_v, 0)
    return _select(is_moving, graph_of_node, moved, state), displacements, cell_displacements


class _Dot(NamedTuple):
    """Scalar product over the atom and cell rows of each structure."""

    graph_of_node: Int[Array, " n"]
    n_graphs: int

    def __call__(self, a, b, cell_a, cell_b) -> Float[Array, " g"]:
        atoms = jax.ops.segment_sum(jnp.sum(a * b, axis=-1), self.graph_of_node, self.n_graphs, indices_are_sorted=True)
        return atoms + jnp.sum(cell_a * cell_b, axis=(-2, -1))


def _select(is_moving, graph_of_node, moved: FireState, still: FireState) -> FireState:
    """State of `moved` for moving structures, otherwise of `still` (with possibly NaN forces)."""
    selected = {
        name: jnp.where(
            is_moving.reshape(-1, *[1] * (getattr(moved, name).ndim - 1)),
            getattr(moved, name),
            getattr(still, name),
        )
        for name in FireState._fields
        if name != "velocities"
    }
    is_moving_node = is_moving[graph_of_node, None]
    return FireState(velocities=jnp.where(is_moving_node, moved.velocities, still.velocities), **selected)
