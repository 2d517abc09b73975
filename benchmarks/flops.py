"""Floating-point operations of the matrix products in a JAX function, counted in its jaxpr.

XLA's own `cost_analysis` also counts elementwise work, counts what its backend fused or handed to a library as it
pleases, and once where a loop runs many times. The products are what a "fraction of the matmul peak" is about.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def matmul_flops(function: Callable, *args: Any, **kwargs: Any) -> int:
    """Two for each multiply-add of every matrix product that `function(*args, **kwargs)` makes, as traced: before
    XLA removes what is not needed. Nothing is computed.

    Raises:
        ValueError: a while loop with a product inside, whose number of turns a jaxpr does not tell.
    """
    return _count(jax.make_jaxpr(function)(*args, **kwargs).jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        inner = [_count(sub) for sub in _inner_jaxprs(equation.params)]
        name = equation.primitive.name
        if name == "dot_general":
            total += _of_dot(equation)
        elif name == "scan":
            total += equation.params["length"] * sum(inner)
        elif name == "cond":
            total += max(inner)
        elif name == "while" and sum(inner):
            raise ValueError("a while loop with a matrix product inside: its number of turns is not known")
        else:
            total += sum(inner)
    return total


def _of_dot(equation: Any) -> int:
    """2 * (elements of the result) * (elements summed over for each)."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def _inner_jaxprs(params: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs that an equation calls: of jit, custom derivatives, loops, checkpoints, shard maps."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item
