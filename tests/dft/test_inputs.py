"""VASP's inputs: the Materials Project's where nothing else is asked for, and what ALEXANDRIA does otherwise."""

import csv
import math
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.vasp.inputs import Incar, Kpoints, Poscar
from pymatgen.io.vasp.sets import MPRelaxSet

from mlip.dft import Proposal, VaspRecipe, hand_over
from mlip.dft.in_vacuum import as_calculated
from mlip.dft.inputs import relaxation, single_point
from mlip.errors import MlipError
from tests.conftest import REPOSITORY
from tests.dft.crystals import CHAIN, COPPER, FEO, LAYER, SALT, SULFIDE, proposals, random_crystal

RECIPE = VaspRecipe(kind="vasp")
HUBBARD = {"Co": 3.32, "Cr": 3.7, "Fe": 5.3, "Mn": 3.9, "Mo": 4.38, "Ni": 6.2, "V": 3.25, "W": 6.2}
"""eV, the Materials Project's; on oxides and fluorides."""


def materials_projects(atoms, **settings) -> MPRelaxSet:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = MPRelaxSet(Structure.from_sites(AseAtomsAdaptor.get_structure(atoms)), force_gamma=True, **settings)
        _ = made.incar
        return made


@pytest.mark.filterwarnings("ignore::pymatgen.io.vasp.sets.BadInputSetWarning")
@pytest.mark.parametrize("atoms", [FEO, COPPER, SALT], ids=["FeO", "Cu", "NaCl"])
def test_crystals_have_the_materials_projects_tags_but_for_the_end_of_the_relaxation(atoms):
    ours = relaxation(RECIPE, Proposal("a", atoms)).files
    theirs = materials_projects(atoms, user_kpoints_settings={"grid_density": 1000})
    assert {tag: value for tag, value in ours["INCAR"].items() if tag != "EDIFFG"} == dict(theirs.incar)
    assert ours["INCAR"]["EDIFFG"] == -0.005
    assert ours["INCAR"]["ENCUT"] == 520
    assert ours["KPOINTS"].kpts == theirs.kpoints.kpts
    assert ours["POSCAR"].structure == theirs.poscar.structure
    assert ours["POTCAR.spec"].split() == theirs.potcar_symbols


def test_without_a_criterion_of_forces_the_tags_are_the_materials_projects_to_the_last():
    recipe = VaspRecipe(kind="vasp", force_convergence=None)
    assert dict(relaxation(recipe, Proposal("a", FEO)).files["INCAR"]) == dict(materials_projects(FEO).incar)


@pytest.mark.parametrize("anion", ["O", "F"])
@pytest.mark.parametrize("metal", HUBBARD)
def test_oxides_and_fluorides_of_eight_metals_have_a_u(metal, anion):
    inputs = relaxation(RECIPE, Proposal("a", bulk(metal + anion, "rocksalt", a=4.3)))
    assert (inputs.functional, inputs.hubbard) == ("PBE+U", {metal: HUBBARD[metal]})
    incar, symbols = inputs.files["INCAR"], inputs.files["POSCAR"].site_symbols
    assert (incar["LDAU"], incar["LDAUTYPE"]) == (True, 2)
    assert dict(zip(symbols, incar["LDAUU"], strict=True)) == {metal: HUBBARD[metal], anion: 0}
    assert dict(zip(symbols, incar["LDAUL"], strict=True)) == {metal: 2, anion: 0}


@pytest.mark.parametrize("formula", ["FeS", "TiO", "NiCl", "FeCo"])
def test_others_have_none(formula):
    crystal = bulk("NaCl", "rocksalt", a=4.5)
    crystal.symbols = formula
    inputs = relaxation(RECIPE, Proposal("a", crystal))
    assert (inputs.functional, inputs.hubbard) == ("PBE", {})
    assert "LDAU" not in inputs.files["INCAR"]


@pytest.mark.parametrize("changes", [{"hubbard": False}, {"functional": "PBEsol"}, {"functional": "SCAN"}])
def test_u_belongs_to_pbe_and_can_be_left_out(changes):
    recipe = VaspRecipe(kind="vasp", **changes)
    inputs = relaxation(recipe, Proposal("a", FEO))
    assert (inputs.functional, inputs.hubbard) == (recipe.functional, {})
    assert not inputs.files["INCAR"].get("LDAU")


def test_functionals_have_their_tags():
    tags = {
        functional: relaxation(VaspRecipe(kind="vasp", functional=functional), Proposal("a", FEO)).files["INCAR"]
        for functional in ("PBE", "PBEsol", "SCAN")
    }
    assert not {"GGA", "METAGGA"} & tags["PBE"].keys()
    assert tags["PBEsol"]["GGA"].upper() == "PS"
    assert (tags["SCAN"]["METAGGA"].upper(), tags["SCAN"]["LASPH"]) == ("SCAN", True)
    assert (tags["SCAN"]["ALGO"], tags["SCAN"]["ISMEAR"]) == ("All", 0)
    further = VaspRecipe(kind="vasp", functional="SCAN", incar={"ALGO": "Normal"})
    assert relaxation(further, Proposal("a", FEO)).files["INCAR"]["ALGO"] == "Normal"


def test_the_start_is_ferromagnetic_whatever_moments_the_structure_carries():
    antiferromagnet = FEO.repeat((2, 1, 1))
    antiferromagnet.set_initial_magnetic_moments([4, 0, -4, 0])
    incar = relaxation(RECIPE, Proposal("a", antiferromagnet)).files["INCAR"]
    assert incar["ISPIN"] == 2
    assert incar["MAGMOM"] == [5, 5, 0.6, 0.6]


@pytest.mark.parametrize("seed", range(12))
def test_grids_of_crystals_have_the_density_that_is_asked_for(seed):
    rng = np.random.default_rng(seed)
    proposal = Proposal("a", random_crystal(rng))
    for asked in (500.0, 1000.0, 4000.0):
        inputs = relaxation(VaspRecipe(kind="vasp", kpoints_3d=asked), proposal)
        grid, cell = np.array(inputs.kpoints), inputs.files["POSCAR"].structure.lattice
        # Divisions are rounded down: no more points than asked for (1 % apart, which pymatgen adds to cubes), and with
        # one division more along each vector there would be more than that.
        assert grid.prod() * len(proposal.atoms) <= 1.01 * asked
        assert (grid + 1).prod() * len(proposal.atoms) > asked
        # ... in proportion to the reciprocal lengths, to one division
        spacing = np.array(cell.abc) * grid
        assert np.ptp(spacing) <= max(cell.abc)
        assert inputs.files["KPOINTS"].style == Kpoints.supported_modes.Gamma


@pytest.mark.parametrize(("proposal", "n"), [(Proposal("a", LAYER, 2), 2), (Proposal("a", CHAIN, 1), 1)])
def test_grids_of_layers_and_chains_have_one_point_across_the_vacuum(proposal, n):
    recipe = VaspRecipe(kind="vasp", kpoints_2d=7.0, kpoints_1d=9.0)
    inputs = relaxation(recipe, proposal)
    lengths = np.linalg.norm(2 * np.pi * np.linalg.inv(inputs.files["POSCAR"].structure.lattice.matrix).T, axis=1)
    density = {2: 7.0, 1: 9.0}[n]
    assert inputs.kpoints == (*(math.ceil(density * length) for length in lengths[:n]), *[1] * (3 - n))


@pytest.mark.parametrize(("atoms", "thickness"), [(LAYER, 0.0), (SULFIDE, float(np.ptp(SULFIDE.positions[:, 2])))])
def test_layers_lie_in_the_plane_with_15_angstrom_of_vacuum(atoms, thickness):
    structure = as_calculated(Proposal("a", atoms, 2), vacuum=15.0)
    cell = structure.lattice.matrix
    assert cell[2] == pytest.approx([0, 0, 15.0 + thickness])
    assert np.abs(cell[:2, 2]).max() == 0
    assert np.ptp(structure.cart_coords[:, 2]) == pytest.approx(thickness)
    assert np.linalg.det(cell) > 0
    np.testing.assert_allclose(cell[:2] @ cell[:2].T, atoms.cell[:2] @ atoms.cell[:2].T, atol=1e-10)
    assert_same_distances(structure, atoms)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_chains_run_along_x_with_vacuum_on_all_sides(axis):
    order = np.roll(range(3), axis)
    atoms = CHAIN.copy()
    atoms.set_cell(CHAIN.cell.array[order][:, order])
    atoms.positions[:] = CHAIN.positions[:, order]
    atoms.pbc = np.array([True, False, False])[order]
    structure = as_calculated(Proposal("a", atoms, 1), vacuum=15.0)
    assert structure.lattice.abc[0] == pytest.approx(2.6)
    assert_same_distances(as_calculated(Proposal("a", CHAIN, 1), vacuum=15.0), CHAIN)
    heights = np.ptp(structure.cart_coords[:, 1:], axis=0)
    np.testing.assert_allclose(np.diag(structure.lattice.matrix)[1:], 15 + heights, atol=1e-9)


def test_a_layer_across_the_boundary_and_on_its_side_is_the_same_layer():
    turned = SULFIDE.copy()
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    turned.positions += 0.45 * turned.cell[2]
    turned.wrap()
    assert_same_distances(as_calculated(Proposal("a", turned, 2), vacuum=15.0), SULFIDE)


def assert_same_distances(structure: Structure, atoms) -> None:
    """Of all atoms to each other, the nearest images."""
    np.testing.assert_allclose(structure.distance_matrix, atoms.get_all_distances(mic=True), atol=1e-8)


def test_the_vacuum_of_layers_and_chains_is_kept():
    layer, chain = (relaxation(RECIPE, Proposal("a", *one)).files["INCAR"] for one in ((LAYER, 2), (CHAIN, 1)))
    assert (layer["ISIF"], layer["LATTICE_CONSTRAINTS"]) == (3, [True, True, False])
    assert (chain["ISIF"], chain["LATTICE_CONSTRAINTS"]) == (3, [True, False, False])
    assert "LATTICE_CONSTRAINTS" not in relaxation(RECIPE, Proposal("a", COPPER)).files["INCAR"]


def test_single_points_move_nothing_and_have_no_u():
    structure = relaxation(RECIPE, Proposal("a", FEO)).files["POSCAR"].structure
    for functional, tag, value in (("PBEsol", "GGA", "PS"), ("SCAN", "METAGGA", "SCAN")):
        inputs = single_point(RECIPE, functional, structure, 3)
        incar = inputs.files["INCAR"]
        assert (incar["NSW"], incar["ENCUT"], incar[tag].upper()) == (0, 520, value)
        assert not {"IBRION", "ISIF", "EDIFFG", "LDAUU"} & incar.keys()
        assert not incar.get("LDAU")
        assert inputs.functional == functional


def test_further_tags_and_pseudopotentials_are_the_recipes():
    recipe = VaspRecipe(kind="vasp", incar={"NCORE": 4, "ALGO": "Normal"}, potcars={"Fe": "Fe_sv"}, encut=600)
    inputs = relaxation(recipe, Proposal("a", FEO))
    assert (inputs.files["INCAR"]["NCORE"], inputs.files["INCAR"]["ALGO"]) == (4, "Normal")
    assert (inputs.files["INCAR"]["ENCUT"], inputs.potcars) == (600, ("Fe_sv", "O"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"incar": {"ENCUT": 400}}, "ENCUT is decided by encut"),
        ({"incar": {"LDAUU": 4.0}}, "LDAUU is decided by hubbard"),
        ({"incar": {"IVDW": 11}}, "IVDW is decided by functional"),
        ({"incar": {"ncore": 4}}, "upper case"),
        ({"potcars": {"Fe": "Co_pv"}}, "Co_pv is no pseudopotential of Fe"),
        ({"potcars": {"Xx": "Xx"}}, "no element"),
        ({"follow_ups": ["SCAN", "SCAN"]}, "twice"),
        ({"follow_ups": ["PBE"]}, "the functional of the relaxations"),
        ({"encut": -1}, "greater than 0"),
        ({"ecut": 520}, "Extra inputs"),
    ],
)
def test_recipes_that_contradict_themselves_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        VaspRecipe(kind="vasp", **changes)


def test_no_pseudopotentials_are_needed_and_none_are_written(tmp_path, monkeypatch):
    monkeypatch.delenv("PMG_VASP_PSP_DIR", raising=False)
    recipe = VaspRecipe(kind="vasp", follow_ups=("PBEsol", "SCAN"))
    hand_over(recipe, proposals(), tmp_path / "dft", progress=False)
    assert not list((tmp_path / "dft").rglob("POTCAR"))
    assert (tmp_path / "dft" / "r001-000000" / "POTCAR.spec").read_text().split() == ["Fe_pv", "O"]
    assert sorted(path.name for path in (tmp_path / "dft" / "r001-000000").iterdir()) == [
        *("INCAR", "KPOINTS", "PBEsol", "POSCAR", "POTCAR.spec", "SCAN", "proposal.json"),
    ]
    assert sorted(path.name for path in (tmp_path / "dft" / "r001-000000" / "SCAN").iterdir()) == [
        *("INCAR", "KPOINTS", "POTCAR.spec"),
    ]
    assert "CONTCAR" in (tmp_path / "dft" / "README.md").read_text()


def test_files_read_back_as_they_were_meant(tmp_path):
    hand_over(RECIPE, proposals(), tmp_path, progress=False)
    for proposal in proposals():
        folder, meant = tmp_path / proposal.id, relaxation(RECIPE, proposal)
        assert dict(Incar.from_file(folder / "INCAR")) == dict(meant.files["INCAR"])
        assert tuple(Kpoints.from_file(folder / "KPOINTS").kpts[0]) == meant.kpoints
        written = Poscar.from_file(folder / "POSCAR").structure
        np.testing.assert_allclose(written.distance_matrix, meant.files["POSCAR"].structure.distance_matrix, atol=1e-9)


def test_a_left_handed_cell_is_written_right_handed_and_is_the_same_crystal(tmp_path):
    left = bulk("FeO", "zincblende", a=4.5)
    left.set_cell(left.cell.array[[1, 0, 2]])
    assert np.linalg.det(left.cell) < 0
    hand_over(RECIPE, [Proposal("left", left)], tmp_path, progress=False)
    written = Poscar.from_file(tmp_path / "left" / "POSCAR").structure
    assert np.linalg.det(written.lattice.matrix) > 0
    assert_same_distances(written, left)


def test_the_table_tells_what_was_asked_for(tmp_path):
    hand_over(RECIPE, proposals(), tmp_path, progress=False)
    rows = table(tmp_path)
    assert [row["id"] for row in rows] == [proposal.id for proposal in proposals()]
    first = rows[0]
    told = {key: first[key] for key in ("folder", "formula", "atoms", "functional", "hubbard", "encut", "potcars")}
    assert told == {
        "folder": "r001-000000",
        "formula": "FeO",
        "atoms": "2",
        "functional": "PBE+U",
        "hubbard": "Fe=5.3",
        "encut": "520",
        "potcars": "Fe_pv O",
    }
    assert [row["kpoints"] for row in rows] == ["7x7x7", "10x10x10", "18x18x1", "14x14x1", "15x1x1"]
    assert {len(row["sha256"]) for row in rows} == {64}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_handing_over_again_changes_nothing_and_adds_what_is_new(tmp_path):
    hand_over(RECIPE, proposals()[:3], tmp_path, progress=False)
    (tmp_path / "r001-000001" / "INCAR").write_text("NCORE = 8\n")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name in ("INCAR", "POSCAR")}
    hand_over(RECIPE, proposals()[1:], tmp_path, progress=False)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [row["id"] for row in table(tmp_path)] == [proposal.id for proposal in proposals()]


def test_folders_of_a_killed_hand_over_are_taken_up(tmp_path):
    hand_over(RECIPE, proposals(), tmp_path, progress=False)
    whole = (tmp_path / "table.csv").read_bytes()
    (tmp_path / "table.csv").unlink()
    for path in sorted((tmp_path / "r001-000003").iterdir()):
        path.unlink()
    (tmp_path / "r001-000003").rmdir()  # which it had not come to
    hand_over(RECIPE, proposals(), tmp_path, progress=False)
    assert (tmp_path / "table.csv").read_bytes() == whole


@pytest.mark.parametrize("call", [1, 3, 5])
def test_a_hand_over_that_was_killed_ends_like_one_that_was_not(tmp_path, call):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    hand_over(RECIPE, proposals(), whole, progress=False)
    command = [sys.executable, "-m", "tests.dft.dying_hand_over", str(killed), str(call)]
    died = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not (killed / "table.csv").exists()
    assert any(path.name.endswith(".partial") for path in killed.iterdir())
    hand_over(RECIPE, proposals(), killed, progress=False)
    assert contents(killed) == contents(whole)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ids_that_clash_are_refused_before_anything_is_written(tmp_path):
    for ids, told in (
        (("a", "a"), "two structures have this id"),
        (("a", "A"), "two structures have this id"),
        (("a", "../b"), "is no id"),
        (("a", "table.csv"), "is no id"),
        (("a", ".hidden"), "is no id"),
    ):
        with pytest.raises(MlipError, match=told):
            hand_over(RECIPE, [Proposal(name, COPPER) for name in ids], tmp_path / "dft", progress=False)
    assert not (tmp_path / "dft").exists()


def test_another_structure_or_recipe_in_the_same_place_is_refused(tmp_path):
    hand_over(RECIPE, [Proposal("a", COPPER)], tmp_path, progress=False)
    with pytest.raises(MlipError, match="another structure was handed over by this id"):
        hand_over(RECIPE, [Proposal("a", SALT)], tmp_path, progress=False)
    with pytest.raises(MlipError, match=r"encut is 520\.0, not 400\.0"):
        hand_over(VaspRecipe(kind="vasp", encut=400), [Proposal("b", SALT)], tmp_path, progress=False)
    (tmp_path / "c").mkdir()
    with pytest.raises(MlipError, match="of something else than this structure"):
        hand_over(RECIPE, [Proposal("c", SALT)], tmp_path, progress=False)


def test_input_structures_are_not_modified(tmp_path):
    copies = [(proposal.atoms.positions.copy(), proposal.atoms.cell.array.copy()) for proposal in proposals()]
    hand_over(RECIPE, proposals(), tmp_path, progress=False)
    for proposal, (positions, cell) in zip(proposals(), copies, strict=True):
        np.testing.assert_array_equal(proposal.atoms.positions, positions)
        np.testing.assert_array_equal(proposal.atoms.cell.array, cell)
