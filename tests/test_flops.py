"""benchmarks/flops.py: matrix products counted by hand and from the jaxpr."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from flops import matmul_flops

A, B = jnp.ones((5, 7)), jnp.ones((7, 11))
PRODUCT = 2 * 5 * 7 * 11


def loss(a, b):
    return jnp.sum(jnp.tanh(a @ b))


def test_a_product_has_two_operations_a_multiply_add():
    assert matmul_flops(jnp.matmul, A, B) == PRODUCT
    assert matmul_flops(lambda a: jnp.einsum("bij,bjk->bik", a, a), jnp.ones((3, 4, 4))) == 2 * 3 * 4**3


def test_a_gradient_has_a_product_more_for_each_factor():
    assert matmul_flops(jax.value_and_grad(loss), A, B) == 2 * PRODUCT
    assert matmul_flops(jax.value_and_grad(loss, argnums=(0, 1)), A, B) == 3 * PRODUCT


def test_calls_are_entered_and_loops_multiplied():
    assert matmul_flops(jax.jit(jax.checkpoint(loss)), A, B) == PRODUCT
    square = jnp.ones((4, 4))
    assert matmul_flops(lambda x: jax.lax.scan(lambda c, _: (c @ x, None), x, length=9)[0], square) == 9 * 2 * 4**3
    branches = [lambda x: x, lambda x: x @ x, lambda x: x @ x @ x]
    assert matmul_flops(lambda x: jax.lax.switch(1, branches, x), square) == 2 * 2 * 4**3


def test_a_parallel_map_counts_one_device():
    assert matmul_flops(jax.pmap(loss), A[None], B[None]) == PRODUCT


def test_an_unknown_number_of_turns_is_said():
    with pytest.raises(ValueError, match="while"):
        matmul_flops(lambda x: jax.lax.while_loop(lambda c: c[0, 0] < 9, lambda c: c @ x, x), jnp.ones((2, 2)))


def test_elementwise_work_is_not_counted():
    assert matmul_flops(lambda x: jnp.cumsum(jnp.sin(x))[np.array([0, 1])], jnp.ones(9)) == 0
