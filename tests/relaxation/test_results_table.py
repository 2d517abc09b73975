"""Results of relaxations as a table, and structures of OPTIMADE and pymatgen in and out."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from pymatgen.core import Structure

import mlip
from mlip.relaxation import RelaxResults
from mlip.units import EV_PER_A3_IN_GPA

EMT_POTENTIAL = "ase:ase.calculators.emt:EMT"


def optimade(atoms, name: str = "agm1", **changes) -> dict:
    """The structure as an entry of an OPTIMADE answer."""
    symbols = atoms.get_chemical_symbols()
    species = [{"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in sorted(set(symbols))]
    attributes = {
        "lattice_vectors": atoms.cell.array.tolist(),
        "cartesian_site_positions": atoms.positions.tolist(),
        "species_at_sites": symbols,
        "species": species,
        "dimension_types": atoms.pbc.astype(int).tolist(),
    }
    return {"type": "structures", "id": name, "attributes": attributes | changes}


@pytest.fixture(scope="module")
def results() -> RelaxResults:
    return mlip.relax([bulk("Cu", a=3.7), bulk("Al", a=4.1), bulk("Si")], EMT_POTENTIAL, progress=False)


def test_a_row_a_structure_in_their_order(results):
    table = results.to_dataframe()
    assert list(table.formula) == ["Cu", "Al", "Si"]
    assert list(table.reason) == ["converged", "converged", "error"]
    assert list(table.failed) == [False, False, True]
    first = results[0]
    assert table.energy_per_atom[0] == first.energy
    assert table.energy_change[0] == pytest.approx(first.energy - first.initial_energy)
    assert table.volume_per_atom[0] == pytest.approx(first.atoms.get_volume())
    assert table.max_stress[0] == pytest.approx(first.max_stress * EV_PER_A3_IN_GPA)
    assert np.isnan(table.volume_per_atom[2])
    assert "Si" in table.message[2]


def test_no_structures_make_a_table_with_the_same_columns(results):
    assert list(RelaxResults().to_dataframe().columns) == list(results.to_dataframe().columns)


def test_notebooks_show_counts_reasons_and_pictures(results):
    page = results._repr_html_()
    assert "3 relaxations: 2 converged, 1 error" in page
    assert page.count("<svg") == 3
    assert page.count("<tr>") == 4


def test_of_many_results_notebooks_show_the_failed_ones(results):
    many = RelaxResults([results[0]] * 80 + [results[2]])
    page = many._repr_html_()
    assert "81 relaxations: 80 converged, 1 error; 50 are shown" in page
    assert "<th>80</th>" in page


def test_structures_of_an_optimade_answer_relax_like_atoms(results):
    answer = [optimade(bulk("Cu", a=3.7)), optimade(bulk("Al", a=4.1))]
    found = mlip.relax(answer, EMT_POTENTIAL, progress=False)
    assert [one.energy for one in found] == [one.energy for one in results[:2]]
    (single,) = mlip.relax(answer[0], EMT_POTENTIAL, progress=False)
    assert single.energy == results[0].energy


def test_a_disordered_optimade_structure_leaves_the_others_alone():
    alloy = [{"name": "Cu", "chemical_symbols": ["Cu", "Ni"], "concentration": [0.5, 0.5]}]
    bad = optimade(bulk("Cu", a=3.7), "agm2", species=alloy)
    refused, relaxed = mlip.relax([bad, optimade(bulk("Cu", a=3.7))], EMT_POTENTIAL, progress=False)
    assert refused.reason == "error"
    assert "OPTIMADE structure agm2" in refused.message
    assert "disordered site" in refused.message
    assert relaxed.converged


def test_a_pymatgen_structure_goes_in_and_comes_out():
    atoms = bulk("Cu", a=3.7)
    structure = Structure(atoms.cell.array, ["Cu"], [[0, 0, 0]])
    (result,) = mlip.relax(structure, EMT_POTENTIAL, progress=False)
    atoms.calc = EMT()
    assert isinstance(result.structure, Structure)
    assert result.structure.volume == pytest.approx(result.atoms.get_volume())
    assert result.initial_energy == pytest.approx(atoms.get_potential_energy())
