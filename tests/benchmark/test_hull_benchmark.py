"""Table 5: distances of relaxed energies and of property models, their errors, and the stable materials found."""

import json

import ase.build
import numpy as np
import pytest
from typer.testing import CliRunner

from mlip.benchmark.hull_benchmark import run_hull_benchmark
from mlip.benchmark.hull_table import HullPredictions, hull_errors, hull_table
from mlip.cli.benchmark import app
from mlip.data import Frame, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.relaxation.results_file import ResultsFile

SALTS = {"NaCl": ("rocksalt", 5.6, 0.0), "KCl": ("rocksalt", 6.3, 0.02), "KBr": ("cesiumchloride", 4.0, 0.3)}
"""Structure, lattice constant and distance to the hull, eV/atom."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("hull") / "salts.h5"
    with StoreWriter(path) as writer:
        for name, (structure, a, distance) in SALTS.items():
            atoms = ase.build.bulk(name, structure, a=a)
            frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc, energy=-7.0)
            writer.add(Trajectory(name, [frame], "PBE", 3, {"e_above_hull": distance, "e_form": -1.0}), "test")
        frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc, energy=-7.0)
        writer.add(Trajectory("unlabelled", [frame], "PBE", 3), "test")
    return path


@pytest.fixture(scope="module")
def results(store):
    """Relaxed energies: exact, 0.04 eV/atom too low, failed."""
    folder = store.parent / "results"
    header = {"benchmark": "relaxation", "potential": {"name": "p.safetensors", "sha256": "0"}, "store": {}}
    with ResultsFile(folder / "results.jsonl", header) as file:
        for name, energy, volume in (("NaCl", -7.0, 1.0), ("KCl", -7.08, 1.0), ("KBr", None, None)):
            record = {"id": name, "n_atoms": 2, "dft_energy": -7.0, "energy": energy, "volume": volume, "seconds": 0.5}
            file.append(record | {"dimensionality": 3, "functional": "PBE"})
    return folder


def test_a_relaxed_energy_is_as_far_above_the_hull_as_above_dfts(store, results):
    (found,), notes = run_hull_benchmark(store, [f"ours={results}"])
    assert found.name == "ours"
    np.testing.assert_allclose(found.reference, [0.0, 0.02, 0.3], atol=1e-12)
    np.testing.assert_allclose(found.predicted, [0.0, -0.02, np.nan], atol=1e-12)
    assert found.seconds == pytest.approx(0.5)
    assert any("1 of 4 materials have no known distance" in note for note in notes)


def test_precision_and_recall_count_failures_as_not_stable(store, results):
    (found,), _ = run_hull_benchmark(store, [str(results)])
    errors = hull_errors(found.predicted, found.reference, np.ones(3))
    assert errors.failed_percent == pytest.approx(100 / 3)
    assert (errors.mad, errors.mae) == (pytest.approx(0.02), pytest.approx(0.02))
    assert (errors.precision_stable, errors.recall_stable) == (0.5, 1.0)  # KCl, too low, is said to be stable
    assert errors.f1_stable == pytest.approx(2 / 3)
    assert (errors.precision_near, errors.recall_near) == (1.0, 1.0)


def test_a_property_model_is_judged_without_relaxation(store, tiny_cgat, tmp_path):
    path = tiny_cgat.save(tmp_path / "cgat.safetensors")
    (found,), _ = run_hull_benchmark(store, [str(path)])
    np.testing.assert_allclose(found.predicted, tiny_cgat.predict([crystal(name) for name in SALTS]), atol=1e-6)
    assert found.seconds > 0


def crystal(name):
    structure, a, _ = SALTS[name]
    return ase.build.bulk(name, structure, a=a)


def test_references_make_a_hull_of_their_own(store, results, tmp_path):
    path = tmp_path / "references.json"
    records = [{"composition": {"Na": 1, "Cl": 1}, "e_form": -1.1}, {"composition": {"K": 1, "Cl": 1}, "e_form": -0.9}]
    path.write_text(json.dumps(records))
    (found,), _ = run_hull_benchmark(store, [str(results)], references=[path])
    np.testing.assert_allclose(found.reference, [0.1, -0.1, -1.0], atol=1e-12)  # KBr: among elements at 0


def test_the_table_has_the_papers_rows_beside(store, results):
    table = hull_table(*run_hull_benchmark(store, [str(results)]), with_paper=True)
    rows = {row["potential"]: row for row in table.as_records()}
    assert rows["CGAT (paper)"]["MAE eV/atom"] == "0.060"
    assert rows["p"]["P stable"]["value"] == 0.5


def test_nothing_stable_leaves_no_precision():
    table = hull_table([HullPredictions("p", np.array([0.2, 0.3]), np.array([0.2, 0.1]), 0.1)])
    assert table.as_records()[0]["P stable"] is None


@pytest.mark.parametrize(
    ("models", "options", "fault"),
    [
        (["nowhere"], {}, "no such results file"),
        (["nowhere.safetensors"], {}, "no such"),
        ([], {"split": "train"}, "no materials in split 'train'"),
    ],
)
def test_mistakes_are_one_line(store, models, options, fault):
    with pytest.raises(MlipError, match=fault):
        run_hull_benchmark(store, models, **options)


def test_the_command_prints_the_table_as_json(store, results):
    answer = CliRunner().invoke(app, ["hull", str(store), f"ours={results}", "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)[0]["potential"] == "ours"
