"""Relaxing with any ASE calculator and keeping the path; its export in ALEXANDRIA's layout."""

import bz2
import json
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from pymatgen.core import Structure
from typer import Typer
from typer.testing import CliRunner

from mlip.cli import label as label_command
from mlip.data.alexandria_export import PathWriter
from mlip.data.labeling import (
    VACUUM,
    LabeledPath,
    LabelSettings,
    export_journal,
    label,
    label_structure,
    labeled_materials,
    read_structures,
    standard_setting,
)
from mlip.data.readers import alexandria
from mlip.data.records import Frame, Trajectory
from mlip.errors import MlipError
from mlip.units import stress_from_vasp

SETTINGS = LabelSettings("emt", steps=100, fmax=0.05)


def off_equilibrium(seed: int = 0) -> Atoms:
    """Copper, two atoms, compressed by 5 % along each axis and rattled."""
    atoms = bulk("Cu", "fcc", a=3.42) * (2, 1, 1)
    atoms.rattle(0.08, seed=seed)
    return atoms


@pytest.fixture(scope="module")
def copper_path() -> LabeledPath:
    return label_structure("cu", off_equilibrium(), EMT(), SETTINGS)


def free_layer() -> Atoms:
    layer = fcc111("Cu", (1, 1, 2), a=3.5)
    layer.pbc = (True, True, False)
    return layer


def free_chain() -> Atoms:
    return Atoms("Cu2", [(0, 0, 0), (2.3, 0.4, 0.1)], cell=[4.6, 0, 0], pbc=(True, False, False))


class Linear(Calculator):
    """No forces, a given stress (eV/A^3) and energy: what it does to a cell is known."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, stress: float = 0.0, energy: float = 0.0):
        super().__init__()
        self.stress, self.energy = stress, energy

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        stress = self.stress * np.array([1.0, 1, 1, 0, 0, 0])
        self.results = {"energy": self.energy, "forces": np.zeros((len(atoms), 3)), "stress": stress}


class Broken(Linear):
    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        raise RuntimeError("out of order")


class Counting(EMT):
    n_calculations = 0

    def calculate(self, *args, **kwargs):
        self.n_calculations += 1
        super().calculate(*args, **kwargs)


def test_a_path_holds_every_step_with_the_labels_of_its_structure(copper_path):
    path, frames = copper_path, copper_path.trajectory.frames
    assert path.reason == "converged"
    assert path.fmax <= SETTINGS.fmax
    assert [frame.ionic_step for frame in frames] == list(range(len(frames)))
    np.testing.assert_array_equal(frames[0].positions, off_equilibrium().positions)
    assert frames[-1].energy < frames[0].energy - 0.01
    for frame in (frames[0], frames[len(frames) // 2], frames[-1]):
        again = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=True, calculator=EMT())
        assert frame.energy == pytest.approx(again.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(frame.forces, again.get_forces(), atol=1e-9)
        np.testing.assert_allclose(frame.stress, again.get_stress(), atol=1e-9)


def test_the_calculator_is_called_once_a_step():
    calculator = Counting()
    path = label_structure("cu", off_equilibrium(), calculator, SETTINGS)
    assert calculator.n_calculations == len(path.trajectory.frames)


def test_the_input_is_not_modified():
    start = free_layer()
    start.calc = SinglePointCalculator(start, energy=1.0)
    before = start.copy()
    label_structure("layer", start, EMT(), SETTINGS)
    np.testing.assert_array_equal(start.positions, before.positions)
    np.testing.assert_array_equal(start.cell.array, before.cell.array)
    np.testing.assert_array_equal(start.pbc, before.pbc)
    assert isinstance(start.calc, SinglePointCalculator)


def test_steps_limit_the_path():
    path = label_structure("cu", off_equilibrium(), EMT(), LabelSettings("emt", steps=3, fmax=1e-4))
    assert path.reason == "max_steps"
    assert len(path.trajectory.frames) == 4


@pytest.mark.parametrize(("start", "dimensionality"), [(free_layer, 2), (free_chain, 1)])
def test_only_periodic_directions_of_a_layer_or_chain_relax(start, dimensionality):
    path = label_structure("low", start(), EMT(), SETTINGS)
    first, last = path.trajectory.frames[0], path.trajectory.frames[-1]
    assert path.trajectory.dimensionality == dimensionality
    assert first.pbc.all()
    np.testing.assert_allclose(last.cell[dimensionality:], first.cell[dimensionality:], atol=1e-12)
    changes = np.linalg.norm(last.cell, axis=1) / np.linalg.norm(first.cell, axis=1) - 1
    assert (abs(changes[:dimensionality]) > 1e-3).all()


def test_free_directions_get_the_vacuum_of_alexandria():
    layer, _ = standard_setting(free_layer())
    assert layer.cell[2, 2] - np.ptp(layer.positions[:, 2]) == pytest.approx(VACUUM)
    chain, _ = standard_setting(free_chain())
    for axis in (1, 2):
        assert chain.cell[axis, axis] - np.ptp(chain.positions[:, axis]) == pytest.approx(VACUUM)


def test_a_tilted_layer_is_turned_into_the_plane_with_its_energy_and_handedness_of_bonds():
    layer = free_layer()
    flat, _ = standard_setting(layer)
    layer.rotate(40, (1, 2, 3), rotate_cell=True)
    turned, _ = standard_setting(layer)
    np.testing.assert_allclose(turned.cell[:2, 2], 0, atol=1e-12)
    np.testing.assert_allclose(turned.get_all_distances(mic=True), flat.get_all_distances(mic=True), atol=1e-10)


def test_a_layer_open_along_a_is_refused_with_the_way_out():
    layer = free_layer()
    layer.pbc = (False, True, True)
    with pytest.raises(MlipError, match="permute the axes"):
        standard_setting(layer)


@pytest.mark.parametrize(
    ("calculator", "reason"),
    [
        (Linear(stress=-5.0), "exploded"),
        (Linear(stress=+5.0), "collapsed"),
        (Linear(energy=float("nan")), "non_finite"),
        (EMT(), "error"),
    ],
)
def test_a_guard_ends_the_path_with_its_reason(calculator, reason):
    symbol = "Xe" if reason == "error" else "Cu"  # EMT has no xenon
    path = label_structure("bad", bulk(symbol, "fcc", a=4.0), calculator, SETTINGS)
    assert path.reason == reason
    assert ("Xe" in path.message) == (reason == "error")


def test_a_collapsing_cell_never_reaches_the_calculator():
    class Recording(Linear):
        smallest = np.inf

        def calculate(self, atoms=None, properties=None, system_changes=all_changes):
            self.smallest = min(self.smallest, atoms.get_volume())
            super().calculate(atoms, properties, system_changes)

    start, calculator = bulk("Cu"), Recording(stress=+5.0)
    label_structure("bad", start, calculator, SETTINGS)
    assert calculator.smallest > 0.25 * start.get_volume()


def test_an_atom_without_neighbors_within_six_angstrom_is_isolated():
    far = Atoms("Cu2", [(0, 0, 0), (10, 0, 0)], cell=[20, 20, 20], pbc=True)
    assert label_structure("far", far, Linear(), SETTINGS).reason == "isolated"


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    structures = [(f"cu-{k}", off_equilibrium(seed=k)) for k in range(3)]
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    label(structures, EMT(), whole, SETTINGS)

    def kill(material_id, reason):
        if material_id == "cu-1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label(structures, EMT(), killed, SETTINGS, on_path=kill)
    with open(killed, "a") as stream:
        stream.write('{"id":"cu-2","reason":"conv')  # the kill came in the middle of a line
    calculator, seen = Counting(), []
    label(structures, calculator, killed, SETTINGS, on_path=lambda *path: seen.append(path))
    assert killed.read_bytes() == whole.read_bytes()
    assert calculator.n_calculations == list(labeled_materials(whole))[2]["n_steps"] + 1
    assert seen == [("cu-0", "converged"), ("cu-1", "converged"), ("cu-2", "converged")]


@pytest.mark.parametrize(
    ("cell", "pbc", "message"),
    [
        (np.eye(3) * 4, (False, False, False), "permute the axes"),
        (np.eye(3) * 4, (False, True, True), "permute the axes"),
        ([[3, 0, 0], [6, 0, 0], [0, 0, 9]], (True, True, False), "Singular matrix"),
    ],
)
def test_what_cannot_be_relaxed_is_journaled_and_the_run_goes_on(tmp_path, cell, pbc, message):
    odd = Atoms("Cu", cell=cell, pbc=pbc)
    journal = tmp_path / "journal.jsonl"
    label([("odd", odd), ("good", bulk("Cu", a=3.59))], EMT(), journal, SETTINGS)
    first, second = labeled_materials(journal)
    assert (first["id"], first["reason"], second["reason"]) == ("odd", "error", "converged")
    assert message in first["message"]
    assert export_journal(journal, tmp_path / "paths.json").reasons == {"error": 1, "converged": 1}


def test_a_file_that_cannot_be_read_is_journaled_and_the_others_are_labeled(tmp_path):
    (tmp_path / "broken.vasp").write_text("no POSCAR\n")
    (tmp_path / "empty.cif").write_text("data_x\n_cell_length_a 3\n")
    write(tmp_path / "good.extxyz", bulk("Cu"))
    journal = tmp_path / "journal.jsonl"
    files = [tmp_path / name for name in ("broken.vasp", "empty.cif", "good.extxyz")]
    label(read_structures(files), EMT(), journal, SETTINGS)
    broken, empty, good = labeled_materials(journal)
    assert (broken["id"], broken["reason"], good["reason"]) == ("broken-000000", "error", "converged")
    assert "broken.vasp: ASE cannot read it" in broken["message"]
    assert "empty.cif: holds no structure" in empty["message"]


def test_a_journal_of_other_settings_is_not_continued(tmp_path):
    label([], EMT(), tmp_path / "journal.jsonl", SETTINGS)
    with pytest.raises(MlipError, match=r"another fmax .*delete the file"):
        label([], EMT(), tmp_path / "journal.jsonl", LabelSettings("emt", steps=100, fmax=0.1))


def test_two_processes_do_not_append_to_one_journal(tmp_path):
    journal, refused = tmp_path / "journal.jsonl", []

    def second(*_) -> None:
        with pytest.raises(MlipError, match="another process appends to it"):
            label([], EMT(), journal, SETTINGS)
        refused.append(True)

    label([("cu", off_equilibrium(seed=0))], EMT(), journal, SETTINGS, on_path=second)
    assert refused == [True]
    assert [record["id"] for record in labeled_materials(journal)] == ["cu"]


@pytest.mark.parametrize("content", ["notes, without an end of line", "1 2 3\n4 5 6\n", '{"mlip_results": 1}\n'])
def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path, content):
    journal = tmp_path / "journal.jsonl"
    journal.write_text(content)
    with pytest.raises(MlipError, match="is no journal"):
        label([], EMT(), journal, SETTINGS)
    assert journal.read_text() == content


def test_failed_paths_are_counted_and_not_exported(tmp_path):
    journal, out = tmp_path / "journal.jsonl", tmp_path / "paths.json"
    short = LabelSettings("emt", steps=2, fmax=0.05)
    structures = [("good", bulk("Cu", a=3.59)), ("long", off_equilibrium()), ("bad", bulk("Xe", "fcc", a=6))]
    label(structures, EMT(), journal, short)
    summary = export_journal(journal, out)
    assert summary.reasons == {"converged": 1, "max_steps": 1, "error": 1}
    assert summary.first_error.startswith("bad: NotImplementedError")
    assert list(json.loads(out.read_text())) == ["good", "long"]
    assert export_journal(journal, out, converged_only=True).n_exported == 1


def read_back(path) -> dict:
    with bz2.open(path, "rt") as stream:
        return json.load(stream)


def test_an_exported_path_reads_back_in_units_signs_and_keys_of_alexandria(tmp_path, copper_path):
    trajectory = copper_path.trajectory
    with PathWriter(tmp_path / "paths.json.bz2") as writer:
        writer.add(trajectory)
    (calculation,) = read_back(tmp_path / "paths.json.bz2")["cu"]
    assert list(calculation) == ["kpoints", "PREC", "ENMAX", "ENAUG", "steps"]
    assert len(calculation["steps"]) == len(trajectory.frames)
    for step, frame in zip(calculation["steps"], trajectory.frames, strict=True):
        assert list(step) == ["structure", "energy", "forces", "stress"]
        structure = Structure.from_dict(step["structure"])
        np.testing.assert_allclose(structure.lattice.matrix, frame.cell, atol=5e-6)
        np.testing.assert_allclose(structure.cart_coords, frame.positions, atol=3e-5)
        assert [site.specie.Z for site in structure] == frame.numbers.tolist()
        assert step["energy"] == pytest.approx(frame.energy, abs=1e-6)
        np.testing.assert_allclose(step["forces"], frame.forces, atol=1e-5)
        np.testing.assert_allclose(stress_from_vasp(step["stress"]), frame.stress, atol=1e-6)
    assert np.trace(calculation["steps"][0]["stress"]) / 3 > 100  # kB: compressed, so positive


def test_our_reader_of_alexandria_reads_the_export(tmp_path, copper_path):
    trajectory = copper_path.trajectory
    with PathWriter(tmp_path / "surrogate_paths.json.bz2") as writer:
        writer.add(trajectory)
    (back,) = alexandria.read(tmp_path / "surrogate_paths.json.bz2")
    assert (back.material_id, back.functional, back.dimensionality) == ("cu", "surrogate", 3)
    assert len(back.frames) == len(trajectory.frames)
    np.testing.assert_allclose(back.frames[-1].stress, trajectory.frames[-1].stress, atol=1e-6)
    np.testing.assert_allclose(back.frames[-1].forces, trajectory.frames[-1].forces, atol=1e-5)


def test_frames_of_consecutive_runs_become_calculations_and_missing_labels_null(tmp_path):
    geometry = {"numbers": np.array([29]), "positions": np.zeros((1, 3)), "cell": np.eye(3) * 3}
    frames = [Frame(**geometry, pbc=np.ones(3, bool), calculation=run) for run in (0, 0, 1)]
    with PathWriter(tmp_path / "paths.json") as writer:
        writer.add(Trajectory("cu", frames, "surrogate", 3))
    runs = json.loads((tmp_path / "paths.json").read_text())["cu"]
    assert [len(run["steps"]) for run in runs] == [2, 1]
    assert [runs[0]["steps"][0][key] for key in ("energy", "forces", "stress")] == [None, None, None]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    out = tmp_path / "paths.json.bz2"
    out.write_bytes(b"old")
    with pytest.raises(TypeError), PathWriter(out) as writer:
        writer.add_calculations("cu", [object()])
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert out.read_bytes() == b"old"


def test_structures_get_their_ids_from_the_file_or_its_name(tmp_path):
    named, plain = bulk("Cu"), bulk("Ag")
    named.info["material_id"] = "agm000000001"
    write(tmp_path / "some.extxyz", [named, plain])
    assert [name for name, _ in read_structures([tmp_path / "some.extxyz"])] == ["agm000000001", "some-000001"]
    write(tmp_path / "same.extxyz", [named])
    with pytest.raises(MlipError, match="'agm000000001' comes twice"):
        list(read_structures([tmp_path / "some.extxyz", tmp_path / "same.extxyz"]))


@pytest.fixture
def run_label(tmp_path):
    """The command on one copper crystal: gives the result and the file it was told to write."""
    app = Typer()
    app.command()(label_command.label)
    write(tmp_path / "cu.extxyz", off_equilibrium())

    def run(calculator: str, out: str = "paths.json.bz2", *options: str):
        arguments = [tmp_path / "cu.extxyz", "--calculator", calculator, "--out", tmp_path / out, *options]
        return CliRunner().invoke(app, [str(argument) for argument in arguments]), tmp_path / out

    return run


def test_the_command_labels_by_any_factory_and_finds_its_own_work_again(run_label):
    for _ in range(2):
        result, out = run_label("ase.calculators.emt:EMT", "paths.json.bz2", "--json")
        assert result.exit_code == 0, result.output
        counts = json.loads(result.stdout)
        assert counts["reasons"] == {"converged": 1}
        assert counts["frames"] == len(read_back(out)["cu-000000"][0]["steps"])


@pytest.mark.parametrize(
    ("calculator", "out", "message"),
    [
        ("nothing", "paths.json", "'nothing' is no calculator"),
        ("ase.calculators.emt:None", "paths.json", "module:factory"),
        ("ase.calculators.emt:EMT", "paths.xyz", "not a .json or .json.bz2 file"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line_with_a_way_out(run_label, calculator, out, message):
    result, _ = run_label(calculator, out)
    assert isinstance(result.exception, MlipError)
    assert message in str(result.exception)


def test_a_run_without_a_usable_path_fails_with_the_reason(run_label):
    result, _ = run_label("test_labeling:Broken")
    assert "no path is usable (cu-000000: RuntimeError: out of order)" in str(result.exception)


def test_without_chgnet_the_message_names_the_extra(run_label, monkeypatch):
    monkeypatch.setitem(sys.modules, "chgnet", None)
    result, _ = run_label("chgnet")
    assert "pip install 'alexandria-mlip[label]'" in str(result.exception)
