"""Errors stand beside those of predictors that know nothing, and nothing is left out in silence."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from emt_world import emt_frames
from typer.testing import CliRunner

from mlip.cli import evaluate as command
from mlip.data import Frame, Store
from mlip.data.records import Frame as Record
from mlip.errors import MlipError
from mlip.models import parse_config
from mlip.potential import Potential, PotentialMetadata, init_params
from mlip.training.evaluation import LabelledFrame, evaluate, evaluate_path, store_frames
from mlip.units import EV_PER_A3_IN_GPA

E0 = {"Cu": -3.0, "Al": -2.0, "Ni": -1.0}


@pytest.fixture(scope="module")
def potential() -> Potential:
    """Random parameters; it does not know silver."""
    config = parse_config({"model": "m3gnet", "cutoff": 3.6, "three_body_cutoff": 3.2, "units": 4, "n_blocks": 1})
    return Potential(config, init_params(config), PotentialMetadata(reference_energies=E0, scale=0.1))


def known_frames(n: int) -> list[Frame]:
    return emt_frames(n, seed=11, symbols=tuple(E0))


def test_trivial_predictors_are_the_means_of_the_labels(potential):
    frames = known_frames(5)
    row = evaluate(potential, [LabelledFrame(frame, 3, "EMT surrogate") for frame in frames]).rows[0]
    energies = [(f.energy - sum(E0[s] for s in Atoms(numbers=f.numbers).symbols)) / len(f) for f in frames]
    assert row.energy_mae_e0 == pytest.approx(1000 * np.mean(np.abs(energies)))
    assert row.forces_mae_zero == pytest.approx(np.mean([np.abs(f.forces).mean() for f in frames]))
    stress = [np.abs(f.stress).mean() * EV_PER_A3_IN_GPA for f in frames]
    assert row.stress_mae_zero == pytest.approx(np.mean(stress))


def test_errors_are_those_of_predict(potential):
    frames = known_frames(5)
    row = evaluate(potential, [LabelledFrame(frame, 3, "EMT") for frame in frames]).rows[0]
    predictions = potential.predict(frames)
    errors = [(p["energy"] - f.energy) / len(f) for p, f in zip(predictions, frames, strict=True)]
    assert row.energy_mae == pytest.approx(1000 * np.mean(np.abs(errors)))
    assert row.energy_rmse == pytest.approx(1000 * np.sqrt(np.mean(np.square(errors))))
    assert row.forces_mae == pytest.approx(
        np.mean([np.abs(p["forces"] - f.forces).mean() for p, f in zip(predictions, frames, strict=True)])
    )


def test_each_dimensionality_has_a_row_and_all_together_have_one(potential):
    frames = known_frames(6)
    rows = evaluate(potential, [LabelledFrame(f, 1 + i % 3, "EMT") for i, f in enumerate(frames)]).rows
    assert [(row.dimensionality, row.n_frames) for row in rows] == [("1D", 2), ("2D", 2), ("3D", 2), ("all", 6)]


def test_missing_labels_are_nan_in_the_table_and_null_in_json(potential):
    frame = known_frames(1)[0]
    bare = Record(frame.numbers, frame.positions, frame.cell, frame.pbc, frame.energy)
    errors = evaluate(potential, [LabelledFrame(bare, 3, "EMT")])
    assert np.isnan(errors.rows[0].forces_mae)
    assert errors.as_json()["rows"][0]["forces_mae"] is None
    json.dumps(errors.as_json(), allow_nan=False)


def test_unknown_elements_are_left_out_and_counted(potential, emt_store):
    with Store(emt_store) as store:
        errors = evaluate(potential, store_frames(store, None))
        n_frames = len(store)
    assert errors.left_out == {"the potential does not know Ag": n_frames - errors.rows[-1].n_frames}
    assert errors.is_surrogate


def test_nothing_left_to_compare_is_an_error(potential):
    silver = emt_frames(2, seed=1, symbols=("Ag",))
    with pytest.raises(MlipError, match="no labelled frame"):
        evaluate(potential, [LabelledFrame(frame, 3, "EMT") for frame in silver])


@pytest.fixture
def extxyz(tmp_path):
    images = []
    for frame in known_frames(4):
        atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
        atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces, stress=frame.stress)
        images.append(atoms)
    path = tmp_path / "frames_surrogate.extxyz"
    write(path, images)
    return path


def test_a_file_of_frames_gives_the_same_errors_as_the_frames(potential, extxyz):
    found = evaluate_path(potential, extxyz).rows[-1]
    expected = evaluate(potential, [LabelledFrame(frame, 3, "EMT") for frame in known_frames(4)]).rows[-1]
    assert found.energy_mae == pytest.approx(expected.energy_mae, rel=1e-3)  # the file has 8 decimals
    assert found.forces_mae == pytest.approx(expected.forces_mae, rel=1e-3)


def test_a_file_has_no_splits(potential, extxyz):
    with pytest.raises(MlipError, match="only a store has splits"):
        evaluate_path(potential, extxyz, split="test")


def test_the_command_prints_json_that_a_script_can_read(potential, extxyz, tmp_path):
    import typer

    app = typer.Typer()
    app.command()(command.evaluate)
    path = potential.save(tmp_path / "potential.safetensors")
    result = CliRunner().invoke(app, [str(path), str(extxyz), "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["rows"][-1]["n_frames"] == 4
    table = CliRunner().invoke(app, [str(path), str(extxyz)], catch_exceptions=False).stdout
    assert "E0 only" in table
