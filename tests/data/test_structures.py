"""Crystals whose sites are partly occupied are no structures, at every door of the data."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read as ase_read

from mlip.data import Skipped
from mlip.data.build import BuildSettings, build
from mlip.data.labeling import LabelSettings, label_structure, read_structures
from mlip.data.readers.sources import read_source
from mlip.data.structures import DEUTERIUM, as_structures, check_occupancies
from mlip.errors import MlipError

HEAD = (
    "data_x\n_cell_length_a 4.0\n_cell_length_b 4.0\n_cell_length_c 4.0\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
    "_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'P 1'\nloop_\n_atom_site_label\n_atom_site_type_symbol\n"
    "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n_atom_site_occupancy\n"
)
SITES = {
    "shared": "Ba1 Ba 0 0 0 0.5\nSr1 Sr 0 0 0 0.5\nTi1 Ti .5 .5 .5 1\n",
    "vacant": "Ti1 Ti .5 .5 .5 1\nLa1 La 0 0 0 0.33(2)\n",
    "split": "Ba1 Ba 0 0 0 1\nTi1 Ti .5 .5 .35 0.5\nTi2 Ti .5 .5 .65 0.5\n",
}
ORDERED = {
    "full": "Fe1 Fe 0 0 0 1.000(3)\nO1 O .5 .5 .5 0.9999\n",
    "untold": "Fe1 Fe 0 0 0 ?\nO1 O .5 .5 .5 .\n",
    "deuterium": "Li1 Li 0 0 0 1\nD1 D .5 .5 .5 1\n",
}


@pytest.fixture
def cif(tmp_path):
    def write(name):
        path = tmp_path / f"{name}.cif"
        path.write_text(HEAD + (SITES | ORDERED)[name])
        return path

    return write


@pytest.mark.parametrize("name", SITES)
def test_a_cif_with_partly_occupied_sites_is_refused_with_the_site_named(cif, name):
    (skipped,) = read_source(cif(name), functional="PBE")
    assert skipped.reason == "partly occupied site"
    site = {"shared": "site 0 (Ba 0.5, Sr 0.5)", "vacant": "site 1 (La 0.33)", "split": "site 1 (Ti 0.5)"}[name]
    assert site in skipped.detail


def test_a_build_of_disordered_and_ordered_files_stores_the_ordered_ones(cif, tmp_path):
    sources = [cif(name) for name in (*SITES, *ORDERED)]
    report = build(sources, tmp_path / "s.h5", BuildSettings(functional="PBE"))
    assert report.skipped_materials == {"partly occupied site": 3}
    assert sum(report.materials_kept.values()) == 3
    assert report.finding_materials[DEUTERIUM] == 1
    with pytest.raises(MlipError, match=r"nothing is left to store \(1 x partly occupied site; first .*site 1"):
        build([cif("split")], tmp_path / "t.h5", BuildSettings(functional="PBE"))


def test_deuterium_of_every_format_is_hydrogen_and_told(cif, structure, write_paths, make_run, make_step, tmp_path):
    (of_cif,) = read_source(cif("deuterium"), functional="PBE")
    step = make_step()
    for site in step["structure"]["sites"][:1]:
        site["species"] = [{"element": "D", "occu": 1}]
    (of_json,) = read_source(write_paths({"agm000000001": [make_run(step)]}), functional="PBE")
    for path in (of_cif, of_json):
        assert 1 in path.frames[0].numbers
        assert list(path.remarks) == [DEUTERIUM]
    structure[0] = "D"
    (atoms,) = as_structures(structure)
    assert atoms.numbers[0] == 1


def test_structures_of_pdb_files_with_partly_occupied_atoms_are_refused():
    atoms = bulk("Cu", cubic=True)
    atoms.set_array("occupancy", np.array([1, 1, 0.4, 1.0]))
    with pytest.raises(MlipError, match=r"site 2 \(Cu 0.4\) is partly occupied"):
        check_occupancies(atoms)


def test_of_structures_to_be_labeled_a_disordered_one_is_an_error_of_its_own(cif):
    ((_, disordered),) = read_structures([cif("split")])
    path = label_structure("x", disordered, EMT(), LabelSettings("emt"))
    assert path.reason == "error"
    assert "site 1 (Ti 0.5) is partly occupied" in path.message


def test_an_optimade_structure_with_a_vacant_site_is_refused(tmp_path):
    attributes = {
        "lattice_vectors": [[4, 0, 0], [0, 4, 0], [0, 0, 4]],
        "cartesian_site_positions": [[0, 0, 0]],
        "species_at_sites": ["Fe"],
        "species": [{"name": "Fe", "chemical_symbols": ["Fe"], "concentration": [0.92]}],
        "_alexandria_energy": -8.0,
    }
    page = tmp_path / "p.optimade.json"
    page.write_text(json.dumps({"data": [{"id": "agm1", "attributes": attributes}], "next": None}))
    (skipped,) = read_source(page, functional="PBE")
    assert isinstance(skipped, Skipped)
    assert (skipped.reason, skipped.detail) == ("partly occupied site", "species Fe is [0.92]")


def test_full_structures_pass_as_they_are(cif):
    atoms = ase_read(cif("untold"))
    assert as_structures([atoms])[0] is atoms
    assert as_structures(Atoms("H"))[0].symbols.get_chemical_formula() == "H"
