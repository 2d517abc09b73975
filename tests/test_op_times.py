"""benchmarks/op_times.py: operations of a compiled program are called what they are."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from op_times import read_program, time_shares


@pytest.fixture(scope="module")
def program():
    def messages(x, kernel, indices):
        gathered = jnp.tanh(x @ kernel)[indices]
        return jax.ops.segment_sum(gathered, indices[::-1], len(x)), jnp.sum(gathered**3, axis=0)

    arguments = (jnp.ones((3000, 300)), jnp.ones((300, 200)), jnp.arange(3000)[::-1] % 7)
    return jax.jit(messages).lower(*arguments).compile(), arguments


def test_every_kind_is_found(program):
    kinds = {operation.kind for operation in read_program(program[0].as_text()).values()}
    assert {"matrix product", "gather", "scatter", "reduce"} <= kinds


def test_all_traced_time_belongs_to_known_operations(program):
    compiled, arguments = program
    shares = time_shares(compiled, lambda: jax.block_until_ready(compiled(*arguments)))
    assert sum(shares["kind"].values()) == pytest.approx(1)
    assert "unknown" not in shares["kind"]
    assert shares["kind"]["matrix product"] > 0


def test_a_program_that_is_one_product_spends_its_time_in_it():
    """Whatever fusions XLA makes of other operations, with or without the one that mlip switches off."""
    arguments = jnp.ones((1500, 1500)), jnp.ones((1500, 1500))
    compiled = jax.jit(lambda x, kernel: x @ kernel).lower(*arguments).compile()
    shares = time_shares(compiled, lambda: jax.block_until_ready(compiled(*arguments)))
    assert shares["kind"]["matrix product"] > 0.5
