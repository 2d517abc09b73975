"""The relaxation benchmark from store to tables: right numbers, resumed after a kill, never mixed."""

import csv
import json

import jax
import numpy as np
import pytest
import spglib
from ase.build import bulk
from ase.spacegroup import crystal

from mlip.benchmark import relaxation
from mlip.benchmark.error_summary import energy_error, relative_volume_error, summarize
from mlip.benchmark.histograms import KINDS, error_charts, plot_errors
from mlip.benchmark.paper_tables import energy_table, pbesol_table, volume_table
from mlip.benchmark.relaxation import run_relaxation_benchmark
from mlip.benchmark.results import PotentialResults, load_results
from mlip.data import Frame, StoreWriter, Trajectory
from mlip.data.outliers import END_REMOVED
from mlip.errors import MlipError
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.relaxation.results_file import ResultsFile, read_results
from mlip.runtime import jax_facts


def frame(atoms, energy: float) -> Frame:
    return Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc, energy=energy)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Crystals, a layer and a chain in vacuum as ALEXANDRIA keeps them, and an element nobody knows."""
    path = tmp_path_factory.mktemp("store") / "materials.h5"
    layer, chain = bulk("Cu", cubic=True), bulk("Cu", cubic=True)
    layer.cell[2] = [0, 0, 18.0]
    chain.set_cell(np.diag([3.6, 16.0, 16.0]))
    materials = [
        ("agm1", 3, bulk("Cu"), "test"),
        ("agm2", 3, bulk("NaCl", "rocksalt", a=5.6), "test"),
        ("agm3", 3, bulk("Xe", "fcc", a=6.2), "test"),
        ("agm4", 2, layer, "test"),
        ("agm5", 1, chain, "test"),
        ("agm6", 3, bulk("Na"), "train"),
    ]
    with StoreWriter(path) as writer:
        for name, dimensionality, atoms, split in materials:
            path_of_two = [frame(atoms, -1.0), frame(atoms, -3.0 * len(atoms))]
            writer.add(Trajectory(name, path_of_two, "PBE (CHGNet surrogate)", dimensionality), split)
        headless = Trajectory("agm7", [frame(bulk("Na"), -1.0)], "PBE (CHGNet surrogate)", 3, {END_REMOVED: 1.0})
        writer.add(headless, "test")
    return path


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    """A small M3GNet with random parameters that knows Na, Cl, Cu."""
    config = M3GNetConfig(units=8)
    metadata = PotentialMetadata(reference_energies={"Na": -1.0, "Cl": -2.0, "Cu": -3.0}, scale=0.1)
    return Potential(config, init_parameters(config), metadata).save(
        tmp_path_factory.mktemp("potential") / "tiny.safetensors"
    )


@pytest.fixture(scope="module")
def finished(potential, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return out, run_relaxation_benchmark(potential, store, out, steps=5, progress=False)


def test_every_material_of_the_split_has_one_record_with_its_reference(finished):
    out, run = finished
    header, records = read_results(out / "results.jsonl")
    assert header["split"] == "test"
    assert sorted(r["id"] for r in records) == ["agm1", "agm2", "agm3", "agm4", "agm5"]
    by_id = {r["id"]: r for r in records}
    assert by_id["agm1"]["dft_energy"] == -3.0
    assert by_id["agm1"]["dft_volume"] == pytest.approx(bulk("Cu").get_volume())
    assert by_id["agm4"]["dft_volume"] == pytest.approx(3.61**2 * (3.61 / 2 + 3))
    assert by_id["agm3"]["reason"] == "error"
    assert "does not know Xe" in by_id["agm3"]["message"]
    assert by_id["agm3"]["volume"] is None
    assert run.summary()["reasons"]["error"] == 1


def test_a_record_holds_the_structure_it_began_with_and_its_share_of_the_time(finished):
    _, run = finished
    by_id = {r["id"]: r for r in run.records}
    assert np.array(by_id["agm1"]["initial_cell"]) == pytest.approx(bulk("Cu").cell.array, abs=1e-6)
    assert by_id["agm1"]["initial_positions"] == [[0, 0, 0]]
    spent = run.statistics.seconds - run.statistics.compile_seconds
    assert sum(r["seconds"] for r in run.records) == pytest.approx(spent, abs=1e-3)  # to what a record rounds


def test_layers_and_chains_keep_their_vacuum(finished):
    _, run = finished
    by_id = {r["id"]: r for r in run.records}
    assert by_id["agm4"]["cell"][2] == [0, 0, 18.0]
    assert by_id["agm5"]["cell"][1:] == [[0, 16.0, 0], [0, 0, 16.0]]


def test_a_material_whose_relaxed_structure_was_an_outlier_is_left_out_aloud(finished):
    _, run = finished
    assert list(run.left_out.values()) == [["agm7"]]
    assert "agm7" not in {record["id"] for record in run.records}
    assert any("agm7" in line for line in run.describe())


def test_a_second_run_relaxes_nothing_again(finished, potential, store):
    out, run = finished
    before = (out / "results.jsonl").read_bytes()
    again = run_relaxation_benchmark(potential, store, out, steps=5, progress=False)
    assert again.n_added == 0
    assert (out / "results.jsonl").read_bytes() == before
    assert summarize(again.records) == summarize(run.records)


def test_a_run_killed_within_a_line_goes_on_without_loss_or_repetition(finished, potential, store, tmp_path):
    out, run = finished
    content = (out / "results.jsonl").read_bytes()
    lines = content.splitlines(keepends=True)
    (tmp_path / "results.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:50])
    again = run_relaxation_benchmark(potential, store, tmp_path, steps=5, progress=False)
    assert again.n_added == 3
    _, records = read_results(tmp_path / "results.jsonl")
    assert sorted(r["id"] for r in records) == sorted(r["id"] for r in run.records)


def test_from_the_first_frame_the_reference_is_still_the_last(potential, tmp_path):
    strained = bulk("Cu", a=3.8)
    with StoreWriter(tmp_path / "paths.h5") as writer:
        path_of_two = [frame(strained, -1.0), frame(bulk("Cu"), -3.0)]
        writer.add(Trajectory("agm1", path_of_two, "PBEsol", 3), "test")
        writer.add(Trajectory("agm2", [frame(bulk("Cu"), -3.0)], "PBEsol", 3), "test")
    run = run_relaxation_benchmark(
        potential, tmp_path / "paths.h5", tmp_path / "out", start="first", steps=0, progress=False
    )
    (record,) = run.records
    assert record["volume"] == pytest.approx(strained.get_volume())
    assert record["dft_volume"] == pytest.approx(bulk("Cu").get_volume())
    assert run.left_out == {"having a relaxed structure only": ["agm2"]}


def test_the_symmetry_of_the_start_is_kept_where_asked(potential, tmp_path):
    rutile = crystal(["Cu", "Cl"], [(0, 0, 0), (0.3, 0.3, 0)], spacegroup=136, cellpar=[5.2, 5.2, 3.4, 90, 90, 90])
    with StoreWriter(tmp_path / "paths.h5") as writer:
        writer.add(Trajectory("agm1", [frame(rutile, -1.0), frame(rutile, -3.0)], "PBEsol", 3), "test")
    options = {"start": "first", "symmetry": True, "steps": 5, "fmax": 1e-4}
    run = run_relaxation_benchmark(potential, tmp_path / "paths.h5", tmp_path / "out", **options, progress=False)
    (record,) = run.records
    assert run.header["symmetry"] is True
    assert record["n_steps"] > 0
    relaxed = (np.array(record["cell"]), np.array(record["positions"]) @ np.linalg.inv(record["cell"]))
    # exact projections: what is left is the single precision of the steps
    assert spglib.get_spacegroup((*relaxed, record["numbers"]), symprec=1e-5) == "P4_2/mnm (136)"


@pytest.mark.parametrize(
    "changed", [{"fmax": 0.01}, {"split": "all"}, {"dtype": "float64"}, {"start": "first"}, {"symmetry": True}]
)
def test_results_of_another_protocol_are_refused_in_one_line(finished, potential, store, changed):
    out, _ = finished
    with pytest.raises(MlipError, match=f"another {next(iter(changed))}") as error:
        run_relaxation_benchmark(potential, store, out, progress=False, **{"steps": 5, **changed})
    assert "\n" not in str(error.value)


def test_results_of_another_potential_are_refused(finished, potential, store, tmp_path):
    other = Potential.load(potential).with_metadata(shift=0.5).save(tmp_path / "other.safetensors")
    with pytest.raises(MlipError, match="another potential"):
        run_relaxation_benchmark(other, store, finished[0], steps=5, progress=False)


@pytest.mark.parametrize(
    ("option", "value"), [("fmax", 0.0), ("fmax", np.nan), ("fmax", np.inf), ("steps", -1), ("dtype", "float16")]
)
def test_an_option_out_of_range_is_named_and_leaves_the_folder_as_it_was(potential, store, tmp_path, option, value):
    with pytest.raises(MlipError, match=f"^{option}: "):
        run_relaxation_benchmark(potential, store, tmp_path / "out", progress=False, **{option: value})
    assert not (tmp_path / "out").exists()


def test_a_header_without_results_gives_way_to_another_protocol(tmp_path):
    path = tmp_path / "results.jsonl"
    for fmax in (0.1, 0.2):
        with ResultsFile(path, {"fmax": fmax}):
            pass
    with ResultsFile(path, {"fmax": 0.3}) as results:
        results.append({"material": 0})
    assert read_results(path) == ({"mlip_results": 1, "fmax": 0.3, "jax": jax_facts()}, [{"material": 0}])
    with pytest.raises(MlipError, match="another fmax"):
        ResultsFile(path, {"fmax": 0.1})


def test_a_record_that_another_jax_added_says_so(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    with ResultsFile(path, {"fmax": 0.3}) as results:
        results.append({"material": 0})
    monkeypatch.setattr("mlip.relaxation.results_file.jax_facts", lambda: {"jax": "0.0.1"})
    with ResultsFile(path, {"fmax": 0.3}) as results:
        results.append({"material": 1})
    header, records = read_results(path)
    assert header["jax"]["jax"] == jax.__version__
    assert records == [{"material": 0}, {"material": 1, "jax": {"jax": "0.0.1"}}]


def test_results_of_a_store_of_the_same_shape_with_other_energies_are_refused(potential, tmp_path):
    (tmp_path / "other").mkdir()
    for path, energy in ((tmp_path / "a.h5", -1.0), (tmp_path / "other" / "a.h5", -2.0)):
        with StoreWriter(path) as writer:
            writer.add(Trajectory("agm1", [frame(bulk("Xe"), energy)], "PBE", 3), "test")  # fails without compiling
    run_relaxation_benchmark(potential, tmp_path / "a.h5", tmp_path / "out", progress=False)
    with pytest.raises(MlipError, match="another store"):
        run_relaxation_benchmark(potential, tmp_path / "other" / "a.h5", tmp_path / "out", progress=False)


def test_a_file_of_something_else_is_not_appended_to(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"id": 1}\n')
    with pytest.raises(MlipError, match="no results file of mlip"):
        ResultsFile(path, {})
    path.write_text("not json\n")
    with pytest.raises(MlipError, match=r"results\.jsonl:1: is no JSON"):
        read_results(path)


def test_splits_that_do_not_exist_or_are_empty_are_refused(potential, store, tmp_path):
    with pytest.raises(MlipError, match="unknown split 'holdout'"):
        run_relaxation_benchmark(potential, store, tmp_path, split="holdout")
    with pytest.raises(MlipError, match="unknown start 'middle'"):
        run_relaxation_benchmark(potential, store, tmp_path, start="middle")
    with pytest.raises(MlipError, match="no materials in split 'val'"):
        run_relaxation_benchmark(potential, store, tmp_path, split="val")


def test_tables_have_a_row_for_each_dimensionality_and_say_surrogate(finished, tmp_path):
    _, run = finished
    volume, energy = volume_table([run.results]), energy_table([run.results])
    for table in (volume, energy):
        assert "surrogate" in table.title
        assert "DFT" not in table.title
        assert [row[0] for row in table.rows] == ["3D", "2D", "1D"]
        assert {len(row) for row in table.rows} == {len(table.columns)}
        table.save(tmp_path)
        assert "surrogate" in (tmp_path / f"{table.name}.md").read_text()
        assert r"\begin{tabular}" in (tmp_path / f"{table.name}.tex").read_text()
        rows = list(csv.reader((tmp_path / f"{table.name}.csv").open()))
        assert set(table.columns) <= set(rows[0])
        assert {len(row) for row in rows} == {len(rows[0])}
    first = dict(zip(volume.columns, volume.rows[0], strict=True))
    assert (first["materials"], first["of"], first["Failed %"].text) == ("2", "3", "33.33")
    assert "1 error" in first["not converged"]


def test_tables_say_what_an_outlier_is(finished):
    _, run = finished
    assert "|dV| > 100 %" in volume_table([run.results]).notes[0]
    for table in (energy_table([run.results]), pbesol_table([run.results])):
        assert any("|dE| > 1.5 eV/atom" in note for note in table.notes)


def test_the_papers_signed_error_keeps_its_sign_and_the_title_says_so(finished):
    _, run = finished
    ours, beside = energy_table([run.results]), energy_table([run.results], with_paper=True)
    assert "potential minus reference" in ours.title
    assert "paper" not in ours.title
    assert "ME of (paper): DFT minus potential" in beside.title
    rows = {row["potential"]: row for row in beside.as_records() if row[""] == "3D"}
    assert rows["M3GNet (paper)"]["ME eV/atom"] == "0.10"


def test_every_relaxed_material_is_in_a_bin_and_those_beyond_the_scale_are_counted(finished):
    _, run = finished
    one = next(r for r in run.records if r["id"] == "agm1") | {"n_atoms": 1, "dft_energy": 0.0}
    errors = [*np.linspace(-0.1, 0.1, 300), 9.0, -7.0, 7.0]
    records = [one | {"energy": float(error)} for error in errors] + [one | {"volume": None}]
    results = PotentialResults("p", "a", run.results.headers, records)
    ((energies,),) = (chart.series for chart in KINDS[1].charts([results]))
    shares = energies.y
    assert energies.name == "p (303; 1 below, 2 above)"
    assert shares.sum() == pytest.approx(100)
    assert (shares[0], shares[-1]) == (pytest.approx(100 / 303), pytest.approx(200 / 303))
    assert "outermost bins: all beyond ±0.1" in error_charts([results])


def test_references_of_another_functional_are_refused_unless_allowed_and_then_told(potential, store, tmp_path):
    of_pbe = Potential.load(potential)
    of_pbe = Potential(of_pbe.config, of_pbe.params, of_pbe.metadata.model_copy(update={"functional": "PBE"}))
    path = of_pbe.save(tmp_path / "pbe.safetensors")
    with pytest.raises(MlipError, match=r"the potential is of PBE, the references of PBE .CHGNet surrogate."):
        run_relaxation_benchmark(path, store, tmp_path / "out", steps=0, progress=False)
    assert not (tmp_path / "out").exists()
    options = {"steps": 0, "allow_functional_mismatch": True, "progress": False}
    run = run_relaxation_benchmark(path, store, tmp_path / "out", **options)
    assert "as allowed" in run.summary()["functional_note"]
    read_again = load_results([str(tmp_path / "out")])
    for table in (volume_table(read_again), energy_table(read_again), pbesol_table(read_again)):
        assert any("Functionals differ, as allowed" in note for note in table.notes)


def test_a_potential_that_does_not_say_its_functional_is_noted(finished):
    _, run = finished
    assert "not compared" in run.summary()["functional_note"]


def test_histograms_are_drawn_for_what_there_is(finished, tmp_path):
    _, run = finished
    for path in plot_errors([run.results], tmp_path):
        assert path.stat().st_size > 5_000
    failed = next(r for r in run.records if r["id"] == "agm3")
    assert np.isnan(relative_volume_error(failed))
    assert np.isnan(energy_error(failed))


def test_histograms_say_that_too_high_an_energy_is_to_the_right(finished):
    _, run = finished
    too_high = next(r for r in run.records if r["id"] == "agm1") | {"energy": -1.0, "dft_energy": -3.0, "n_atoms": 1}
    assert energy_error(too_high) == 2.0
    assert error_charts([run.results]).count("(potential - reference)</text>") == 2 * len(
        {record["dimensionality"] for record in run.records}
    )


def test_records_are_json_without_nan(finished):
    for line in (finished[0] / "results.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_the_steps_and_force_calls_of_the_run_are_told(finished):
    _, run = finished
    summary = run.summary()
    assert summary["force_calls"] == sum(r["n_steps"] + 1 for r in run.records if r["reason"] != "error")
    assert 1 <= summary["compiled_shapes"] <= 2
    assert any("force calls" in line for line in run.describe())


def test_the_splits_offered_are_those_of_the_store():
    from mlip.data.schema import SPLITS

    assert set(relaxation.SPLITS) == {*SPLITS, "all"}


EMT_NAME = "ase:ase.calculators.emt:EMT"


@pytest.fixture(scope="module")
def by_emt(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("emt")
    return out, run_relaxation_benchmark(EMT_NAME, store, out, steps=3, progress=False)


def test_any_calculator_of_ase_is_benchmarked_by_the_same_protocol(by_emt, finished):
    out, _ = by_emt
    header, records = read_results(out / "results.jsonl")
    _, others = finished
    assert (header["potential"]["name"], header["potential"]["ase"]) == ("EMT", EMT_NAME)
    assert header["potential"]["package"].startswith("ase ")
    assert header["dtype"] == "the calculator's"
    of_emt, of_ours = ({r["id"]: r for r in those} for those in (records, others.records))
    assert of_emt.keys() == of_ours.keys()
    for name in ("agm1", "agm4", "agm5"):
        assert of_emt[name].keys() == of_ours[name].keys()
        assert of_emt[name]["initial_positions"] == of_ours[name]["initial_positions"]
        assert of_emt[name]["dft_volume"] == of_ours[name]["dft_volume"]
    assert of_emt["agm4"]["cell"][2] == [0, 0, 18.0]
    assert "EMT failed" in of_emt["agm3"]["message"]  # of xenon it knows nothing
    assert {r["potential_functional"] for r in records} == {"unknown"}


def test_the_cost_says_that_a_calculator_goes_one_by_one(by_emt):
    _, run = by_emt
    assert any(f"one by one, as {EMT_NAME} takes no batches" in line for line in run.describe())


def test_a_row_of_a_table_has_the_calculators_name_and_that_precisions_differ(by_emt, finished):
    loaded = load_results([str(out) for out, _ in (finished, by_emt)])
    table = volume_table(loaded)
    assert {row[1] for row in table.rows} == {"tiny", "EMT"}
    assert any("dtype: float32 for tiny, the calculator's for EMT" in note for note in table.notes)


def test_a_calculators_run_goes_on_and_is_not_mixed_with_another(by_emt, store, tmp_path):
    content = (by_emt[0] / "results.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "results.jsonl").write_bytes(b"".join(content[:3]) + content[3][:40])
    again = run_relaxation_benchmark(EMT_NAME, store, tmp_path, steps=3, progress=False)
    assert again.n_added == 3
    with pytest.raises(MlipError, match="holds results of another potential"):
        run_relaxation_benchmark(f"{EMT_NAME}?asap_cutoff=true", store, tmp_path, steps=3, progress=False)


def test_a_registered_potential_of_another_code_is_run_by_its_publishers_calculator(store, tmp_path):
    """Its package is not installed here: the line says which calculator was meant."""
    with pytest.raises(MlipError, match=r"ase:chgnet\S+CHGNetCalculator.*cannot be imported"):
        run_relaxation_benchmark("chgnet-0.3.0", store, tmp_path, progress=False)


def test_a_precision_is_not_asked_of_a_calculator(store, tmp_path):
    with pytest.raises(MlipError, match="has its own precision"):
        run_relaxation_benchmark(EMT_NAME, store, tmp_path, dtype="float64", progress=False)
