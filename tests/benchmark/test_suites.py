"""`mlip benchmark suite`: every suite on what it has itself and on data, one page, one row, compared and resumed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import covalent_radii

from mlip.benchmark.suites import NAMES, low_dimensional, pressure
from mlip.benchmark.suites import run as run_module
from mlip.benchmark.suites.crystals import cubic_crystals
from mlip.benchmark.suites.layers import layers
from mlip.benchmark.suites.rows import comparison, kept_rows
from mlip.benchmark.suites.run import run_suites
from mlip.benchmark.suites.suite import Request, suite_called
from mlip.data import Frame, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.relaxation import relax
from mlip.relaxation.named import NamedPotential, open_named
from mlip.units import EV_PER_A3_IN_GPA
from tests import command_line
from tests.relaxation.morse import morse_potential


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """An M3GNet with random parameters that knows few elements."""
    config = M3GNetConfig(units=4, n_blocks=1, max_n=2, max_l=2)
    metadata = PotentialMetadata(reference_energies=dict.fromkeys(("Ac", "Zr", "N", "C"), -1.0), scale=0.1)
    path = tmp_path_factory.mktemp("potential") / "tiny.safetensors"
    return Potential(config, init_parameters(config), metadata).save(path)


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("suites")
    return out, run_suites("all", tiny, out, quick=True, progress=False)


def test_all_suites_give_one_row_one_page_and_leave_nothing_out_in_silence(finished):
    out, run = finished
    row = json.loads((out / "suites.json").read_text())
    assert row == json.loads(json.dumps(run.row))
    assert set(row["suites"]) | set(row["not_run"]) == set(NAMES)
    assert not row["not_run"], row["not_run"]
    assert row["potential"]["name"] == "tiny"
    assert row["date"]
    assert row["versions"]["jax"]
    for name, found in row["suites"].items():
        assert set(found["metrics"]) <= set(suite_called(name).metrics)
        assert sum(found["reasons"].values()) > 0
        assert found["protocol"]["quick"] is True
        assert len(found["left_out"]["of elements that the potential does not know"]) > 0
    page = (out / "report.html").read_text()
    for name in NAMES:
        assert suite_called(name).title in page
    assert "<svg" in page
    assert (out / "suites.md").exists()


def test_a_finished_suite_is_read_and_not_run_again(finished, tiny, monkeypatch):
    out, run = finished

    def never(request: Request):
        raise AssertionError("it ran again")

    monkeypatch.setattr(run_module, "suite_called", lambda name: replace(suite_called(name), run=never))
    again = run_suites("all", tiny, out, quick=True, progress=False)
    assert again.row["suites"] == run.row["suites"]


def test_rows_stand_side_by_side_where_protocols_are_the_same(finished):
    _, run = finished
    other = json.loads(json.dumps(run.row))
    other["potential"]["name"], other["potential"]["sha256"] = "other", "0"
    other["suites"]["eos"]["metrics"]["not_ok"] = 12.5
    other["suites"]["relaxation"]["protocol"]["fmax"] = 1.0
    table = comparison(run.row, [other, run.row], {name: suite_called(name) for name in NAMES})
    assert [column.split(" ")[0] for column in table.columns] == ["", "potential", "tiny", "other"]
    of = {(row[0], row[1]): row[3].value for row in table.rows}
    assert of["Equations of state", "without a curve %"] == 12.5
    assert np.isnan(of["Relaxation of crystals", "failed %"])
    assert of["Dimers", "structures"] > 0


def test_rows_that_the_package_keeps_are_whole():
    for row in kept_rows():
        assert row["mlip_suites"] == 1
        assert row["quick"] is True
        assert set(row["suites"]) | set(row["not_run"]) == set(NAMES)
        assert row["potential"]["sha256"]


def test_the_command_runs_one_suite_and_compares_with_a_given_row(finished, tiny, tmp_path):
    out, _ = finished
    row = json.loads((out / "suites.json").read_text())
    row["potential"] |= {"name": "beside", "sha256": "1"}
    (tmp_path / "beside.json").write_text(json.dumps(row))
    arguments = "benchmark", "suite", "eos", tiny, "--quick", "--out", tmp_path / "out"
    run = command_line.mlip(*arguments, "--compare", tmp_path / "beside.json")
    assert run.returncode == 0, run.stderr
    assert "beside" in run.stdout
    assert "Equations of state" in run.stdout
    as_json = command_line.mlip(*arguments, "--json")
    assert set(json.loads(as_json.stdout)["suites"]) == {"eos"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nothing",), "no suite is called 'nothing'"),
        (("eos", "--data", "absent.h5"), "no such file"),
        (("all", "--compare", "absent.json"), "cannot be read"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(arguments, told, tiny, tmp_path):
    name, *others = arguments
    run = command_line.mlip("benchmark", "suite", name, tiny, "--out", tmp_path, *others)
    assert run.returncode != 0
    assert told in run.stderr


def test_data_that_no_suite_can_use_are_refused(tiny, tmp_path):
    path = tmp_path / "crystals.h5"
    with StoreWriter(path) as writer:
        writer.add(Trajectory("m", [frame_of(bulk("Ac", a=5.6))], "PBE", 3), "test")
    with pytest.raises(MlipError, match="nothing that a suite can use"):
        run_suites("dimers", tiny, tmp_path / "out", data=[path], progress=False)


def test_relaxation_on_a_store_has_the_errors_of_the_relaxation_benchmark(tiny, tmp_path):
    path = tmp_path / "crystals.h5"
    with StoreWriter(path) as writer:
        writer.add(Trajectory("m", [frame_of(bulk("Ac", a=5.6))], "unknown", 3), "test")
    run = run_suites("relaxation", tiny, tmp_path / "out", data=[path], progress=False)
    found = run.row["suites"]["relaxation"]
    records = (tmp_path / "out" / "relaxation" / "crystals" / "results.jsonl").read_text().splitlines()
    record = json.loads(records[1])
    error = 100 * abs(record["volume"] / record["dft_volume"] - 1)
    assert found["metrics"]["volume_mape"] == pytest.approx(error)
    assert found["metrics"]["failed"] == 0


def frame_of(atoms: Atoms, energy: float = -1.0) -> Frame:
    return Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc, energy=energy)


def test_built_crystals_have_the_lattice_constants_that_they_are_named_for():
    crystals = cubic_crystals()
    assert len(crystals) == 91
    for crystal in crystals.values():
        atoms = crystal.atoms()
        assert crystal.lattice_constant(atoms.get_volume()) == pytest.approx(crystal.a)
    assert len(cubic_crystals(10)) == 10


def test_bonds_of_built_layers_are_near_the_sums_of_covalent_radii():
    for name, atoms in layers().items():
        distances = atoms.get_all_distances(mic=True)
        sums = covalent_radii[atoms.numbers][:, None] + covalent_radii[atoms.numbers]
        ratios = (distances / sums)[~np.eye(len(atoms), dtype=bool)]
        assert 0.9 < ratios.min() < 1.05, name
        assert atoms.pbc.all()
        assert np.ptp(atoms.positions[:, 2]) + 14.9 < atoms.cell[2, 2], name


def named(potential) -> NamedPotential:
    return NamedPotential(potential, "morse", {"name": "morse", "sha256": "0"})


@pytest.fixture(scope="module")
def layer_store(tmp_path_factory):
    """A layer and a chain relaxed by the very potential that is judged, and moved off by a known strain."""
    potential = morse_potential()
    sheet = Atoms("Cu", cell=[[2.5, 0, 0], [-1.25, 2.165, 0], [0, 0, 18]], positions=[[0, 0, 9]], pbc=True)
    chain = Atoms("Cu", cell=[2.5, 16, 16], positions=[[0, 8, 8]], pbc=True)
    relaxed = [
        relax([atoms], potential, cell=mask, fmax=1e-5, dtype="float64", progress=False)[0]
        for atoms, mask in ((sheet, np.array([1, 1, 0, 0, 0, 1])), (chain, np.array([1, 0, 0, 0, 0, 0])))
    ]
    path = tmp_path_factory.mktemp("store") / "low.h5"
    with StoreWriter(path) as writer:
        for name, dimensionality, result in (("sheet", 2, relaxed[0]), ("chain", 1, relaxed[1])):
            strained = result.atoms.copy()
            strained.cell[:dimensionality] *= 1.02
            writer.add(Trajectory(name, [frame_of(strained, result.energy)], "unknown", dimensionality), "test")
    return path, relaxed


def test_areas_and_lengths_are_compared_with_the_reference_s(layer_store, tmp_path):
    path, (sheet, chain) = layer_store
    report = low_dimensional.run(Request(named(morse_potential()), tmp_path, False, (path,), False))
    area, length = np.linalg.norm(np.cross(*sheet.atoms.cell.array[:2])), chain.atoms.cell.array[0, 0]
    assert report.metrics["area_mae"] == pytest.approx((1.02**2 - 1) * area, rel=1e-3)
    assert report.metrics["length_mae"] == pytest.approx(0.02 * length, rel=2e-3)
    assert report.metrics["energy_mae_2d"] == pytest.approx(0, abs=1e-6)
    assert report.metrics["converged_2d"] == report.metrics["converged_1d"] == 100
    assert report.reasons == {"converged": 2}
    assert report.protocol["vacuum"] == 100


def test_a_start_is_symmetric_in_100_angstrom_of_vacuum():
    atoms = layers()["MoS2 2H"]
    atoms.positions += 1e-3 * np.random.default_rng(0).normal(size=(3, 3))
    case = low_dimensional._Case("MoS2", atoms, np.array([True, True, False]), np.nan, np.nan)
    start = case.start()
    assert start.cell.lengths()[2] == pytest.approx(100)
    bonds = start.get_distances(0, [1, 2], mic=True)
    assert bonds[0] == pytest.approx(bonds[1], abs=1e-6)


def enthalpy_minimum(potential, pressure: float) -> tuple[float, float]:
    """Volume and enthalpy of fcc Cu by a fine scan of its lattice constant: no gradient is asked."""
    constants = np.linspace(2.5, 4.2, 1701)
    cells = [bulk("Cu", a=a) for a in constants]
    energies = np.array([one["energy"] for one in potential.predict(cells)])
    enthalpies = energies + pressure / EV_PER_A3_IN_GPA * constants**3 / 4
    k = enthalpies.argmin()
    a, b, _ = np.polyfit(constants[k - 3 : k + 4], enthalpies[k - 3 : k + 4], 2)
    least = -b / (2 * a)
    return least**3 / 4, enthalpies[k]


def test_volumes_under_pressure_have_the_least_enthalpy_that_a_scan_finds():
    potential = morse_potential()
    for gpa in (0.0, 50.0, 150.0):
        volume, enthalpy = enthalpy_minimum(potential, gpa)
        (result,) = relax(
            [bulk("Cu")], potential, fmax=1e-5, pressure_gpa=gpa, symmetry=True, dtype="float64", progress=False
        )
        at = pressure._AtPressure(gpa, {"Cu": result})
        assert at.volume("Cu") == pytest.approx(volume, rel=2e-3)
        assert at.enthalpy("Cu") == pytest.approx(enthalpy, abs=1e-3)


def test_files_named_by_pressure_are_starts_and_references(tmp_path):
    potential = morse_potential()
    scanned = {gpa: enthalpy_minimum(potential, gpa) for gpa in (0.0, 50.0)}
    paths = []
    for gpa, (volume, enthalpy) in scanned.items():
        path = tmp_path / f"P{gpa:03.0f}.h5"
        atoms = bulk("Cu", a=(4 * volume) ** (1 / 3))
        with StoreWriter(path) as writer:
            writer.add(Trajectory("agm1", [frame_of(atoms, enthalpy + 0.5)], "unknown", 3), "test")
        paths.append(path)
    report = pressure.run(Request(named(potential), tmp_path, False, tuple(paths), False))
    assert report.metrics["volume_mae"] == pytest.approx(0, abs=0.03)
    assert report.metrics["enthalpy_mae"] == pytest.approx(0.5, abs=2e-3)
    assert report.metrics["converged"] == report.metrics["falling"] == 100
    assert report.protocol["pressures"] == [0.0, 50.0]
    with pytest.raises(MlipError, match="P000"):
        pressure.run(Request(named(potential), tmp_path, False, (paths[1],), False))
    assert pressure.pressure_of(paths[1]) == 50
    assert pressure.pressure_of(tmp_path / "Pt.h5") is None


def test_a_calculator_of_ase_goes_through_the_suites_that_take_one(tmp_path):
    foreign = open_named("ase:ase.calculators.emt:EMT")
    with pytest.raises(MlipError, match="not calculators of ASE"):
        suite_called("dimers").run(Request(foreign, tmp_path, True, (), False))
    report = suite_called("eos").run(Request(foreign, tmp_path, True, (), False))
    assert report.reasons["ok"] >= 3
    assert sum(report.reasons.values()) == 24
