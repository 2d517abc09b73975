"""Errors stand beside those of predictors that know nothing, and nothing is left out in silence."""

import json
from dataclasses import replace

import numpy as np
import pytest
import typer
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from typer.testing import CliRunner

from mlip.cli.predictions import evaluate as command
from mlip.data import Frame, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.evaluation.comparison import LabeledFrame, compare
from mlip.evaluation.error_tables import error_tables
from mlip.evaluation.evaluate import evaluate, evaluate_path
from mlip.evaluation.frame_errors import Errors
from mlip.foreign import ForeignPotential
from mlip.models import parse_config
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.units import EV_PER_A3_IN_GPA
from tests.emt_world import emt_frames

E0 = {"Cu": -3.0, "Al": -2.0, "Ni": -1.0}
NO_E0 = np.zeros(119)


@pytest.fixture(scope="module")
def potential() -> Potential:
    """Random parameters; it does not know silver."""
    config = parse_config({"model": "m3gnet", "cutoff": 3.6, "three_body_cutoff": 3.2, "units": 4, "n_blocks": 1})
    return Potential(config, init_parameters(config), PotentialMetadata(reference_energies=E0, scale=0.1))


FRAMES = emt_frames(6, seed=11, symbols=tuple(E0))


def labeled(frames) -> list[LabeledFrame]:
    """As chains, layers and crystals in turn."""
    return [LabeledFrame(frame, f"emt-{index}", 1 + index % 3, "EMT surrogate") for index, frame in enumerate(frames)]


@pytest.fixture(scope="module")
def errors(potential):
    return evaluate(potential, labeled(FRAMES))


def test_trivial_predictors_are_the_means_of_the_labels(errors):
    row = errors.rows[-1]
    energies = [(f.energy - sum(E0[s] for s in Atoms(numbers=f.numbers).symbols)) / len(f) for f in FRAMES]
    assert row.energy_mae_e0 == pytest.approx(1000 * np.mean(np.abs(energies)))
    assert row.forces_mae_zero == pytest.approx(np.mean([np.abs(f.forces).mean() for f in FRAMES]))
    stress = [np.abs(f.stress).mean() * EV_PER_A3_IN_GPA for f in FRAMES]
    assert row.stress_mae_zero == pytest.approx(np.mean(stress))


def test_errors_are_those_of_predict(potential, errors):
    row = errors.rows[-1]
    predictions = potential.predict(FRAMES)
    energies = [(p["energy"] - f.energy) / len(f) for p, f in zip(predictions, FRAMES, strict=True)]
    assert row.energy_mae == pytest.approx(1000 * np.mean(np.abs(energies)))
    assert row.energy_rmse == pytest.approx(1000 * np.sqrt(np.mean(np.square(energies))))
    forces = [np.abs(p["forces"] - f.forces).mean() for p, f in zip(predictions, FRAMES, strict=True)]
    assert row.forces_mae == pytest.approx(np.mean(forces))


def test_each_dimensionality_has_a_row_and_all_together_have_one(errors):
    counts = [(row.dimensionality, row.n_frames) for row in errors.rows]
    assert counts == [("1D", 2), ("2D", 2), ("3D", 2), ("all", 6)]
    assert errors.is_surrogate


def test_missing_labels_are_nan_in_the_table_and_null_in_json(potential):
    bare = [Frame(f.numbers, f.positions, f.cell, f.pbc, f.energy) for f in FRAMES]
    errors = evaluate(potential, labeled(bare))
    assert np.isnan(errors.rows[0].forces_mae)
    assert errors.as_json()["rows"][0]["forces_mae"] is None
    json.dumps(errors.as_json(), allow_nan=False)


def test_unknown_elements_are_left_out_and_counted(potential):
    silver = emt_frames(2, seed=1, symbols=("Ag",))
    errors = evaluate(potential, labeled([*FRAMES[:3], *silver, *FRAMES[3:]]))
    assert errors.left_out == {"the potential does not know Ag": 2}
    assert errors.rows[-1].n_frames == 6


def zeros_for(frame: Frame) -> dict:
    return {"energy": 0.0, "forces": np.zeros_like(frame.positions), "stress": np.zeros(6)}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("quantity", ["energy", "forces", "stress"])
def test_a_prediction_that_is_not_finite_is_counted_and_enters_no_column(quantity, value):
    first, second = labeled(FRAMES[:2])
    fault = zeros_for(second.frame)
    fault[quantity] = np.full_like(fault[quantity], value)
    expected, found = Errors(), Errors()
    expected.add(compare([first], [zeros_for(first.frame)], NO_E0))
    found.add(compare([first, second], [zeros_for(first.frame), fault], NO_E0))
    assert found.left_out == {"prediction is not finite": 1}
    assert found.rows == expected.rows


def test_a_stress_without_a_label_may_be_undefined():
    """A cell without volume has no stress: neither a label nor a prediction."""
    item = labeled([replace(FRAMES[0], stress=None)])[0]
    errors = Errors()
    errors.add(compare([item], [zeros_for(item.frame) | {"stress": np.full(6, np.nan)}], NO_E0))
    assert not errors.left_out
    assert errors.rows[-1].forces_mae == pytest.approx(np.abs(item.frame.forces).mean())


def test_coincident_atoms_leave_out_their_frame_alone_and_name_its_material(potential, errors):
    frame = FRAMES[0]
    twice = replace(frame, positions=np.repeat(frame.positions[:1], len(frame), axis=0))
    fault = LabeledFrame(twice, "agm007", 3, "EMT surrogate")
    found = evaluate(potential, [fault, *labeled(FRAMES)])
    (reason,) = found.left_out
    assert reason.startswith("agm007: atoms 0 and 1 coincide")
    assert found.rows == errors.rows


def test_another_dtype_is_refused_in_a_line(potential):
    with pytest.raises(MlipError, match=r"dtype.*float32 or float64"):
        evaluate(potential, labeled(FRAMES), dtype="foo")


def test_nothing_left_to_compare_is_an_error(potential):
    silver = emt_frames(2, seed=1, symbols=("Ag",))
    with pytest.raises(MlipError, match=r"no labeled frame.*2 left out: the potential does not know Ag"):
        evaluate(potential, labeled(silver))


def test_of_many_reasons_to_leave_frames_out_an_error_tells_three(potential):
    strangers = [frame for symbol in ("Pt", "Au", "Pd", "Ag", "Ag") for frame in emt_frames(1, 1, (symbol,))]
    with pytest.raises(MlipError, match=r"; 2 left out: [^;]* Ag; 1 left[^;]*; 1 left[^;]*; 1 more for other reasons"):
        evaluate(potential, labeled(strangers))


def test_frames_without_any_label_are_refused_in_a_line(potential):
    bare = [replace(frame, energy=np.nan, forces=None, stress=None) for frame in FRAMES]
    with pytest.raises(MlipError, match=r"no labeled frame.*6 left out: neither energy nor forces.*label the frames"):
        evaluate(potential, labeled(bare))
    found = evaluate(potential, labeled([*bare[:2], *FRAMES[2:]]))
    assert found.left_out == {"neither energy nor forces nor stress is known": 2}
    assert found.rows[-1].n_frames == 4


def test_each_table_says_how_many_frames_had_each_label(potential, errors):
    partly = [replace(f, forces=None, stress=None) if k < 2 else f for k, f in enumerate(FRAMES)]
    partly[5] = replace(partly[5], energy=np.nan)
    found = evaluate(potential, labeled(partly))
    counts = found.rows[-1]
    assert (counts.n_frames, counts.n_energies, counts.n_forces, counts.n_stresses) == (6, 5, 4, 4)
    for table in error_tables(found, "title"):
        assert "all: of 6 frames 5 with energy, 4 with forces, 4 with stress" in table.caption
    assert not any("with forces" in str(table.caption) for table in error_tables(errors, "title"))


def test_a_label_that_no_frame_has_is_a_dash_and_not_a_number(potential):
    (main, *_) = error_tables(evaluate(potential, labeled([replace(f, forces=None) for f in FRAMES])), "title")
    assert list(main.columns[6].cells) == ["-"] * 4


@pytest.fixture(params=["a store", "a file"])
def of_pbesol(request, tmp_path):
    if request.param == "a store":
        with StoreWriter(path := tmp_path / "sol.h5") as writer:
            for k, frame in enumerate(FRAMES):
                writer.add(Trajectory(f"m{k}", [frame], "PBE" if k == 0 else "PBEsol", 3), "train" if k else "test")
        return path
    images = [Atoms(f.numbers, f.positions, cell=f.cell, pbc=f.pbc) for f in FRAMES]
    for atoms, frame in zip(images, FRAMES, strict=True):
        atoms.calc = SinglePointCalculator(atoms, energy=frame.energy)
    write(tmp_path / "frames_pbesol.extxyz", images)
    return tmp_path / "frames_pbesol.extxyz"


def test_labels_of_another_functional_are_refused_unless_allowed_and_then_told(potential, of_pbesol):
    pbe = Potential(potential.config, potential.params, potential.metadata.model_copy(update={"functional": "PBE"}))
    with pytest.raises(MlipError, match=r"the potential is of PBE, the labels of PBEsol .*--allow-functional-mismatch"):
        evaluate_path(pbe, of_pbesol)
    found = evaluate_path(pbe, of_pbesol, allow_functional_mismatch=True)
    assert "as allowed" in found.as_json()["functional_note"]
    assert "as allowed" in error_tables(found, "title")[0].caption


def test_only_the_frames_that_are_chosen_must_be_of_the_potentials_functional(potential, of_pbesol):
    if of_pbesol.suffix == ".h5":
        pbe = Potential(potential.config, potential.params, potential.metadata.model_copy(update={"functional": "PBE"}))
        assert evaluate_path(pbe, of_pbesol, split="test").functional_note is None
        of_pbe = evaluate_path(pbe, of_pbesol, functional="PBE")
        assert (of_pbe.n_frames, of_pbe.functional_note) == (1, None)


def test_what_a_store_has_is_told_if_nothing_is_chosen(potential, of_pbesol):
    if of_pbesol.suffix == ".h5":
        with pytest.raises(
            MlipError, match=r"no material in the split val: the store has 1 in test \(PBE\), 5 in train"
        ):
            evaluate_path(potential, of_pbesol, split="val")
        with pytest.raises(MlipError, match="no material of SCAN: "):
            evaluate_path(potential, of_pbesol, functional="SCAN")


@pytest.fixture
def extxyz(tmp_path):
    images = []
    for frame in FRAMES:
        atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
        atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces, stress=frame.stress)
        images.append(atoms)
    path = tmp_path / "frames_surrogate.extxyz"
    write(path, images)
    return path


def test_a_file_of_frames_gives_the_same_errors_as_the_frames(potential, extxyz, errors):
    found = evaluate_path(potential, extxyz).rows[-1]
    expected = errors.rows[-1]
    assert found.energy_mae == pytest.approx(expected.energy_mae, rel=1e-3)  # the file has 8 decimals
    assert found.forces_mae == pytest.approx(expected.forces_mae, rel=1e-3)


def test_a_file_has_no_splits(potential, extxyz):
    with pytest.raises(MlipError, match="only a store has splits"):
        evaluate_path(potential, extxyz, split="test")


def test_the_command_prints_json_that_a_script_can_read(potential, extxyz, tmp_path):
    app = typer.Typer()
    app.command()(command)
    path = potential.save(tmp_path / "potential.safetensors")
    result = CliRunner().invoke(app, [str(path), str(extxyz), "--json"], catch_exceptions=False)
    record = json.loads(result.stdout)
    assert "not compared" in record["functional_note"]
    assert record["rows"][-1]["n_frames"] == 6
    assert [row["element"] for row in record["elements"]] == ["Al", "Ni", "Cu"]
    table = CliRunner().invoke(app, [str(path), str(extxyz)], catch_exceptions=False).stdout
    assert "E0 only" in table


def test_labels_of_a_file_are_found_under_the_keys_that_the_user_names(potential, tmp_path):
    frames = []
    for frame in FRAMES:
        atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
        atoms.info["REF_energy"] = frame.energy
        atoms.arrays["REF_forces"] = frame.forces
        frames.append(atoms)
    write(tmp_path / "pbe.extxyz", frames)
    with pytest.raises(MlipError, match="keys seen: info: REF_energy; arrays: REF_forces"):
        evaluate_path(potential, tmp_path / "pbe.extxyz")
    keys = {"energy": "REF_energy", "forces": "REF_forces"}
    found = evaluate_path(potential, tmp_path / "pbe.extxyz", keys=keys).rows[-1]
    expected = evaluate(potential, labeled(FRAMES)).rows[-1]
    assert found.energy_mae == pytest.approx(expected.energy_mae, rel=1e-4)
    assert found.forces_mae == pytest.approx(expected.forces_mae, rel=1e-4)


def test_a_functional_that_contradicts_the_files_own_is_refused(potential, tmp_path):
    write(tmp_path / "x.extxyz", Atoms("Cu", cell=[3] * 3, pbc=True, info={"functional": "PBEsol"}))
    with pytest.raises(MlipError, match="states another functional than --functional PBE: PBEsol"):
        evaluate_path(potential, tmp_path / "x.extxyz", functional="PBE")


def test_a_calculator_of_ase_is_evaluated_frame_by_frame_and_has_no_reference_energies():
    silver = emt_frames(1, seed=3, symbols=("Ag",))[0]
    unknown = replace(silver, numbers=np.full(len(silver), 92))
    emt = ForeignPotential.open("ase:ase.calculators.emt:EMT")
    errors = evaluate(emt, labeled([*FRAMES, silver, unknown]))
    row = errors.rows[-1]
    assert row.n_frames == len(FRAMES) + 1
    assert row.energy_mae == pytest.approx(0, abs=1e-9)  # the labels are its own
    assert row.forces_mae == pytest.approx(0, abs=1e-12)
    assert np.isnan(row.energy_mae_e0)
    assert [count for why, count in errors.left_out.items() if "EMT failed" in why] == [1]


def test_the_command_evaluates_a_calculator_of_ase(tmp_path):
    atoms = [Atoms(f.numbers, f.positions, cell=f.cell, pbc=f.pbc) for f in FRAMES[:2]]
    for structure, f in zip(atoms, FRAMES, strict=False):
        structure.calc = SinglePointCalculator(structure, energy=f.energy, forces=f.forces)
    write(tmp_path / "frames.extxyz", atoms)
    app = typer.Typer()
    app.command()(command)
    told = CliRunner().invoke(
        app, ["ase:ase.calculators.emt:EMT", str(tmp_path / "frames.extxyz"), "--functional", "EMT", "--json"]
    )
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["rows"][-1]["energy_mae_e0"] is None
