"""Each structure of a batch has a FIRE of its own."""

import jax.numpy as jnp
import numpy as np

from mlip.relaxation.fire import MAX_STEP, fire_step, initial_fire_state


def test_the_first_step_neither_mixes_nor_halves_the_time_step():
    state = initial_fire_state(1, 1, jnp.float32)
    forces = jnp.array([[1.0, 0.0, 0.0]])
    state, moves, _ = fire_step(state, forces, jnp.zeros((1, 3, 3)), jnp.array([0]), jnp.array([True]))
    np.testing.assert_allclose(moves, [[0.01, 0, 0]], rtol=1e-6)
    assert state.time_step[0] == np.float32(0.1)


def test_going_uphill_stops_halves_the_time_step_and_resets_the_mixing():
    state = initial_fire_state(1, 1, jnp.float32)._replace(
        velocities=jnp.array([[-1.0, 0, 0]]), mixing=jnp.array([0.05]), n_steps=jnp.array([7])
    )
    forces = jnp.array([[2.0, 0.0, 0.0]])
    state, moves, _ = fire_step(state, forces, jnp.zeros((1, 3, 3)), jnp.array([0]), jnp.array([True]))
    np.testing.assert_allclose(state.velocities, [[0.1, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose([state.time_step[0], state.mixing[0]], [0.05, 0.1], rtol=1e-6)
    np.testing.assert_allclose(moves, [[0.005, 0, 0]], rtol=1e-6)


def test_the_step_is_capped_over_atoms_and_cell_together_structure_by_structure():
    state = initial_fire_state(3, 2, jnp.float32)
    forces = jnp.array([[300.0, 0, 0], [0, 400.0, 0], [1e-3, 0, 0]])
    cell_forces = jnp.zeros((2, 3, 3)).at[0].set(100.0)
    _, moves, cell_moves = fire_step(state, forces, cell_forces, jnp.array([0, 0, 1]), jnp.array([True, True]))
    length = np.sqrt(np.sum(np.square(moves[:2])) + np.sum(np.square(cell_moves[0])))
    np.testing.assert_allclose(length, MAX_STEP, rtol=1e-6)
    np.testing.assert_allclose(moves[2, 0], 1e-5, rtol=1e-5)


def test_a_structure_at_rest_keeps_its_state_whatever_its_forces():
    state = initial_fire_state(2, 2, jnp.float32)
    forces = jnp.array([[jnp.nan, 0, 0], [1.0, 0, 0]])
    new, moves, _ = fire_step(state, forces, jnp.zeros((2, 3, 3)), jnp.array([0, 1]), jnp.array([False, True]))
    assert (np.asarray(moves[0]) == 0).all()
    assert (np.asarray(new.velocities[0]) == 0).all()
    np.testing.assert_array_equal(new.n_steps, [0, 1])
