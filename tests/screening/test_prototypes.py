"""Where prototypes come from, and what is none."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, mx2
from textbook import GRAPH, crystals, prototypes_in, write_folder

from mlip.data import Frame, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.screening.prototypes import read_prototypes
from mlip.screening.screening_recipe import PrototypesRecipe


def write_store(path, structures: dict[str, Atoms]):
    with StoreWriter(path) as writer:
        for name, atoms in structures.items():
            frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc)
            writer.add(Trajectory(name, [frame], "PBE", 2 if name.startswith("layer") else 3), "train")
    return path


def test_files_are_brought_to_their_primitive_cell(prototypes):
    assert len(prototypes["zincblende"].atoms) == 2  # the file has the cubic cell
    assert prototypes["zincblende"].space_group == 216


def test_noise_of_coordinates_does_not_split_shells(tmp_path):
    noisy = bulk("NaCl", "rocksalt", a=5.6)
    noisy.positions += 1e-4 * np.random.default_rng(0).normal(size=(2, 3))
    ase.io.write(tmp_path / "noisy.cif", noisy)
    write_folder(tmp_path, "rocksalt")
    noisy, exact = prototypes_in(tmp_path)
    assert noisy.name == "noisy"
    np.testing.assert_array_equal(noisy.graph.shells, exact.graph.shells)


def test_a_material_that_lost_its_relaxed_structure_is_no_prototype(tmp_path):
    salt = crystals()["rocksalt"]
    frame = Frame(salt.numbers.astype(np.int16), salt.positions, salt.cell.array, salt.pbc)
    with StoreWriter(tmp_path / "s.h5") as writer:
        writer.add(Trajectory("headless", [frame], "PBE", 3, {"path_end_removed": 1.0}), "train")
        writer.add(Trajectory("whole", [frame], "PBE", 3), "train")
    found = read_prototypes(PrototypesRecipe(source=tmp_path / "s.h5"), GRAPH)
    assert [prototype.name for prototype in found.prototypes] == ["whole"]
    assert found.skipped == {"no relaxed structure": 1}
    assert found.functionals == {"PBE"}


def test_a_store_gives_each_prototype_once_whatever_its_elements_and_origin(tmp_path):
    shifted = Atoms("BaTiO3", crystals()["perovskite"].positions + 1.95, cell=3.9 * np.eye(3), pbc=True)
    structures = {
        "agm1": crystals()["perovskite"],
        "agm2": shifted[[4, 3, 2, 1, 0]],  # and atoms in another order
        "agm3": bulk("KBr", "rocksalt", a=6.6),
        "agm4": bulk("MgO", "rocksalt", a=4.2),
        "agm5": crystals()["cesiumchloride"],
        "layer": mx2("MoS2", vacuum=8.0),
        "pure": bulk("Cu"),
    }
    found = read_prototypes(PrototypesRecipe(source=write_store(tmp_path / "entries.h5", structures)), GRAPH)
    assert [prototype.name for prototype in found.prototypes] == ["agm1", "agm3", "agm5"]
    assert found.skipped == {
        "prototype of an earlier material": 2,
        "layer or chain": 1,
        "other number of elements": 1,
    }


def test_structures_of_a_folder_all_count(tmp_path):
    folder = write_folder(tmp_path, "rocksalt")
    ase.io.write(folder / "larger.cif", bulk("MgO", "rocksalt", a=4.2))
    assert [prototype.name for prototype in prototypes_in(folder)] == ["larger", "rocksalt"]


def test_aflow_has_the_small_prototypes_of_two_elements():
    found = read_prototypes(PrototypesRecipe(source="aflow", sites=(2,), max_atoms=2), GRAPH)
    names = [prototype.name for prototype in found.prototypes]
    assert {"AB_cF8_225_a_b", "AB_cP2_221_b_a", "AB_cF8_216_c_a"} <= set(names)
    assert len(set(names)) == len(names)


def test_what_cannot_be_a_prototype_is_counted_with_its_reason(tmp_path):
    folder = write_folder(tmp_path, "rocksalt", "perovskite")
    far = Atoms("NaCl", scaled_positions=[[0, 0, 0], [0.5] * 3], cell=40 * np.eye(3), pbc=True)
    ase.io.write(folder / "far.cif", far)
    shared_places = (folder / "rocksalt.cif").read_text().replace("1.0000", "0.5000")
    (folder / "shared.cif").write_text(shared_places)
    found = read_prototypes(PrototypesRecipe(source=folder, max_atoms=4), GRAPH)
    assert [prototype.name for prototype in found.prototypes] == ["rocksalt"]
    assert found.skipped == {"too many atoms": 1, "too few neighbors": 1, "disordered": 1}


def test_a_source_without_prototypes_or_none_at_all_is_one_line(tmp_path):
    folder = write_folder(tmp_path / "cifs", "rocksalt")
    with pytest.raises(MlipError, match="no prototype of this round: 1 other number of elements"):
        prototypes_in(folder, sites=(4,))
    with pytest.raises(MlipError, match="no such file or folder"):
        prototypes_in(tmp_path / "nowhere")
    (folder / "broken.cif").write_text("data_\nloop_\n_atom_site_label\n")
    with pytest.raises(MlipError, match=r"broken\.cif: ASE cannot read it"):
        prototypes_in(folder)
