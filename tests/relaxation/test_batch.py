"""The device program itself, before it is compiled."""

from functools import partial

import jax
from jax.extend.core import jaxprs_in_params
from jax.lax import Precision

from mlip.graph.batching import Shape, pad_batch
from mlip.relaxation.batch import FIXED_AXES, STATE_AXES, Limits, advance, stack
from mlip.relaxation.options import Options
from mlip.relaxation.structure import admit


def products(jaxpr):
    """All products of matrices in a program, those within loops included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from products(inner)


def test_no_product_is_left_to_the_tf32_of_gpus(crystals, potential):
    relaxing = admit(0, crystals["rocksalt"], potential, "auto", Options())
    relaxing.make_list(potential.cutoff, 0.4)
    shape = Shape(len(relaxing) + 1, len(relaxing.graph.senders), 2)
    program = jax.make_jaxpr(partial(advance, potential.model))(
        potential.params,
        1.0,
        0.0,
        pad_batch([relaxing.graph], shape),
        stack(FIXED_AXES, [relaxing.fixed], shape.n_node, shape.n_graph),
        stack(STATE_AXES, [relaxing.state], shape.n_node, shape.n_graph),
        Limits(0.05, 500, potential.cutoff, 0.4, 100, min_moving=1, min_distance=0.5, max_strain=1.0, pressure=0.0),
    )
    precisions = [equation.params["precision"] for equation in products(program.jaxpr)]
    assert len(precisions) > 5
    assert set(precisions) == {(Precision.HIGHEST, Precision.HIGHEST)}
