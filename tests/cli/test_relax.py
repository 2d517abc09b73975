"""`mlip relax` as a user meets it: files in, relaxed.extxyz and a record a structure out."""

import json
import subprocess
import sys
import time

import ase.io
import numpy as np
import pytest
import typer
from ase.build import bulk
from ase.constraints import FixAtoms, FixBondLength, FixScaled

from mlip.cli.relax import relax
from mlip.errors import MlipError
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.relaxation.relax_files import relax_files
from mlip.relaxation.results_file import read_results
from tests.command_line import mlip


def relax_here(capsys, potential, *files, out, **options) -> tuple[int, str]:
    """Exit status and output of the command in this process, which has compiled already."""
    try:
        relax([potential, *files], out, **options)
    except typer.Exit as end:
        return end.exit_code, capsys.readouterr().out
    return 0, capsys.readouterr().out


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    config = M3GNetConfig(units=8)
    metadata = PotentialMetadata(reference_energies={"Na": -1.0, "Cl": -2.0}, scale=0.1)
    return Potential(config, init_parameters(config), metadata).save(
        tmp_path_factory.mktemp("potential") / "tiny.safetensors"
    )


def test_files_of_any_format_are_relaxed_in_order_and_failures_are_records(potential, tmp_path):
    salt, xenon = bulk("NaCl", "rocksalt", a=5.6), bulk("Xe", "fcc", a=6.2)
    ase.io.write(tmp_path / "salt.cif", salt)
    ase.io.write(tmp_path / "two.extxyz", [xenon, salt])
    out = tmp_path / "out"
    run = mlip("relax", potential, tmp_path / "salt.cif", tmp_path / "two.extxyz", "--out", out, "--steps", 3, "--json")
    assert run.returncode == 1, run.stderr  # one has failed
    summary = json.loads(run.stdout)
    assert summary["structures"] == 3
    assert [(row["frame"], row["reason"]) for row in summary["failed"]] == [(0, "error")]
    _, records = read_results(out / "results.jsonl")
    records.sort(key=lambda record: record["structure"])
    assert [(r["frame"], r["reason"] == "error") for r in records] == [(0, False), (0, True), (1, False)]
    relaxed = ase.io.read(out / "relaxed.extxyz", ":")
    assert [len(atoms) for atoms in relaxed] == [2, 1, 2]
    assert relaxed[0].get_potential_energy() == pytest.approx(records[0]["energy"])


def test_a_run_killed_with_signal_9_goes_on_with_no_structure_lost_or_relaxed_twice(potential, tmp_path):
    crystals = [bulk("NaCl", "rocksalt", a=5.6, cubic=True) * (2, 2, 2) for _ in range(24)]
    for seed, crystal in enumerate(crystals):
        crystal.rattle(0.05, seed=seed)
    ase.io.write(tmp_path / "salts.extxyz", crystals)
    ase.io.write(tmp_path / "xenon.cif", bulk("Xe", "fcc", a=6.2))
    files = [tmp_path / "salts.extxyz", tmp_path / "xenon.cif"]
    results = tmp_path / "out" / "results.jsonl"

    arguments = ["relax", potential, *files, "--steps", 20, "--out", results.parent]
    first = subprocess.Popen([sys.executable, "-m", "mlip.cli", *map(str, arguments)])
    while first.poll() is None and n_lines(results) < 6:
        time.sleep(0.01)
    first.kill()  # SIGKILL: nothing can be tidied up
    first.wait()
    survived = results.read_bytes()
    survived = survived[: survived.rfind(b"\n") + 1]
    n_done = survived.count(b"\n") - 1
    assert 5 <= n_done < 25
    with results.open("ab") as file:
        file.write(survived.splitlines()[-1][:50])  # the kill came within a line

    assert relax_files(potential, files, results.parent, steps=20, progress=False)["relaxed_now"] == 25 - n_done
    assert results.read_bytes().startswith(survived)
    _, records = read_results(results)
    assert sorted(record["structure"] for record in records) == list(range(25))

    relax_files(potential, files, tmp_path / "uninterrupted", steps=20, progress=False)
    pairs = [ase.io.read(folder / "relaxed.extxyz", ":") for folder in (results.parent, tmp_path / "uninterrupted")]
    for resumed, uninterrupted in zip(*pairs, strict=True):
        assert resumed.info["mlip_reason"] == uninterrupted.info["mlip_reason"]
        # float32; the company in the batch differs, and with it the order of sums
        np.testing.assert_allclose(resumed.positions, uninterrupted.positions, atol=1e-3)


def n_lines(path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_another_protocol_is_not_mixed_into_the_results(potential, tmp_path):
    ase.io.write(tmp_path / "xenon.cif", bulk("Xe", "fcc", a=6.2))  # unknown to the potential: nothing compiles
    arguments = (potential, [tmp_path / "xenon.cif"], tmp_path / "out")
    relax_files(*arguments, progress=False)
    with pytest.raises(MlipError, match=r"holds results of another relaxation: fmax is 0.05, not 0.01 \("):
        relax_files(*arguments, fmax=0.01, progress=False)
    ase.io.write(tmp_path / "xenon.cif", bulk("Xe", "fcc", a=6.3))
    with pytest.raises(MlipError, match="holds results of another inputs"):
        relax_files(*arguments, progress=False)


def test_what_cannot_be_read_or_relaxed_has_its_record_and_the_others_go_on(potential, tmp_path, capsys):
    salt = bulk("NaCl", "rocksalt", a=5.6)
    bound = salt.copy()
    bound.set_constraint(FixBondLength(0, 1))
    ase.io.write(tmp_path / "salts.extxyz", [salt] * 3)
    lines = (tmp_path / "salts.extxyz").read_text().splitlines()
    lines[6] = lines[6].replace("Na", "Nax")  # an atom of the second frame
    (tmp_path / "salts.extxyz").write_text("\n".join([*lines, "2", "cut off"]) + "\n")
    ase.io.write(tmp_path / "bound.traj", bound)
    (tmp_path / "disordered.cif").write_text(DISORDERED)
    (tmp_path / "words.cif").write_text("no structure")
    (tmp_path / "nothing.vasp").write_text("")
    names = ("absent.cif", "salts.extxyz", "bound.traj", "disordered.cif", "words.cif", "nothing.vasp", ".")
    files = [tmp_path / name for name in names]
    status, told = relax_here(capsys, potential, *files, out=tmp_path / "out", steps=2, fmax=1e-9)
    assert status == 1
    assert told.splitlines()[-1] == "10 structures (10 relaxed now): 8 error, 2 max_steps"
    _, records = read_results(tmp_path / "out" / "results.jsonl")
    records.sort(key=lambda record: record["structure"])
    assert [record["reason"] for record in records] == ["error", "max_steps", "error", "max_steps"] + ["error"] * 6
    said = {
        0: "no such file",
        2: "is not extended XYZ",
        4: "the file ends within this frame",
        5: "FixBondLengths is not supported",
        6: "site 0 (Ba 0.5, Sr 0.5) is partly occupied",
        7: "ASE cannot read it",
        8: "the file is empty",
        9: "is a folder",
    }
    for k, words in said.items():
        assert words in records[k]["message"]
        assert words in told
    assert len(ase.io.read(tmp_path / "out" / "relaxed.extxyz", ":")) == 3  # what is no crystal is not among them


DISORDERED = """data_x
_cell_length_a 4.0
_cell_length_b 4.0
_cell_length_c 4.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Ba1 Ba 0 0 0 0.5
Sr1 Sr 0 0 0 0.5
O1 O .5 .5 0 1
"""


def test_selective_dynamics_and_the_users_own_info_are_kept(potential, tmp_path):
    salt = bulk("NaCl", "rocksalt", a=5.4, cubic=True)
    salt.rattle(0.1, seed=1)
    salt.set_constraint([FixScaled([0, 1], (False, False, True)), FixAtoms([2])])
    ase.io.write(tmp_path / "POSCAR", salt)
    own = bulk("NaCl", "rocksalt", a=5.6)
    own.info = {"source": "ICSD-12345", "frame": 17, "reason": "picked by hand", "converged": "who knows"}
    ase.io.write(tmp_path / "own.extxyz", own)
    files = [tmp_path / "POSCAR", tmp_path / "own.extxyz"]
    relax_files(potential, files, tmp_path / "out", steps=5, fmax=1e-6, progress=False)
    held, kept = ase.io.read(tmp_path / "out" / "relaxed.extxyz", ":")
    start = ase.io.read(tmp_path / "POSCAR")
    moved = np.abs(held.get_scaled_positions(wrap=False) - start.get_scaled_positions(wrap=False))
    assert moved[[0, 1], 2].max() < 1e-6
    assert moved[2].max() < 1e-6
    assert moved[[0, 1], :2].min() > 1e-6
    assert own.info.items() <= kept.info.items()
    assert (kept.info["mlip_source"], kept.info["mlip_frame"]) == (str(tmp_path / "own.extxyz"), 0)
    assert kept.info["mlip_reason"] in ("converged", "max_steps")


def test_structures_as_cif_and_poscar_and_trajectories_on_request(potential, tmp_path):
    salt, xenon = bulk("NaCl", "rocksalt", a=5.6), bulk("Xe", "fcc", a=6.2)
    for folder in "ab":
        (tmp_path / folder).mkdir()
    ase.io.write(tmp_path / "a" / "salt.cif", salt)
    ase.io.write(tmp_path / "b" / "salt.cif", salt)
    ase.io.write(tmp_path / "two.extxyz", [xenon, salt])
    files = [tmp_path / "a" / "salt.cif", tmp_path / "b" / "salt.cif", tmp_path / "two.extxyz"]
    options = {"formats": ("cif", "vasp"), "trajectory": True, "steps": 3, "fmax": 1e-6}
    relax_files(potential, files, tmp_path / "out", **options, progress=False)
    names = ["000000-salt", "000001-salt", "two-000001"]
    for kind in ("cif", "vasp"):
        assert sorted(path.stem for path in (tmp_path / "out" / kind).iterdir()) == names
    relaxed = ase.io.read(tmp_path / "out" / "relaxed.extxyz", ":")
    poscar = ase.io.read(tmp_path / "out" / "vasp" / "two-000001.vasp")
    np.testing.assert_allclose(poscar.cell.array, relaxed[3].cell.array, atol=1e-6)
    path = ase.io.read(tmp_path / "out" / "trajectories" / "000000-salt.extxyz", ":")
    assert len(path) == 1 + relaxed[0].info["mlip_n_steps"]
    assert path[-1].get_potential_energy() == pytest.approx(relaxed[0].get_potential_energy())


def test_the_table_tells_of_few_structures_all_and_of_many_the_failed(potential, tmp_path, capsys):
    salt, xenon = bulk("NaCl", "rocksalt", a=5.6), bulk("Xe", "fcc", a=6.2)
    ase.io.write(tmp_path / "few.extxyz", [salt, xenon])
    ase.io.write(tmp_path / "many.extxyz", [xenon] + [salt] * 40)
    _, few = relax_here(capsys, potential, tmp_path / "few.extxyz", out=tmp_path / "few", steps=1, smax=0.1)
    for words in ("few.extxyz@1", "NaCl", "Xe", "eV/atom", "dV", "stress", "GPa", "does not know Xe"):
        assert words in few
    _, many = relax_here(capsys, potential, tmp_path / "many.extxyz", out=tmp_path / "many", steps=0, fmax=1e-9)
    assert "NaCl" not in many
    assert "Xe" in many
    assert many.splitlines()[-1] == "41 structures (41 relaxed now): 40 max_steps, 1 error"


def test_files_that_are_there_are_overwritten_by_force_only(potential, tmp_path):
    ase.io.write(tmp_path / "xenon.cif", bulk("Xe", "fcc", a=6.2))
    out = tmp_path / "out"
    out.mkdir()
    (out / "relaxed.extxyz").write_text("of the user's own")
    arguments = (potential, [tmp_path / "xenon.cif"], out)
    with pytest.raises(
        MlipError, match=r"relaxed.extxyz: exists, without a results.jsonl \(another --out, or --force\)"
    ):
        relax_files(*arguments, progress=False)
    assert (out / "relaxed.extxyz").read_text() == "of the user's own"
    relax_files(*arguments, force=True, progress=False)
    relax_files(*arguments, progress=False)  # its own results: nothing to be asked
    assert relax_files(*arguments, force=True, fmax=0.01, progress=False)["relaxed_now"] == 1


def test_what_an_earlier_run_wrote_goes_by_force_and_nothing_else(potential, tmp_path):
    for name in ("first", "second"):
        ase.io.write(tmp_path / f"{name}.cif", bulk("NaCl", "rocksalt", a=5.6))
    out = tmp_path / "out"
    relax_files(potential, [tmp_path / "first.cif"], out, formats=["extxyz", "cif"], progress=False)
    (out / "cif" / "of_the_user.cif").write_text("data_")
    relax_files(potential, [tmp_path / "second.cif"], out, formats=["extxyz", "cif"], force=True, progress=False)
    assert sorted(path.name for path in (out / "cif").iterdir()) == ["of_the_user.cif", "second.cif"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("empty.extxyz", "", "ASE cannot read it"), ("words.cif", "data_\n", "words.cif: ")],
)
def test_a_file_without_structures_is_one_line(potential, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    run = mlip("relax", potential, tmp_path / name, "--out", tmp_path / "out")
    assert run.returncode == 2
    assert len(run.stderr.strip().splitlines()) == 1
    assert message in run.stderr


def test_symmetry_pressure_and_guards_are_options_that_the_results_tell(potential, tmp_path):
    salt = bulk("NaCl", "rocksalt", a=5.6)
    salt.positions[1] += [0.004, 0, 0]
    ase.io.write(tmp_path / "salt.cif", salt)
    options = ("--symmetry", "--pressure-gpa", 2, "--max-strain", 0.5, "--min-distance", 0.4, "--steps", 2)
    run = mlip("relax", potential, tmp_path / "salt.cif", "--out", tmp_path / "out", *options)
    assert run.returncode == 0, run.stderr
    header, (record,) = read_results(tmp_path / "out" / "results.jsonl")
    told = {"symmetry": True, "pressure_gpa": 2.0, "max_strain": 0.5, "min_distance": 0.4, "steps": 2}
    assert told.items() <= header["relaxation"].items()
    sodium, chlorine = np.array(record["positions"])
    lattice_vector = 2 * (chlorine - sodium) @ np.linalg.inv(record["cell"])
    np.testing.assert_allclose(lattice_vector, np.round(lattice_vector), atol=1e-6)  # half way again


def test_a_cell_choice_that_is_none_is_one_line(potential, tmp_path):
    run = mlip("relax", potential, "x.cif", "--out", tmp_path / "out", "--cell", "isotropic")
    assert run.returncode == 2
    assert "--cell: unknown cell choice 'isotropic'" in run.stderr


def test_no_potential_is_one_line_and_leaves_nothing_behind(tmp_path):
    ase.io.write(tmp_path / "salt.cif", bulk("NaCl", "rocksalt", a=5.6))
    run = mlip("relax", tmp_path / "absent.safetensors", tmp_path / "salt.cif", "--out", tmp_path / "out")
    assert run.returncode == 2
    assert "absent.safetensors: no such potential" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_structure_comes_back_in_its_own_format_and_the_summary_tells_the_potential(potential, tmp_path, capsys):
    salt = bulk("NaCl", "rocksalt", a=5.6)
    ase.io.write(tmp_path / "POSCAR", salt)
    ase.io.write(tmp_path / "salt.cif", salt)
    out = tmp_path / "out"
    status, told = relax_here(capsys, str(potential), str(tmp_path / "POSCAR"), out=out, steps=2)
    assert status == 0
    assert str(out / "vasp/POSCAR.vasp") in told
    assert ase.io.read(out / "vasp/POSCAR.vasp").get_chemical_formula() == "ClNa"
    files = [str(tmp_path / name) for name in ("POSCAR", "salt.cif")]
    _, told = relax_here(capsys, str(potential), *files, out=tmp_path / "two", steps=2, as_json=True)
    assert json.loads(told)["potential"] == {"name": "tiny", "functional": "unknown", "license": None}
    assert (tmp_path / "two/cif/salt.cif").is_file()
    _, records = read_results(tmp_path / "two/results.jsonl")
    assert {record["potential"] for record in records} == {"tiny"}


def test_a_calculator_of_ase_relaxes_files(tmp_path, capsys):
    ase.io.write(tmp_path / "copper.cif", bulk("Cu", cubic=True))
    name, file, out = "ase:ase.calculators.emt:EMT", str(tmp_path / "copper.cif"), tmp_path / "out"
    status, told = relax_here(capsys, name, file, out=out)
    assert status == 0
    assert "one structure after another" in told
    header, (record,) = read_results(out / "results.jsonl")
    assert (header["potential"]["ase"], header["relaxation"]["dtype"]) == (name, "the calculator's")
    assert (record["reason"], record["potential"]) == ("converged", "EMT")
    with pytest.raises(MlipError, match="has its own precision"):
        relax([name, file], tmp_path / "other", dtype="float32")
