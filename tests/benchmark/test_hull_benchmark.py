"""Table 5: distances of relaxed energies and of property models, their errors, and the stable materials found."""

import json

import ase.build
import numpy as np
import pytest
from typer.testing import CliRunner

from mlip.benchmark.hull_benchmark import run_hull_benchmark
from mlip.benchmark.hull_table import HullPredictions, hull_errors, hull_table
from mlip.cli.benchmark import app
from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.property_model import PropertyModel
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
        writer.add(Trajectory("unlabeled", [frame], "PBE", 3), "test")
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


def results_with(path, store, records, **of_store):
    header = {"benchmark": "relaxation", "potential": {"name": "p.safetensors", "sha256": "0"}, "store": of_store}
    with ResultsFile(path / "results.jsonl", header) as file:
        for one in records:
            known = {"n_atoms": 2, "dft_energy": -7.0, "volume": 1.0, "dimensionality": 3, "functional": "PBE"}
            file.append(known | one)
    return str(path)


@pytest.fixture
def of_one_id(tmp_path):
    """Two materials of one id, as interleaved sources give them."""
    path = tmp_path / "same.h5"
    with StoreWriter(path) as writer:
        for distance in (0.0, 0.5):
            atoms = ase.build.bulk("NaCl", "rocksalt", a=5.6 + distance)
            frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc, energy=-7.0)
            writer.add(Trajectory("same", [frame], "PBE", 3, {"e_above_hull": distance}), "test")
    with Store(path) as opened:
        return path, opened.content_sha256


def test_materials_of_one_id_have_each_their_own_record(of_one_id, tmp_path):
    store, content = of_one_id
    records = [{"id": "same", "material": 1, "energy": -6.0}, {"id": "same", "material": 0, "energy": -7.0}]
    path = results_with(tmp_path / "results", store, records, name="s.h5", content_sha256=content)
    (found,), _ = run_hull_benchmark(store, [path])
    np.testing.assert_allclose(found.predicted, [0.0, 1.0], atol=1e-12)


def test_without_the_stores_content_an_id_that_occurs_twice_is_refused(of_one_id, tmp_path):
    store, _ = of_one_id
    once = results_with(tmp_path / "once", store, [{"id": "same", "material": 0, "energy": -7.0}])
    with pytest.raises(MlipError, match=r"same\.h5: ids that occur twice: same"):
        run_hull_benchmark(store, [once])


def test_results_of_another_store_are_refused_though_ids_are_the_same(store, results, tmp_path):
    path = results_with(
        tmp_path / "other", store, [{"id": "NaCl", "material": 0, "energy": -7.0}], name="b.h5", content_sha256="x"
    )
    with pytest.raises(MlipError, match=r"results of another store: the content of b\.h5 is not that of .*salts\.h5"):
        run_hull_benchmark(store, [path])
    _, notes = run_hull_benchmark(store, [str(results)])  # early results have no checksum
    assert any("do not tell the store by content" in note for note in notes)


def test_models_of_another_functional_are_refused_unless_allowed(store, tiny_cgat, tmp_path):
    metadata = tiny_cgat.metadata.model_copy(update={"functional": "PBEsol"})
    model = PropertyModel(tiny_cgat.config, tiny_cgat.params, metadata).save(tmp_path / "sol.safetensors")
    record = {"id": "NaCl", "material": 0, "energy": -7.0, "potential_functional": "SCAN"}
    for path, told in (
        (str(model), "sol is of PBEsol, the materials of PBE"),
        (results_with(tmp_path / "r", store, [record]), "p is of SCAN, the materials of PBE"),
    ):
        with pytest.raises(MlipError, match=told):
            run_hull_benchmark(store, [path])
        _, notes = run_hull_benchmark(store, [path], allow_functional_mismatch=True)
        assert any(f"as allowed: {told}" in note for note in notes)


def test_the_table_counts_what_was_averaged(store, results):
    row = hull_table(*run_hull_benchmark(store, [str(results)])).as_records()[0]
    assert (row["materials"], row["of"]) == ("2", "3")


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
