"""What comes back from VASP: every proposal has one outcome, and only what was asked for counts as finished."""

import bz2
import gzip
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from pymatgen.core import Structure
from pymatgen.io.vasp.inputs import Poscar

from mlip.data.readers.pymatgen_json import NO_ENERGY, NO_FORCES
from mlip.data.readers.vasp import NOT_CONVERGED
from mlip.data.readers.vasp_run import find_vasprun, read_run
from mlip.dft import (
    FINISHED,
    NOT_STARTED,
    UNFINISHED,
    Outcome,
    Proposal,
    VaspRecipe,
    calculated_functional,
    collect,
    known_runs,
)
from mlip.dft import hand_over as hand_over_to
from mlip.dft.records import (
    NO_INPUTS,
    NOT_READABLE,
    OTHER_FUNCTIONAL,
    OTHER_SETTINGS,
    OTHER_STRUCTURE,
    STEPS_USED_UP,
    STOPPED,
    VACUUM_CHANGED,
    VANISHED,
)
from mlip.errors import MlipError
from mlip.files.journal import Journal, read_journal
from mlip.functionals import relation_of_functionals
from mlip.units import EV_PER_A3_IN_GPA
from tests.dft.crystals import CHAIN, COPPER, FEO, LAYER, SALT, proposals, random_crystal
from tests.dft.pretend_vasp import NELM, pretend_run

RECIPE = VaspRecipe(kind="vasp")


def hand_over(*given: Proposal, folder: Path, recipe: VaspRecipe = RECIPE) -> None:
    hand_over_to(recipe, given, folder, progress=False)


def outcome_of(proposal: Proposal, folder: Path, recipe: VaspRecipe = RECIPE, **run) -> Outcome:
    """After a run that was pretended with these changes."""
    hand_over(proposal, folder=folder, recipe=recipe)
    pretend_run(folder / proposal.id, **run)
    (outcome,) = collect(recipe, folder)
    return outcome


def test_a_finished_run_gives_its_relaxed_structure_with_labels(tmp_path):
    hand_over(Proposal("a", FEO), folder=tmp_path)
    relaxed = pretend_run(tmp_path / "a", energies=(-9.0, -9.5, -10.25), strain=0.02, force=0.003)
    (outcome,) = collect(RECIPE, tmp_path)
    assert (outcome.id, outcome.reason, outcome.functional, outcome.n_steps) == ("a", FINISHED, "PBE+U", 3)
    assert (outcome.source, outcome.message) == ("a/vasprun.xml", "")
    frame = outcome.frame
    assert frame.energy == pytest.approx(-10.25)  # at sigma -> 0, not the free energy
    assert frame.numbers.tolist() == [26, 8]
    np.testing.assert_allclose(frame.cell, relaxed.lattice.matrix, atol=1e-7)
    np.testing.assert_allclose(frame.forces, [[0.003, 0, 0], [0, 0, 0]], atol=1e-9)
    assert frame.stress[0] * EV_PER_A3_IN_GPA == pytest.approx(-0.1)  # 1 kB in VASP's sign
    assert relation_of_functionals(outcome.functional, calculated_functional(RECIPE)) == "same"


def test_every_proposal_has_one_outcome_in_the_order_of_the_hand_over(tmp_path):
    given = proposals()[::-1]
    hand_over(*given, folder=tmp_path)
    pretend_run(tmp_path / "r001-000001")
    shutil.rmtree(tmp_path / "r001-000002")
    (tmp_path / "r001-000003" / "OSZICAR").write_text("")
    outcomes = collect(RECIPE, tmp_path)
    assert [outcome.id for outcome in outcomes] == [proposal.id for proposal in given]
    assert [outcome.reason for outcome in outcomes] == [NOT_STARTED, UNFINISHED, VANISHED, FINISHED, NOT_STARTED]
    assert all((outcome.frame is not None) == (outcome.reason == FINISHED) for outcome in outcomes)


@pytest.mark.parametrize("name", ["vasprun.xml", "vasprun.xml.gz", "vasprun.relax2.xml.gz", "vasprun.xml.relax2.gz"])
def test_compressed_files_and_those_of_double_relaxations_are_read(tmp_path, name):
    outcome = outcome_of(Proposal("a", COPPER), tmp_path, name=name)
    assert (outcome.reason, outcome.source) == (FINISHED, f"a/{name}")


def test_of_several_runs_the_last_counts(tmp_path):
    hand_over(Proposal("a", COPPER), folder=tmp_path)
    for n in (1, 2, 10):
        pretend_run(tmp_path / "a", energies=(-1.0, -float(n)), name=f"vasprun.relax{n}.xml.gz")
    assert collect(RECIPE, tmp_path)[0].frame.energy == pytest.approx(-10)
    pretend_run(tmp_path / "a", energies=(-1.0, -11.0), name="vasprun.xml.gz")
    assert collect(RECIPE, tmp_path)[0].frame.energy == pytest.approx(-11)
    pretend_run(tmp_path / "a", energies=(-1.0, -12.0))
    assert find_vasprun(tmp_path / "a").name == "vasprun.xml"


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_file_that_has_no_end_is_unfinished_wherever_it_was_cut(tmp_path, kept):
    hand_over(Proposal("a", FEO), folder=tmp_path)
    pretend_run(tmp_path / "a", energies=np.linspace(-9, -10, 12))
    path = tmp_path / "a" / "vasprun.xml"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    (outcome,) = collect(RECIPE, tmp_path)
    assert (outcome.reason, outcome.frame) == (UNFINISHED, None)
    assert outcome.n_steps < 13


def test_a_truncated_archive_says_so(tmp_path):
    hand_over(Proposal("a", FEO), folder=tmp_path)
    pretend_run(tmp_path / "a", name="vasprun.xml.gz")
    path = tmp_path / "a" / "vasprun.xml.gz"
    path.write_bytes(path.read_bytes()[:-200])
    (outcome,) = collect(RECIPE, tmp_path)
    assert (outcome.reason, outcome.frame) == (NOT_READABLE, None)
    assert "truncated" in outcome.message


def test_a_file_that_is_damaged_in_the_middle_is_no_shorter_run(tmp_path):
    recipe = VaspRecipe(kind="vasp", force_convergence=None)
    hand_over(Proposal("a", FEO), folder=tmp_path, recipe=recipe)
    pretend_run(tmp_path / "a", energies=np.linspace(-9, -10, 12))
    path = tmp_path / "a" / "vasprun.xml"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] = ord("<")
    path.write_bytes(content)
    (outcome,) = collect(recipe, tmp_path)
    assert (outcome.reason, outcome.frame) == (NOT_READABLE, None)
    assert "damaged behind ionic step" in outcome.message


@pytest.mark.parametrize("content", [b"Segmentation fault", b"\x00" * 4000, b"<modeling></calculation>", b"<html/>"])
def test_what_is_no_run_is_not_readable(tmp_path, content):
    hand_over(Proposal("a", FEO), folder=tmp_path)
    (tmp_path / "a" / "vasprun.xml").write_bytes(content)
    (outcome,) = collect(RECIPE, tmp_path)
    assert outcome.reason == NOT_READABLE
    assert outcome.message
    assert "\n" not in outcome.message


def test_electronic_steps_that_did_not_converge_in_the_end_are_no_result(tmp_path):
    outcome = outcome_of(Proposal("a", FEO), tmp_path, electronic_steps=(5, NELM))
    assert (outcome.reason, outcome.frame) == (NOT_CONVERGED, None)


def test_electronic_steps_that_did_not_converge_on_the_way_are_no_fault(tmp_path):
    assert outcome_of(Proposal("a", FEO), tmp_path, electronic_steps=(NELM, 5)).reason == FINISHED


def test_a_relaxation_that_used_up_its_steps_has_a_reason_of_its_own(tmp_path):
    recipe = VaspRecipe(kind="vasp", steps=3)
    outcome = outcome_of(Proposal("a", FEO), tmp_path, recipe, energies=(-8, -9, -10), force=0.2)
    assert (outcome.reason, outcome.frame) == (STEPS_USED_UP, None)
    assert outcome.message == "3 of 3 ionic steps, largest force 0.200 eV/A"


def test_one_that_converged_in_its_last_step_has_converged(tmp_path):
    recipe = VaspRecipe(kind="vasp", steps=3)
    assert outcome_of(Proposal("a", FEO), tmp_path, recipe, energies=(-8, -9, -10), force=0.004).reason == FINISHED


def test_by_energies_a_relaxation_ends_with_any_forces(tmp_path):
    recipe = VaspRecipe(kind="vasp", force_convergence=None)
    assert outcome_of(Proposal("a", FEO), tmp_path, recipe, force=0.2).reason == FINISHED
    stricter = outcome_of(Proposal("a", FEO), tmp_path, recipe, force=0.001, tags={"EDIFFG": -0.01})
    assert stricter.reason == FINISHED


def test_one_that_was_told_to_stop_has_not_converged(tmp_path):
    outcome = outcome_of(Proposal("a", FEO), tmp_path, energies=(-8, -9, -10), force=0.2)
    assert (outcome.reason, outcome.frame) == (STOPPED, None)


@pytest.mark.parametrize(
    ("atoms", "changes", "told"),
    [
        (COPPER, {"GGA": "PS"}, "the run is of PBEsol, asked for PBE"),
        (COPPER, {"METAGGA": "SCAN"}, "the run is of SCAN, asked for PBE"),
        (COPPER, {"IVDW": 11}, "the run is of PBE+vdW-DFT-D3, asked for PBE"),
        (
            COPPER,
            {"LDAU": True, "LDAUU": [4.0], "LDAUL": [2], "LDAUJ": [0.0]},
            "the run is of PBE+U with U(Cu) = 4 eV, asked for PBE",
        ),
        (FEO, {"LDAU": False}, "the run is of PBE, asked for PBE+U with U(Fe) = 5.3 eV"),
        (
            FEO,
            {"LDAUU": [4.0, 0]},
            "the run is of PBE+U with U(Fe) = 4 eV, asked for PBE+U with U(Fe) = 5.3 eV",
        ),
        (
            FEO,
            {"LDAUL": [2, 1], "LDAUU": [5.3, 2.0]},
            "the run is of PBE+U with U(Fe) = 5.3 eV, U(O) = 2 eV, asked for PBE+U with U(Fe) = 5.3 eV",
        ),
    ],
)
def test_another_functional_or_u_is_refused_by_name(tmp_path, atoms, changes, told):
    outcome = outcome_of(Proposal("a", atoms), tmp_path, tags=changes)
    assert (outcome.reason, outcome.message, outcome.frame) == (OTHER_FUNCTIONAL, told, None)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tags": {"ENCUT": 400.0}}, "the run's cutoff is 400 eV, asked for 520 eV"),
        (
            {"titles": ["PAW_PBE Fe 06Sep2000", "PAW_PBE O 08Apr2002"]},
            "the run's pseudopotentials are Fe O, asked for Fe_pv O",
        ),
        (
            {"titles": ["PAW Fe_pv 06Sep2000", "PAW_PBE O 08Apr2002"], "tags": {"GGA": "PE"}},
            "the run's pseudopotential PAW Fe_pv 06Sep2000 is none of PBE",
        ),
        ({"tags": {"NSW": 0}}, "the run is a single point, asked for a relaxation"),
        ({"tags": {"ISIF": 2}}, "the run keeps its cell, asked for ISIF = 3"),
        ({"tags": {"ISPIN": 1}}, "the run is not spin-polarized"),
        ({"tags": {"EDIFFG": -0.02}}, "the run ends at forces of 0.02 eV/A, asked for 0.005 eV/A"),
        ({"tags": {"EDIFFG": 0.001}}, "the run ends by energies, asked for 0.005 eV/A"),
        ({"grid": (7, 5, 7)}, "the run's k-points are 7x5x7, asked for 7x7x7"),
        (
            {"grid": (5, 5, 5), "tags": {"ENCUT": 400.0}},
            "the run's cutoff is 400 eV, asked for 520 eV; the run's k-points are 5x5x5, asked for 7x7x7",
        ),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, changes, told):
    outcome = outcome_of(Proposal("a", FEO), tmp_path, **changes)
    assert (outcome.reason, outcome.message, outcome.frame) == (OTHER_SETTINGS, told, None)


def test_more_than_was_asked_for_is_no_fault(tmp_path):
    tags = {"EDIFFG": -0.001, "NCORE": 8, "ALGO": "Normal", "NSW": 400}
    assert outcome_of(Proposal("a", FEO), tmp_path, tags=tags, grid=(9, 9, 9)).reason == FINISHED


def test_another_functional_is_told_while_the_run_goes_on(tmp_path):
    hand_over(Proposal("a", FEO), folder=tmp_path)
    pretend_run(tmp_path / "a", tags={"LDAU": False}, energies=np.linspace(-9, -10, 12))
    path = tmp_path / "a" / "vasprun.xml"
    path.write_bytes(path.read_bytes()[: int(0.8 * path.stat().st_size)])
    assert collect(RECIPE, tmp_path)[0].reason == OTHER_FUNCTIONAL


def test_a_run_of_another_structure_is_refused(tmp_path):
    hand_over(Proposal("a", FEO), Proposal("b", FEO.repeat((1, 1, 2))), folder=tmp_path)
    other = Poscar.from_file(tmp_path / "b" / "POSCAR").structure
    pretend_run(tmp_path / "a", structure=other)
    outcome = collect(RECIPE, tmp_path)[0]
    assert (outcome.reason, outcome.frame) == (OTHER_STRUCTURE, None)
    assert outcome.message == "the run is of Fe2O2, and FeO was handed over"


@pytest.mark.parametrize(("atoms", "dimensionality"), [(LAYER, 2), (CHAIN, 1)])
def test_a_vasp_that_relaxed_the_vacuum_away_is_found_out(tmp_path, atoms, dimensionality):
    proposal = Proposal("a", atoms, dimensionality)
    kept = outcome_of(proposal, tmp_path / "kept", strain=-0.05)
    assert kept.reason == FINISHED
    assert np.linalg.norm(kept.frame.cell[2]) == pytest.approx(15, abs=0.2)
    lost = outcome_of(proposal, tmp_path / "lost", strain=-0.05, vacuum_relaxes=True)
    assert (lost.reason, lost.frame) == (VACUUM_CHANGED, None)
    assert "LATTICE_CONSTRAINTS" in lost.message


def test_follow_ups_get_the_relaxed_structure_and_their_energies_are_read(tmp_path):
    recipe = VaspRecipe(kind="vasp", follow_ups=("PBEsol", "SCAN"))
    hand_over(Proposal("a", FEO), folder=tmp_path, recipe=recipe)
    assert collect(recipe, tmp_path)[0].follow_ups == {}
    assert not (tmp_path / "a" / "SCAN" / "POSCAR").exists()
    relaxed = pretend_run(tmp_path / "a", strain=0.03)
    (outcome,) = collect(recipe, tmp_path)
    assert (outcome.reason, outcome.message, dict(outcome.follow_ups)) == (FINISHED, "", {})
    for functional, energy in (("PBEsol", -11.0), ("SCAN", -12.0)):
        handed = Poscar.from_file(tmp_path / "a" / functional / "POSCAR").structure
        np.testing.assert_allclose(handed.lattice.matrix, relaxed.lattice.matrix, atol=1e-7)
        pretend_run(tmp_path / "a" / functional, energies=[energy], strain=0)
    (outcome,) = collect(recipe, tmp_path)
    assert dict(outcome.follow_ups) == pytest.approx({"PBEsol": -11.0, "SCAN": -12.0})
    assert outcome.frame.energy == pytest.approx(-10)


def test_follow_ups_of_another_functional_or_structure_are_told_and_the_relaxation_counts(tmp_path):
    recipe = VaspRecipe(kind="vasp", follow_ups=("PBEsol", "SCAN"))
    hand_over(Proposal("a", FEO), folder=tmp_path, recipe=recipe)
    relaxed = pretend_run(tmp_path / "a", strain=0.03)
    collect(recipe, tmp_path)
    pretend_run(tmp_path / "a" / "PBEsol", energies=[-11.0], strain=0, tags={"GGA": "PE"})
    elsewhere = Structure(relaxed.lattice.matrix * 1.05, relaxed.species, relaxed.frac_coords)
    pretend_run(tmp_path / "a" / "SCAN", energies=[-12.0], strain=0, structure=elsewhere)
    (outcome,) = collect(recipe, tmp_path)
    assert (outcome.reason, dict(outcome.follow_ups)) == (FINISHED, {})
    assert "PBEsol: other functional (the run is of PBE, asked for PBEsol)" in outcome.message
    assert "SCAN: other structure" in outcome.message


def test_what_has_no_inputs_has_its_outcome_too(tmp_path):
    flat = COPPER.copy()
    flat.set_cell(flat.cell.array * [1, 1, 0])
    hand_over(Proposal("a", flat), Proposal("b", SALT), Proposal("c", LAYER, 1), folder=tmp_path)
    outcomes = collect(RECIPE, tmp_path)
    assert [outcome.reason for outcome in outcomes] == [NO_INPUTS, NOT_STARTED, NO_INPUTS]
    assert outcomes[0].message == "the cell has no volume"
    hand_over(Proposal("a", flat), Proposal("b", SALT), folder=tmp_path)
    assert len(collect(RECIPE, tmp_path)) == 3


def test_structures_that_pymatgen_stumbles_on_keep_no_others_out(tmp_path):
    cubic = {"cell": [3.0, 3.0, 3.0], "pbc": True}
    strange = [
        Atoms("Cu2", [[0, 0, 0], [0, 0, 0]], **cubic),
        Atoms("X", **cubic),
        Atoms("Og", **cubic),
        Atoms(**cubic),
        Atoms("Cu", [[np.nan, 0, 0]], **cubic),
        Atoms("Cu", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 3]], pbc=True),
        Atoms("Cu", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 9]], pbc=[True, True, False]),
    ]
    given = [Proposal(f"s-{k}", atoms, int(atoms.pbc.sum())) for k, atoms in enumerate(strange)]
    hand_over(*given, Proposal("good", SALT), folder=tmp_path)
    outcomes = collect(RECIPE, tmp_path)
    assert [outcome.reason for outcome in outcomes] == [NO_INPUTS] * len(strange) + [NOT_STARTED]
    assert all(outcome.message and "\n" not in outcome.message for outcome in outcomes[:-1])


def test_places_where_nothing_was_handed_over_are_one_line(tmp_path):
    with pytest.raises(MlipError, match="nothing was handed over here"):
        collect(RECIPE, tmp_path)
    hand_over(Proposal("a", FEO), folder=tmp_path)
    with pytest.raises(MlipError, match="with another recipe: hubbard is True, not False"):
        collect(VaspRecipe(kind="vasp", hubbard=False), tmp_path)
    (tmp_path / "table.csv").write_text("id,folder\na,a\n")
    with pytest.raises(MlipError, match=r"table\.csv:2: is no line"):
        collect(RECIPE, tmp_path)
    (tmp_path / "handover.json").write_text("{")
    with pytest.raises(MlipError, match=r"handover\.json: is damaged"):
        collect(RECIPE, tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_back_each_proposal_has_one_outcome_and_nothing_foreign_counts(tmp_path, seed):
    rng = np.random.default_rng(seed)
    given = [Proposal(f"r{seed}-{k:03d}", random_crystal(rng)) for k in range(24)]
    hand_over(*given, folder=tmp_path)
    fates = {proposal.id: str(rng.choice(list(FATES))) for proposal in given}
    for name, fate in fates.items():
        FATES[fate][0](tmp_path / name, rng)
    outcomes = collect(RECIPE, tmp_path)
    assert [outcome.id for outcome in outcomes] == [proposal.id for proposal in given]
    for outcome in outcomes:
        assert outcome.reason in FATES[fates[outcome.id]][1], fates[outcome.id]
        assert (outcome.frame is None) == (outcome.reason != FINISHED)
    again = collect(RECIPE, tmp_path)
    assert Counter(one.reason for one in again) == Counter(one.reason for one in outcomes)


def test_by_several_processes_the_outcomes_are_the_same(tmp_path):
    rng = np.random.default_rng(9)
    given = [Proposal(f"p-{k:03d}", random_crystal(rng)) for k in range(70)]
    hand_over(*given, folder=tmp_path)
    for k, proposal in enumerate(given[:40]):
        pretend_run(tmp_path / proposal.id, energies=(-1.0, -2.0 - k), tags={"ENCUT": 400.0} if k % 3 == 0 else {})
    alone, together = collect(RECIPE, tmp_path), collect(RECIPE, tmp_path, workers=2)
    for one, other in zip(alone, together, strict=True):
        assert (one.id, one.reason, one.message, one.source) == (other.id, other.reason, other.message, other.source)
        if one.frame is not None:
            assert one.frame.energy == other.frame.energy
            np.testing.assert_array_equal(one.frame.positions, other.frame.positions)


def test_a_finished_run_is_read_once_and_again_when_it_has_changed(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    recipe = VaspRecipe(kind="vasp", follow_ups=("SCAN",))
    given = [Proposal(f"k-{k}", random_crystal(rng)) for k in range(6)]
    hand_over(*given, folder=tmp_path, recipe=recipe)
    pretend_run(tmp_path / "k-0")
    pretend_run(tmp_path / "k-1", tags={"ENCUT": 400.0})
    pretend_run(tmp_path / "k-2", electronic_steps=(3, NELM))
    _cut(tmp_path / "k-3", rng)
    (tmp_path / "k-4" / "vasprun.xml").write_text("<html/>")
    collect(recipe, tmp_path)
    pretend_run(tmp_path / "k-0" / "SCAN", energies=[-3.0], strain=0)
    before, read = collect(recipe, tmp_path), []
    monkeypatch.setattr(known_runs, "read_run", lambda path: read.append(path) or read_run(path))
    again = collect(recipe, tmp_path)
    assert {path.parent.name for path in read} == {"k-3", "k-4"}
    for one, other in zip(before, again, strict=True):
        assert (one.id, one.reason, one.message, one.n_steps) == (other.id, other.reason, other.message, other.n_steps)
        assert (one.functional, dict(one.follow_ups)) == (other.functional, dict(other.follow_ups))
    assert again[0].frame.energy == before[0].frame.energy
    for array in ("numbers", "positions", "cell", "pbc", "forces", "stress"):
        kept, fresh = getattr(again[0].frame, array), getattr(before[0].frame, array)
        assert kept.dtype == fresh.dtype
        np.testing.assert_array_equal(kept, fresh)
    pretend_run(tmp_path / "k-1", energies=(-1.0, -5.0))
    assert collect(recipe, tmp_path)[1].frame.energy == pytest.approx(-5.0)


@pytest.mark.parametrize("content", [b"no JSON\n", b'{"file": "a/vasprun.xml", "state": 1}\n', b"[1]\n", b"\xff\xfe\n"])
def test_a_damaged_memory_of_runs_is_no_loss(tmp_path, content):
    expected = outcome_of(Proposal("a", COPPER), tmp_path)
    (tmp_path / ".runs.jsonl").write_bytes(content)
    for _ in range(2):
        (outcome,) = collect(RECIPE, tmp_path)
        assert (outcome.reason, outcome.frame.energy) == (FINISHED, expected.frame.energy)


def test_a_memory_of_runs_that_was_cut_short_is_made_anew(tmp_path):
    outcome_of(Proposal("a", COPPER), tmp_path)
    memory = tmp_path / ".runs.jsonl"
    whole = memory.read_bytes()
    memory.write_bytes(whole + whole[:40])
    hand_over(Proposal("b", SALT), folder=tmp_path)
    pretend_run(tmp_path / "b")
    for _ in range(2):
        assert [outcome.reason for outcome in collect(RECIPE, tmp_path)] == [FINISHED, FINISHED]
    assert [record["file"] for record in read_journal(memory)] == ["b/vasprun.xml", "a/vasprun.xml"]


def test_where_nothing_can_be_written_outcomes_are_read_all_the_same(tmp_path):
    hand_over(Proposal("a", COPPER), folder=tmp_path)
    pretend_run(tmp_path / "a")
    with Journal(tmp_path / ".runs.jsonl"):  # another process collects, too
        assert collect(RECIPE, tmp_path)[0].reason == FINISHED


def _cut(folder: Path, rng: np.random.Generator) -> None:
    pretend_run(folder, energies=np.linspace(-9, -10, 6))
    path = folder / "vasprun.xml"
    path.write_bytes(path.read_bytes()[: int(rng.uniform(0, 0.999) * path.stat().st_size)])


def _damage(folder: Path, rng: np.random.Generator) -> None:
    pretend_run(folder)
    path = folder / "vasprun.xml"
    content = bytearray(path.read_bytes())
    for place in rng.integers(0, len(content), 40):
        content[place] = rng.integers(0, 256)
    path.write_bytes(content)


def _compress(folder: Path, rng: np.random.Generator) -> None:
    pretend_run(folder)
    kind, suffix = ((gzip, ".gz"), (bz2, ".bz2"))[rng.integers(2)]
    path = folder / "vasprun.xml"
    (folder / f"vasprun.xml{suffix}").write_bytes(kind.compress(path.read_bytes()))
    path.unlink()


ANYTHING = {
    *(NOT_READABLE, UNFINISHED, OTHER_STRUCTURE, OTHER_FUNCTIONAL, OTHER_SETTINGS, FINISHED, STOPPED, STEPS_USED_UP),
    *(NOT_CONVERGED, NO_ENERGY, NO_FORCES),
}
FATES = {
    "nothing": (lambda folder, rng: None, {NOT_STARTED}),
    "vanishes": (lambda folder, rng: shutil.rmtree(folder), {VANISHED}),
    "is a file": (lambda folder, rng: (shutil.rmtree(folder), folder.write_text("")), {VANISHED}),
    "finishes": (lambda folder, rng: pretend_run(folder), {FINISHED}),
    "compressed": (_compress, {FINISHED}),
    "cut": (_cut, {UNFINISHED}),
    "damaged": (_damage, ANYTHING),
    "other functional": (lambda folder, rng: pretend_run(folder, tags={"GGA": "PS"}), {OTHER_FUNCTIONAL}),
    "other cutoff": (lambda folder, rng: pretend_run(folder, tags={"ENCUT": 450.0}), {OTHER_SETTINGS}),
    "does not converge": (lambda folder, rng: pretend_run(folder, electronic_steps=(3, NELM)), {NOT_CONVERGED}),
    "log only": (lambda folder, rng: (folder / "OUTCAR").write_text("killed"), {UNFINISHED}),
}
"""What may happen to a folder, and the outcomes that may come of it."""
