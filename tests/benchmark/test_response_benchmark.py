"""`mlip benchmark elasticity` and `phonons`: errors against labels, failures counted, runs that go on."""

import gzip
import json

import numpy as np
import pytest
from ase.build import bulk

from mlip.benchmark.labeled_materials import read_labeled
from mlip.benchmark.response_benchmark import SUITES, response_errors, run_response_benchmark
from mlip.data import Frame, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.relaxation.results_file import read_results
from tests.command_line import mlip

EMT = "ase:ase.calculators.emt:EMT"
NAMES = {"bulk_modulus": ("bulk_modulus_vrh", "bulk_modulus")}
METALS = {"Cu": (3.6, 140.0, 50.0), "Al": (4.0, 40.0, 20.0), "Xe": (6.0, 1.0, 1.0)}


@pytest.fixture
def labeled(tmp_path):
    """Two metals that EMT knows and a crystal that it does not, in matcalc's form."""
    records = [
        {
            "mp_id": f"mp-{k}",
            "lattice": bulk(symbol, "fcc", a=a).cell.tolist(),
            "species": [symbol],
            "frac_coords": [[0, 0, 0]],
            "bulk_modulus_vrh": bulk_modulus,
            "shear_modulus_vrh": shear_modulus,
            "heat_capacity_300K": 24.0,
        }
        for k, (symbol, (a, bulk_modulus, shear_modulus)) in enumerate(METALS.items())
    ]
    path = tmp_path / "metals.json.gz"
    path.write_bytes(gzip.compress(json.dumps([*records, {**records[0], "bulk_modulus_vrh": None}]).encode()))
    return path


def test_errors_are_of_what_is_there_and_the_rest_is_counted(labeled, tmp_path):
    out = tmp_path / "out"
    run = mlip("benchmark", "elasticity", EMT, labeled, "--out", out, "--json", "--allow-functional-mismatch")
    assert run.returncode == 0, run.stderr
    (row,) = json.loads(run.stdout)
    _, records = read_results(out / "results.jsonl")
    assert [record["reason"] for record in records] == ["ok", "ok", "error", "ok"]
    assert records[2]["predicted"] == {"bulk_modulus": None, "shear_modulus": None}
    expected = np.mean([abs(records[k]["bulk_hill"] - label) for k, label in ((0, 140.0), (1, 40.0))])
    assert row["K: MAE GPa"]["value"] == pytest.approx(expected)
    assert (row["materials"], row["failed"], row["unstable"], row["ok"]) == ("4", "1", "0", "3")
    before = (out / "results.jsonl").read_bytes()
    again = run_response_benchmark("elasticity", EMT, labeled, out, allow_functional_mismatch=True, progress=False)
    assert (out / "results.jsonl").read_bytes() == before
    assert len(again.records) == 4
    ours, *published = again.table(with_paper=True).as_records()
    assert ours["K: MAE GPa"]["value"] == pytest.approx(expected)
    of_m3gnet = next(one for one in published if one["potential"] == "M3GNet, MPF (MatPES)")
    assert (of_m3gnet["K: MAE of all"], of_m3gnet["G: MAE of all"]) == ("21.36", "40.97")
    with pytest.raises(MlipError, match="another response"):
        run_response_benchmark("elasticity", EMT, labeled, out, fmax=0.1, progress=False)


def test_heat_capacities_are_compared(labeled, tmp_path):
    pytest.importorskip("phonopy", reason="needs phonopy: pip install 'alexandria-mlip[phonons]'")
    out = tmp_path / "out"
    run = mlip("benchmark", "phonons", EMT, labeled, "--out", out, "--min-length", 6, "--at-most", 2, "--json")
    assert run.returncode == 0, run.stderr
    (row,) = json.loads(run.stdout)
    _, records = read_results(out / "results.jsonl")
    assert [record["material"] for record in records] == [0, 3]
    assert row["Cv: MAE J/K/mol"]["value"] == pytest.approx(abs(records[0]["heat_capacity_300K"] - 24.0))
    assert "bands" not in records[0]


def test_labels_of_a_store_count_like_those_of_a_file(labeled, tmp_path):
    path = tmp_path / "metals.h5"
    with StoreWriter(path) as store:
        for symbol, (a, bulk_modulus, _) in METALS.items():
            atoms = bulk(symbol, "fcc", a=a)
            frame = Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, -1.0)
            store.add(Trajectory(symbol, (frame,), "PBE", 3, {"bulk_modulus": bulk_modulus}), "test")
    found = read_labeled(path, NAMES)
    assert {one.id: one.labels["bulk_modulus"] for one in found} == {"Cu": 140.0, "Al": 40.0, "Xe": 1.0}
    assert {one.functional for one in found} == {"PBE"}
    of_file = read_labeled(labeled, NAMES)
    assert [one.labels["bulk_modulus"] for one in of_file] == [140.0, 40.0, 1.0]
    np.testing.assert_allclose(of_file[0].atoms.cell.array, found[0].atoms.cell.array)


def test_the_real_files_are_read(shared):
    names = {key: quantity.names for key, quantity in SUITES["elasticity"].quantities.items()}
    elastic = read_labeled(shared / "data/properties/mp_binary_elasticity.json.gz", names)
    assert len(elastic) == 3940
    assert (elastic[0].id, elastic[0].labels["bulk_modulus"]) == ("mp-975512", 53.357)
    names = {key: quantity.names for key, quantity in SUITES["phonons"].quantities.items()}
    assert len(read_labeled(shared / "data/properties/alexandria_binary_phonon_cv.json.gz", names)) == 1170


@pytest.mark.parametrize("content", [b"{", b'{"a": 1}', b'[{"species": ["Cu"]}]', b"[]"])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(MlipError, match=r"other\.json"):
        read_labeled(path, NAMES)


def test_averages_of_errors():
    found = response_errors(np.array([3.0, 1.0]), np.array([1.0, 2.0]), np.ones(2))
    assert (found.mae, found.bias, found.median, found.n) == (1.5, 0.5, 1.5, 2)
    assert np.isnan(response_errors(np.zeros(0), np.zeros(0), np.zeros(0)).mae)
