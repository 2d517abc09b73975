"""Labels in the shapes, units and under the keys that files give them."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import Trajectory as TrajectoryFile

from mlip.data import Skipped
from mlip.data.readers import ase_files
from mlip.data.readers.labels import parsed_keys
from mlip.errors import MlipError

FRAME = (
    '2\nLattice="5 0 0 0 4 0 0 0 5" Properties=species:S:1:pos:R:3:{forces}:R:3 {comment} pbc="T T T"\n'
    "Na 0 0 0 0.1 0 0\nCl 2.7 0 0 -0.1 0 0\n"
)
VOLUME = 100.0
STRESS = np.array([0.01, 0.02, 0.03, 0.004, 0.005, 0.006])
TENSOR = np.array([[0.01, 0.006, 0.005], [0.006, 0.02, 0.004], [0.005, 0.004, 0.03]])
FORCES = np.array([[0.1, 0, 0], [-0.1, 0, 0]])


@pytest.fixture
def read(tmp_path):
    def materials(*comments, forces="forces", **options):
        file = tmp_path / "frames.extxyz"
        file.write_text("".join(FRAME.format(comment=comment, forces=forces) for comment in comments))
        return list(ase_files.read(file, functional="PBE", **options))

    return materials


@pytest.fixture
def read_results(tmp_path):
    """Results of a calculator by way of ASE's trajectory, which keeps them as they are."""

    def material(**results):
        atoms = Atoms("NaCl", positions=[[0, 0, 0], [2.7, 0, 0]], cell=[5, 4, 5], pbc=True)
        atoms.calc = SinglePointCalculator(atoms)
        atoms.calc.results.update({"energy": -6.1, "forces": FORCES} | results)
        with TrajectoryFile(tmp_path / "one.traj", "w") as file:
            file.write(atoms)
        (path,) = ase_files.read(tmp_path / "one.traj", functional="PBE")
        return path

    return material


@pytest.mark.parametrize(
    "energy", ["-6.1", "-6.1D+00", "-61d-1", '"-6.1"', '"[-6.1]"', "-6.1 calculation=PBE", "-6.1 ionic_step=first"]
)
def test_an_energy_that_can_mean_one_number_only_is_read(read, energy):
    (path,) = read(f"energy={energy}")
    assert path.frames[0].energy == pytest.approx(-6.1)
    assert (path.frames[0].calculation, path.frames[0].ionic_step) == (0, 0)


@pytest.mark.parametrize(
    ("comment", "reason"),
    [
        ("energy", "energy without a value"),
        ("energy=None", "energy is not a number"),
        ("energy=unknown", "energy is not a number"),
        ('energy="-6.1 -6.1"', "several energies of one frame"),
        ("energy=nan", "no energy"),
        ("energy=-6.1 energy-unit=furlong", "unknown unit: energy-unit=furlong"),
    ],
)
def test_a_frame_whose_energy_is_no_number_is_dropped_with_the_reason_and_the_others_stay(read, comment, reason):
    (path,) = read("energy=-6.0", comment, "energy=-6.2")
    assert [frame.energy for frame in path.frames] == [-6.0, -6.2]
    assert path.dropped == {reason: 1}


def test_an_odd_frame_of_an_extxyz_is_a_fault_of_its_own(read, tmp_path):
    good = FRAME.format(comment="energy=-6.0", forces="forces")
    odd = {
        "fewer": good.replace("2\n", "3\n", 1),
        "more": good.replace("2\n", "1\n", 1),
        "letters": good.replace("2.7", "x"),
        "lattice": good.replace("5 0 0 0 4", "5 0 0 0"),
    }
    for name, text in odd.items():
        file = tmp_path / f"{name}.extxyz"
        file.write_text(good + text + good + good)
        *skipped, path = ase_files.read(file, functional="PBE")
        assert [one.material_id for one in skipped] == [f"{name}: frame 1"]
        assert len(path.frames) == 3


def test_lines_behind_a_frame_cost_that_frame_which_may_have_lost_atoms(tmp_path):
    good = FRAME.format(comment="energy=-6.0", forces="forces")
    file = tmp_path / "f.extxyz"
    file.write_text(good + "K 1 1 1 0 0 0\n" + good)
    skipped, path = ase_files.read(file, functional="PBE")
    assert skipped.detail == "frame 0: more lines than its 2 atoms"
    assert len(path.frames) == 1


def test_numbers_with_fortran_exponents_are_read_among_the_atoms_too(tmp_path):
    file = tmp_path / "f.extxyz"
    file.write_text(FRAME.format(comment="energy=-6.1", forces="forces").replace("0.1", "1.0D-01"))
    (path,) = ase_files.read(file, functional="PBE")
    np.testing.assert_allclose(path.frames[0].forces, FORCES)


@pytest.mark.parametrize(
    "stress",
    [STRESS, STRESS[None], STRESS[:, None], TENSOR, TENSOR.ravel(), TENSOR[None]],
    ids=["6", "1x6", "6x1", "3x3", "9", "1x3x3"],
)
def test_stress_is_read_in_every_shape_that_is_unambiguous(read_results, stress):
    path = read_results(stress=stress)
    np.testing.assert_allclose(path.frames[0].stress, STRESS)
    assert not path.remarks


def test_a_comment_line_gives_stress_as_six_or_nine_numbers(read):
    for numbers in (STRESS, TENSOR.ravel()):
        (path,) = read(f'energy=-6.1 stress="{" ".join(map(str, numbers))}"')
        np.testing.assert_allclose(path.frames[0].stress, STRESS)


@pytest.mark.parametrize(
    ("results", "label", "remark"),
    [
        ({"stress": TENSOR + np.eye(3, k=1)}, "stress", "stress is not symmetric"),
        ({"stress": np.zeros(5)}, "stress", "stress of a wrong shape"),
        ({"forces": np.zeros((3, 3))}, "forces", "forces of a wrong shape"),
        ({"magmoms": np.zeros((2, 3))}, "magmoms", "non-collinear magnetic moments are not stored"),
        ({"magmoms": np.zeros(3)}, "magmoms", "magmoms of a wrong shape"),
    ],
)
def test_a_label_that_cannot_be_used_is_lost_alone_and_counted(read_results, results, label, remark):
    path = read_results(**results)
    assert getattr(path.frames[0], label) is None
    assert path.frames[0].energy == -6.1
    assert {remark: ["run 0 step 0"]}.items() <= path.remarks.items()


def test_arrays_of_one_energy_and_columns_of_magnetic_moments_are_read(read_results):
    path = read_results(energy=np.array([-6.1]), magmoms=np.array([[1.0], [2.0]]))
    assert path.frames[0].energy == -6.1
    assert path.frames[0].magmoms.tolist() == [1, 2]


def test_labels_under_other_keys_are_read_where_the_user_says_so(read):
    keys = parsed_keys("energy=REF_energy, forces=dft_forces, stress=my_stress")
    comment = f'REF_energy=-6.1 energy=-99 my_stress="{" ".join(map(str, TENSOR.ravel()))}"'
    (path,) = read(comment, forces="dft_forces", keys=keys)
    assert path.frames[0].energy == -6.1
    np.testing.assert_allclose(path.frames[0].forces, FORCES)
    np.testing.assert_allclose(path.frames[0].stress, STRESS)


def test_a_virial_is_minus_stress_times_volume(read):
    text = " ".join(map(str, (-VOLUME * TENSOR).ravel()))
    for key in ("virial", "REF_virials"):
        (path,) = read(f'energy=-6.1 {key}="{text}"', keys={"virial": key})
        np.testing.assert_allclose(path.frames[0].stress, STRESS)


def test_an_energy_under_another_key_is_asked_for_with_the_keys_that_were_seen(read):
    (skipped,) = read("REF_energy=-6.1 config_type=bulk", forces="dft_forces")
    assert isinstance(skipped, Skipped)
    assert skipped.reason == (
        "no energy; keys seen: info: REF_energy, config_type; arrays: dft_forces; --keys energy=KEY says which is it"
    )
    (misspelt,) = read("REF_energy=-6.1", keys={"energy": "REF_enrgy"})
    assert misspelt.reason.startswith("no energy under 'REF_enrgy'; keys seen: info: REF_energy")


def test_forces_and_stress_under_other_keys_are_remarked(read):
    (path,) = read('energy=-6.1 virial="1 0 0 0 1 0 0 0 1"', forces="REF_forces")
    assert set(path.remarks) == {
        "forces not read, perhaps under REF_forces (--keys)",
        "stress not read, perhaps under virial (--keys)",
    }
    (path,) = read("energy=-6.1", keys={"forces": "dft_force"})
    assert "no 'dft_force' for --keys forces" in path.remarks


def test_structures_that_have_no_energy_at_all_are_read_as_they_are(read):
    (path,) = read("energy_above_hull=0.1 e_form=-1.0")
    assert np.isnan(path.frames[0].energy)


@pytest.mark.parametrize(("text", "fault"), [("energy", "LABEL=KEY"), ("force=f", "did you mean forces"), ("x=y", "x")])
def test_keys_that_say_nothing_are_refused(text, fault):
    with pytest.raises(MlipError, match=fault):
        parsed_keys(text)


@pytest.mark.parametrize(
    ("comment", "energy"),
    [
        ("energy=-0.5 energy-unit=hartree", -0.5 * units.Hartree),
        ("energy=-0.5 energy_units=Ry", -0.5 * units.Rydberg),
        ("energy=-100 energy_unit=kJ/mol", -100 * units.kJ / units.mol),
        ("energy=-3 energy-unit=eV/atom", -6.0),
        ("energy=-6.1 units=eV", -6.1),
        ('energy=-0.5 units="Hartree, angstrom"', -0.5 * units.Hartree),
        ("energy=-6.1 unit_cell=conventional", -6.1),
    ],
)
def test_energies_are_converted_from_the_unit_that_the_frame_states(read, comment, energy):
    (path,) = read(comment)
    assert path.frames[0].energy == pytest.approx(energy)


def test_stress_forces_and_lengths_are_converted_from_the_units_that_the_frame_states(read):
    (path,) = read('energy=-1 force-unit=Ha/bohr length-unit=bohr stress="-100 0 0 0 -100 0 0 0 -100" stress-unit=kbar')
    frame = path.frames[0]
    np.testing.assert_allclose(frame.stress[:3], -10 * units.GPa)
    np.testing.assert_allclose(frame.forces, FORCES * units.Hartree / units.Bohr)
    np.testing.assert_allclose(frame.cell, np.diag([5, 4, 5]) * units.Bohr)
    np.testing.assert_allclose(frame.positions[1], [2.7 * units.Bohr, 0, 0])


def test_forces_without_a_unit_beside_an_energy_in_hartree_are_doubtful(read):
    (path,) = read("energy=-0.5 energy-unit=hartree")
    np.testing.assert_allclose(path.frames[0].forces, FORCES)
    assert list(path.remarks) == ["forces without a unit beside an energy in another than eV: taken in ours"]


def test_a_file_whose_name_has_an_at_sign_is_read_itself(tmp_path):
    for name, energy in (("md", -1.0), ("md@0", -9.0)):
        atoms = Atoms("Na", cell=[4] * 3, pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
        with TrajectoryFile(tmp_path / name, "w") as file:
            file.write(atoms)
    (path,) = ase_files.read(tmp_path / "md@0", functional="PBE")
    assert path.frames[0].energy == -9.0


def test_deuterium_is_hydrogen_and_remarked(tmp_path):
    file = tmp_path / "d.extxyz"
    file.write_text('2\nLattice="4 0 0 0 4 0 0 0 4" energy=-1\nD 0 0 0\nLi 2 0 0\n')
    (path,) = ase_files.read(file, functional="PBE")
    assert path.frames[0].numbers.tolist() == [1, 3]
    assert "deuterium or tritium is taken as hydrogen" in path.remarks
