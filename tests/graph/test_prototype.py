"""A prototype with other elements is the crystal with these elements."""

import ase.build
import numpy as np
import pytest
from ase import Atoms

from mlip.errors import MlipError
from mlip.graph.prototype import Prototype, prototype_batches
from mlip.graph.shells import MAX_ELEMENTS, shell_graph


def perovskite() -> Atoms:
    positions = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Atoms("SrTiO3", scaled_positions=positions, cell=[3.9] * 3, pbc=True)


def test_sites_are_numbered_as_they_appear_and_count_their_atoms():
    prototype = Prototype.of(perovskite())
    assert prototype.n_sites == 3
    assert prototype.atoms_of_site.tolist() == [1, 1, 3]
    assert np.bincount(prototype.site_of_node[prototype.site_of_node >= 0]).tolist() == [1, 1, 2]


def test_edges_in_slots_are_those_of_the_graph():
    prototype, graph = Prototype.of(perovskite()), shell_graph(perovskite())
    node, slot = np.nonzero(prototype.edge_multiplicity)
    assert len(node) == graph.n_edge[0]
    found = sorted(zip(node, prototype.senders[node, slot], prototype.shells[node, slot], strict=True))
    assert found == sorted(zip(graph.receivers, graph.senders, graph.edges["shell"], strict=True))


def test_species_and_fractions_follow_the_assignment():
    batch = Prototype.of(perovskite()).batch(np.array([[56, 22, 8], [8, 40, 8], [3, 3, 3]]))
    assert [sorted(column[column > 0]) for column in batch.species.T] == [[8, 8, 22, 56], [8, 8, 8, 40], [3, 3, 3, 3]]
    assert batch.elements.tolist() == [[56, 22, 8], [8, 40, 0], [3, 0, 0]]
    np.testing.assert_allclose(batch.fractions, [[0.2, 0.2, 0.6], [0.8, 0.2, 0], [1, 0, 0]], rtol=1e-6)


def test_the_last_batch_is_filled_up_so_that_all_have_one_shape():
    prototype = Prototype.of(ase.build.bulk("NaCl", "rocksalt", a=5.6))
    batches = list(prototype_batches(prototype, np.array([[11, 17], [3, 9], [19, 35]]), 2))
    assert [batch.elements.tolist() for batch in batches] == [[[11, 17], [3, 9]], [[19, 35], [19, 35]]]


def test_an_assignment_of_another_number_of_sites_is_refused():
    prototype = Prototype.of(ase.build.bulk("NaCl", "rocksalt", a=5.6))
    with pytest.raises(MlipError, match="2 sites"):
        next(prototype_batches(prototype, np.array([[11, 17, 8]]), 2))


def test_a_crystal_has_room_for_the_elements_of_a_prototype():
    assert shell_graph(perovskite()).globals["elements"].shape == (1, MAX_ELEMENTS)
