"""Structures relax in one stream: those that end first have their responses first."""

from ase import Atoms
from ase.build import bulk

from mlip.response.elasticity import elastic_tensor
from mlip.response.minima import stream
from mlip.response.options import ElasticOptions


def test_a_slow_relaxation_holds_up_no_other_structure(potential, crystals):
    slow, at_rest = crystals["no_symmetry"], crystals["one_atom"]
    open_along_c = Atoms("Cu", cell=[3, 3, 3], pbc=[True, True, False])
    parts = []

    def respond(planned):
        parts.append([len(start.atoms) for start, _ in planned])
        return [(start.reason, plan) for start, plan in planned]

    options = ElasticOptions.of({"fmax": 1e-4})
    plan = lambda start: f"of {len(start.atoms)}"  # noqa: E731
    found = list(stream([slow, open_along_c, at_rest], potential, options, plan, respond, together=1))
    assert found == [(1, ("error", None)), (2, ("ok", "of 1")), (0, ("ok", "of 4"))]
    assert parts == [[1], [1], [4]]


def test_results_are_in_the_order_given(potential, crystals):
    slow, at_rest = crystals["no_symmetry"], bulk("Cu", a=3.6)
    found = elastic_tensor([slow, at_rest, slow], potential, progress=False)
    assert [len(one.atoms) for one in found] == [4, 1, 4]
    assert (found[0].tensor == found[2].tensor).all()
