"""A structure as a graph: vectors from the center to the neighbor, labels without loss, mistakes named."""

from contextlib import nullcontext

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from ase.neighborlist import neighbor_list as ase_neighbor_list

from mlip.data.quality import COINCIDENT, check_structure
from mlip.data.records import Frame, MalformedError
from mlip.errors import MlipError
from mlip.graph.radius_graph import crystal_graph


def frame_of(atoms: Atoms, **labels) -> Frame:
    return Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell[:], atoms.pbc, **labels)


def edge_vectors(graph):
    positions, cell = graph.nodes["positions"], graph.globals["cell"][0]
    return positions[graph.senders] + graph.edges["shifts"] @ cell - positions[graph.receivers]


def test_edge_vectors_point_from_the_center_to_the_neighbor_as_in_ase():
    atoms = bulk("NaCl", "rocksalt", a=5.7)
    atoms.rattle(0.1, seed=0)
    graph = crystal_graph(atoms, 5.0, dtype=np.float64)
    receivers, vectors = ase_neighbor_list("iD", atoms, 5.0)
    for atom in range(len(atoms)):
        ours = edge_vectors(graph)[graph.receivers == atom]
        theirs = vectors[receivers == atom]
        np.testing.assert_allclose(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)], atol=1e-12)


def test_a_frame_and_atoms_of_the_same_crystal_give_the_same_graph():
    atoms = bulk("Fe", cubic=True)
    of_atoms, of_frame = crystal_graph(atoms, 4.0), crystal_graph(frame_of(atoms), 4.0)
    np.testing.assert_array_equal(of_atoms.senders, of_frame.senders)
    np.testing.assert_array_equal(of_atoms.nodes["positions"], of_frame.nodes["positions"])
    assert of_atoms.nodes["positions"].dtype == np.float32
    assert set(of_atoms.nodes) == {"species", "positions"}
    assert set(of_atoms.globals) == {"cell"}


def test_the_structure_is_not_modified_and_its_calculator_not_called():
    atoms = molecule("H2O")
    atoms.calc = LennardJones()
    before = atoms.copy()
    graph = crystal_graph(atoms, 5.0, dtype=np.float64)
    graph.nodes["positions"][:] = 0
    assert atoms == before
    assert not atoms.calc.results


def test_one_atom_without_neighbors_is_a_graph_without_edges():
    graph = crystal_graph(Atoms("Cs", cell=np.eye(3) * 9, pbc=True), 5.0)
    assert graph.n_node.tolist() == [1]
    assert graph.n_edge.tolist() == [0]
    assert graph.edges["shifts"].shape == (0, 3)


def test_coincident_atoms_are_reported_also_across_the_boundary():
    atoms = Atoms("CuAu", positions=[[0.0, 0, 0], [3.999, 0, 0]], cell=np.eye(3) * 4, pbc=True)
    with pytest.raises(MlipError, match=r"atoms 0 and 1 coincide"):
        crystal_graph(atoms, 5.0)


@pytest.mark.parametrize("a", [4.0, 60.0])
@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_what_a_build_lets_through_a_graph_can_be_made_of(a, factor):
    """Both call the same atoms coincident, across the boundary and in long cells too."""
    atoms = Atoms("CuAu", positions=[[0.0, 0, 0], [0, -factor * COINCIDENT, a]], cell=np.eye(3) * a, pbc=True)
    for use in (check_structure, lambda frame: crystal_graph(frame, 3.0)):
        with pytest.raises((MalformedError, MlipError), match="atoms 0 and 1") if factor < 1 else nullcontext():
            use(frame_of(atoms))


def test_the_cell_is_kept_also_along_open_directions_where_it_must_be_finite():
    atoms = Atoms("C", cell=np.diag([3.0, 3.0, 20.0]), pbc=(True, True, False))
    np.testing.assert_array_equal(crystal_graph(atoms, 4.0).globals["cell"][0], np.diag([3.0, 3.0, 20.0]))
    broken = Frame(atoms.numbers, atoms.positions, np.diag([3.0, 3.0, np.nan]), atoms.pbc)
    with pytest.raises(MlipError, match="lattice vectors are not finite"):
        crystal_graph(broken, 4.0)


@pytest.mark.parametrize(("numbers", "message"), [([], "no atoms"), ([0], "1 to 118"), ([119], "1 to 118")])
def test_what_is_no_structure_is_refused(numbers, message):
    atoms = Atoms(numbers=numbers, positions=np.zeros((len(numbers), 3)), cell=np.eye(3) * 5, pbc=True)
    with pytest.raises(MlipError, match=message):
        crystal_graph(atoms, 4.0)
