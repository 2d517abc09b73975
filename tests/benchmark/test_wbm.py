"""Matbench Discovery's test: their definitions, the files of a submission as others read them, runs that go on."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.calculators.emt import EMT
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from mlip.benchmark.wbm import judging
from mlip.benchmark.wbm.discovery import discovery_metrics, share_of_stable
from mlip.benchmark.wbm.geometry import SpaceGroup, distance, geometry_metrics, space_group
from mlip.benchmark.wbm.run import TRIAL, run_wbm
from mlip.benchmark.wbm.submission import check_model_key, model_key_of
from mlip.data import Frame, Store
from mlip.data.structures import to_pymatgen
from mlip.data.wbm_files import build_wbm_store
from mlip.errors import MlipError
from mlip.hull.mp2020 import mp2020_correction
from mlip.relaxation import relax
from mlip.relaxation.results_file import read_results
from tests.command_line import mlip

FOREIGN = "ase:ase.calculators.emt:EMT"
LABELS = ("e_form_per_atom_mp2020_corrected", "e_above_hull_mp2020_corrected_ppd_mp", "e_correction_per_atom_mp2020")


def frame(atoms: Atoms, energy: float = np.nan) -> Frame:
    return Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, np.ones(3, bool), energy)


# --- definitions


PUBLISHED = {"TP": 34731, "FP": 41738, "TN": 171133, "FN": 9361}
"""M3GNet on all of WBM, models/m3gnet/m3gnet.yml of janosh/matbench-discovery."""


def test_shares_are_those_that_the_publishers_give_m3gnet():
    e_above_hull = np.repeat([-0.1, 0.1, 0.1, -0.1], [PUBLISHED[name] for name in ("TP", "FP", "TN", "FN")])
    error = np.repeat([0.0, -0.2, 0.0, 0.2], [PUBLISHED[name] for name in ("TP", "FP", "TN", "FN")])
    found = discovery_metrics(e_above_hull, np.zeros(len(error)), error).as_record()
    assert {name: found[name] for name in PUBLISHED} == PUBLISHED
    published = {"F1": 0.576, "DAF": 2.647, "Precision": 0.454, "Recall": 0.788}
    assert {name: found[name] for name in published} == published
    # Their code has changed since: they divided by the predictions that are not missing, of which 355 are.
    n = len(error)
    assert round((found["TP"] + found["TN"]) / (n - 355), 3) == 0.802
    assert found["Accuracy"] == round((found["TP"] + found["TN"]) / n, 3)


def test_a_prediction_that_is_missing_or_absurd_is_one_of_unstable():
    e_above_hull, e_form = np.array([-0.1, -0.1, 0.2, 0.2, 0.0]), np.array([-1.0, -2.0, -0.5, 0.3, 0.0])
    predicted = e_form + np.array([np.nan, -5.1, np.nan, 0.1, 0.0004])
    found = discovery_metrics(e_above_hull, e_form, predicted)
    assert (found.TP, found.FN, found.FP, found.TN, found.missing_preds) == (1, 2, 0, 2, 3)
    assert pytest.approx(0.05) == found.MAE  # of 0.1 and, rounded to meV, 0
    assert pytest.approx(np.sqrt(0.005)) == found.RMSE
    assert pytest.approx(1 - 0.01 / 0.02) == found.R2


def test_precision_of_a_subset_is_over_the_share_of_stable_ones_before_rounding():
    e_above_hull = np.array([-0.1, 0.0004, 0.2, 0.2])  # the second rounds to stable
    share = share_of_stable(e_above_hull, np.ones(4, bool))
    assert share == 0.25
    found = discovery_metrics(e_above_hull, np.zeros(4), np.zeros(4), prevalence=share)
    assert (found.TP, found.Precision, found.DAF) == (2, 1.0, 4.0)


def test_without_hull_distances_there_are_errors_alone():
    found = discovery_metrics(np.full(2, np.nan), np.zeros(2), np.array([0.1, np.nan]))
    assert (found.MAE, found.missing_preds) == (pytest.approx(0.1), 1)
    assert (found.TP, found.FP, found.TN, found.FN) == (0, 0, 0, 0)
    record = found.as_record()
    assert [record[name] for name in ("F1", "DAF", "Precision", "Recall", "Accuracy", "R2")] == [None] * 6


def test_the_distance_is_in_units_of_the_length_an_atom_and_knows_no_cell():
    salt = bulk("NaCl", "rocksalt", a=5.6)
    moved = salt.copy()
    moved.positions[1] += [0.1, 0.0, 0.0]
    length = (salt.get_volume() / 2) ** (1 / 3)
    found = distance(frame(moved), frame(salt))
    assert found.rms == pytest.approx(0.05 / length, rel=1e-6)  # each ion, after the best translation
    turned = make_supercell(salt, [[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    assert distance(frame(turned), frame(salt)).rms == pytest.approx(0, abs=1e-6)
    grown = salt.copy()
    grown.set_cell(1.5 * salt.cell, scale_atoms=True)
    assert distance(frame(grown), frame(salt)) is None  # lengths differ by more than a fifth
    assert distance(frame(bulk("KCl", "rocksalt", a=5.6)), frame(salt)) is None


def test_operations_are_those_of_the_cell_as_it_is():
    assert space_group(frame(bulk("Si")), 1e-2) == SpaceGroup(227, 48)
    assert space_group(frame(bulk("Si", cubic=True)), 1e-5) == SpaceGroup(227, 192)
    shaken = bulk("Si", cubic=True)
    shaken.rattle(5e-4, seed=1)
    assert space_group(frame(shaken), 1e-2).number == 227
    assert space_group(frame(shaken), 1e-5).number == 1


def test_a_change_of_the_space_group_is_a_decrease_an_increase_or_neither():
    nan = np.nan
    found = geometry_metrics(
        rmsd=np.array([0.1, nan, 0.0, 0.3]),
        number_change=np.array([-5, 0, 7, nan]),
        operations_change=np.array([-4, 0, 8, nan]),
    )
    assert found.rmsd == pytest.approx((0.1 + 1 + 0.0 + 0.3) / 4)
    assert (found.symmetry_decrease, found.symmetry_match, found.symmetry_increase) == pytest.approx((1 / 3,) * 3)
    assert (found.n_sym_ops_mae, found.n_structures) == (4, 3)


def test_keys_are_as_the_publishers_take_them():
    assert model_key_of("M3GNet-MP_2021.2.8") == "m3gnet-mp-2021.2.8"
    assert model_key_of("v1._beta..2") == "v1-beta-2"
    check_model_key("m3gnet-mp-2021.2.8")
    with pytest.raises(MlipError, match="small letters and hyphens: my-model"):
        check_model_key("My model")


# --- runs


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """The publishers' three files of a world whose DFT is EMT: metals, an oxide, and a gas that EMT does not know."""
    folder = tmp_path_factory.mktemp("published")
    relaxed = {
        "wbm-1-1": bulk("Cu", cubic=True),
        "wbm-1-2": bulk("AuCu", "cesiumchloride", a=3.2),
        "wbm-1-3": bulk("Xe", "fcc", a=6.2),
        "wbm-1-4": bulk("CuO", "rocksalt", a=4.4),
        "wbm-1-5": bulk("Ni"),
    }
    known = [name for name in relaxed if name != "wbm-1-3"]
    for name, result in zip(
        known, relax([relaxed[name] for name in known], FOREIGN, 1e-4, progress=False), strict=True
    ):
        assert result.converged
        relaxed[name] = result.atoms
    initial, entries, rows = [], [], []
    for k, (name, atoms) in enumerate(relaxed.items()):
        start = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)
        start.set_cell(1.02 * atoms.cell, scale_atoms=True)
        energy = -1.0 if name == "wbm-1-3" else float(EMT().get_potential_energy(atoms))
        initial.append({"material_id": name, "formula_from_cse": "?", "initial_structure": as_dict(start)})
        entry = {"structure": as_dict(atoms), "energy": energy, "correction": 0.0, "parameters": {"run_type": "GGA"}}
        entries.append({"material_id": name, "formula_from_cse": "?", "computed_structure_entry": entry})
        correction = -0.687 / 2 if name == "wbm-1-4" else 0.0
        labels = (-0.1 * k, (-0.02, 0.05, -0.3, 0.2, 0.001)[k], correction)
        rows.append({"material_id": name, **dict(zip(LABELS, labels, strict=True)), "unique_prototype": k != 1})
    entries.reverse()  # the order of one file is not that of the other
    for name, lines in (("init-structs", initial), ("computed-structure-entries", entries)):
        with gzip.open(folder / f"2022-10-19-wbm-{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    with gzip.open(folder / "2023-12-13-wbm-summary.csv.gz", "wt", newline="") as file:
        writer = csv.DictWriter(file, ["material_id", *LABELS, "unique_prototype"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def as_dict(atoms: Atoms) -> dict:
    return AseAtomsAdaptor.get_structure(Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)).as_dict()


@pytest.fixture(scope="module")
def finished(published, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    options = ("--part-size", 2, "--workers", 1, "--fmax", 0.001, "--model-key", "emt-1.0")
    run = mlip("benchmark", "wbm", FOREIGN, published, "--out", out, *options, "--allow-functional-mismatch", "--json")
    assert run.returncode == 0, run.stderr
    return out, json.loads(run.stdout)


def the_only(out: Path, pattern: str) -> Path:
    (found,) = out.glob(pattern)
    return found


def test_publishers_files_become_paths_of_two_structures_with_their_labels(published, tmp_path):
    assert build_wbm_store(published, tmp_path / "wbm.h5") == 5
    with Store(tmp_path / "wbm.h5") as store:
        oxide = next(material for material in store.materials() if material.id == "wbm-1-4")
        initial, relaxed = (store.frame(k) for k in oxide.frames)
        assert np.isnan(initial.energy)
        assert np.abs(np.linalg.det(initial.cell)) == pytest.approx(1.02**3 * np.linalg.det(relaxed.cell))
        assert oxide.properties["correction"] == pytest.approx(-0.687)  # of the cell, which has one oxygen
        assert oxide.properties["unique_prototype"] == 1
        assert relaxed.energy == pytest.approx(EMT().get_potential_energy(as_atoms(relaxed)))


def as_atoms(one: Frame) -> Atoms:
    return Atoms(one.numbers, one.positions, cell=one.cell, pbc=True)


def test_structures_are_lines_of_json_that_pymatgen_reads(finished, published):
    out, _ = finished
    with gzip.open(the_only(out, "*-geo-opt.jsonl.gz"), "rt") as file:
        lines = [json.loads(line) for line in file]
    assert {line["material_id"] for line in lines} == {"wbm-1-1", "wbm-1-2", "wbm-1-4", "wbm-1-5"}
    assert len(lines) == 4
    assert all(list(line) == ["material_id", "structure", "energy", "converged", "n_steps"] for line in lines)
    with gzip.open(the_only(published, "*entries*"), "rt") as file:
        dft = {one["material_id"]: one["computed_structure_entry"] for one in map(json.loads, file)}
    for line in lines:
        structure = Structure.from_dict(line["structure"])
        reference = Structure.from_dict(dft[line["material_id"]]["structure"])
        assert structure.composition == reference.composition
        assert structure.volume == pytest.approx(reference.volume, rel=2e-3)
        assert line["energy"] == pytest.approx(dft[line["material_id"]]["energy"], abs=2e-3)
        assert line["converged"] is True
        assert line["n_steps"] > 0


def test_predictions_are_a_line_a_material_with_corrections_on_both_sides(finished):
    out, _ = finished
    with gzip.open(the_only(out, "*-discovery.csv.gz"), "rt", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["material_id", "e_form_per_atom"]
    found = dict(rows)
    assert found.pop("wbm-1-3") == ""
    # The relaxed structures are DFT's, so their formation energies are, whatever the corrections: -0.1 k.
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {"wbm-1-1": 0.0, "wbm-1-2": -0.1, "wbm-1-4": -0.3, "wbm-1-5": -0.4}, abs=1e-3
    )


def test_the_model_file_has_the_metrics_under_their_names(finished):
    out, answer = finished
    text = (out / "emt-1.0.yml").read_text()
    assert not text.startswith(f"# {TRIAL}")
    model = yaml.safe_load(text)
    assert model["model_key"] == "emt-1.0"
    assert model["hyperparams"]["evaluation"]["max_force"] == 0.001
    geometry, discovery = model["metrics"]["geo_opt"], model["metrics"]["discovery"]
    assert set(geometry) == {"pred_file", "symprec=1e-2", "symprec=1e-5"}
    wanted = {"rmsd", "n_sym_ops_mae", "symmetry_decrease", "symmetry_match", "symmetry_increase", "n_structures"}
    assert set(geometry["symprec=1e-2"]) == wanted
    assert geometry["symprec=1e-2"]["rmsd"] == pytest.approx(0, abs=1e-3)
    assert geometry["symprec=1e-2"]["symmetry_match"] == 1
    assert geometry["symprec=1e-2"]["n_structures"] == 4
    everything = discovery["full_test_set"]
    counts = {"TP": 1, "FN": 1, "FP": 0, "TN": 3}  # the gas is stable, and its prediction is missing
    assert {name: everything[name] for name in counts} == counts
    assert (everything["missing_preds"], everything["MAE"]) == (1, 0.0)
    assert discovery["unique_prototypes"]["TN"] == 2  # one of the unstable ones is no prototype of its own
    named = discovery["pred_file"]
    assert named["name"] == f"models/emt/emt-1.0/{the_only(out, '*-discovery.csv.gz').name}"
    assert named["size"] == the_only(out, "*-discovery.csv.gz").stat().st_size
    assert answer["reasons"] == {"converged": 4, "error": 1}
    assert answer["submitted"] == 4
    assert any("Xe" in message for message in answer["messages"])


def test_the_comparison_has_a_line_a_structure(finished):
    out, _ = finished
    with gzip.open(the_only(out, "*symprec=1e-2*"), "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    copper = next(row for row in rows if row["material_id"] == "wbm-1-1")
    assert (copper["spg_num"], copper["n_sym_ops"], copper["spg_num_diff"]) == ("225", "192", "0")
    assert float(copper["structure_rmsd_vs_dft"]) == pytest.approx(0, abs=1e-3)
    assert len(rows) == 4


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_files(finished, published, tmp_path):
    before, _ = finished
    options = {
        "fmax": 0.001,
        "model_key": "emt-1.0",
        "workers": 1,
        "allow_functional_mismatch": True,
        "progress": False,
    }
    run_wbm(FOREIGN, published, tmp_path, part_size=2, **options)
    header, parts = read_results(tmp_path / "parts.jsonl")
    assert [part["part"] for part in parts] == [0, 1, 2]
    # Killed within the second part, after one of its two relaxations: one line of parts, and of results a half one.
    lines = (tmp_path / "parts.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "parts.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:20])
    results = tmp_path / "parts" / "00001" / "results.jsonl"
    kept = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(b"".join(kept[:2]) + kept[2][:50])
    (tmp_path / "parts" / "00001" / "rows.jsonl.gz").unlink()
    again = run_wbm(FOREIGN, published, tmp_path, part_size=2, **options)
    assert again.n_added == 1
    assert header["part_size"] == 2
    for name in ("*-geo-opt.jsonl.gz", "*-discovery.csv.gz", "*symprec=1e-5*"):
        assert gzip.decompress(the_only(tmp_path, name).read_bytes()) == gzip.decompress(
            the_only(before, name).read_bytes()
        )
    done = run_wbm(FOREIGN, published, tmp_path, part_size=2, **options)
    assert done.n_added == 0
    with pytest.raises(MlipError, match="another fmax"):
        run_wbm(FOREIGN, published, tmp_path, part_size=2, **(options | {"fmax": 0.01}))


def test_parts_make_no_difference_to_the_findings(finished, published, tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "_AT_ONCE", 1)  # five materials are enough for two processes
    before, _ = finished
    options = {"fmax": 0.001, "workers": 2, "allow_functional_mismatch": True, "progress": False}
    run = run_wbm(FOREIGN, published, tmp_path, **options)
    assert len(list((tmp_path / "parts").iterdir())) == 1
    assert run.findings.metrics()["discovery"]["full_test_set"]["missing_preds"] == 1
    predictions = [gzip.decompress(the_only(out, "*-discovery.csv.gz").read_bytes()) for out in (tmp_path, before)]
    assert predictions[0] == predictions[1]


def test_a_store_of_other_files_is_refused(published, tmp_path):
    build_wbm_store(published, tmp_path / "wbm.h5")
    summary = next(published.glob("*summary.csv*"))
    other = tmp_path / "other"
    other.mkdir()
    for path in published.iterdir():
        (other / path.name).write_bytes(path.read_bytes() + (b"\n" if path == summary else b""))
    with pytest.raises(MlipError, match="was made of other files"):
        run_wbm(FOREIGN, other, tmp_path, progress=False)


def test_a_cell_without_a_volume_has_no_space_group():
    frame = Frame(np.array([29], np.int16), np.zeros((1, 3)), np.zeros((3, 3)), np.ones(3, bool))
    assert space_group(frame, 1e-2) is None


def test_no_initial_structures_is_one_line_with_the_way_out(published, tmp_path):
    with Store(store_of_relaxed(published, tmp_path)) as store:
        assert store.n_materials == 5
    run = mlip("benchmark", "wbm", FOREIGN, tmp_path / "relaxed.h5", "--out", tmp_path / "out", "--json")
    assert run.returncode != 0
    assert "having a relaxed structure only" in run.stderr
    assert "--start last" in run.stderr


def test_without_labels_the_model_file_names_no_stability(published, tmp_path):
    store = store_of_relaxed(published, tmp_path)
    options = {"start": "last", "workers": 1, "allow_functional_mismatch": True, "progress": False}
    run = run_wbm(FOREIGN, store, tmp_path / "out", at_most=2, **options)
    assert len(run.findings) == 2
    text = the_only(tmp_path / "out", "*.yml").read_text()
    assert text.startswith(f"# {TRIAL}")
    model = yaml.safe_load(text)
    assert set(model["metrics"]["discovery"]) == {"pred_file"}
    errors = run.findings.columns["energy_error"]
    assert errors[np.isfinite(errors)] == pytest.approx(0, abs=1e-3)
    assert np.isfinite(errors).sum() == run.findings.n_submitted == 1  # the other one is the gas


def store_of_relaxed(published: Path, tmp_path: Path) -> Path:
    """The relaxed structures alone, without labels."""
    from mlip.data import StoreWriter, Trajectory

    build_wbm_store(published, tmp_path / "wbm.h5")
    with Store(tmp_path / "wbm.h5") as store, StoreWriter(tmp_path / "relaxed.h5") as writer:
        for material in store.materials():
            writer.add(Trajectory(material.id, [store.relaxed_frame(material)], "PBE", 3), "test")
    return tmp_path / "relaxed.h5"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: the_only(folder, "*summary*").unlink(), "0 files .*wbm-summary.*wbm-initial brings them"),
        (lambda folder: cut(the_only(folder, "*summary*")), "is not in the summary"),
        (lambda folder: cut(the_only(folder, "*init*")), "has no structure of 1 materials: wbm-1-5"),
        (lambda folder: cut(the_only(folder, "*entries*")), "has no structure of 1 materials: wbm-1-1"),
        (lambda folder: the_only(folder, "*init*").write_bytes(b"{}\n"), "no JSON with material_id and initial"),
    ],
)
def test_files_that_are_not_all_there_are_refused(published, tmp_path, spoil, message):
    for path in published.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    spoil(tmp_path)
    with pytest.raises(MlipError, match=message):
        build_wbm_store(tmp_path, tmp_path / "wbm.h5")
    assert not (tmp_path / "wbm.h5").exists()


def cut(path: Path) -> None:
    """Leave off the last line."""
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:-1])))


def test_corrections_of_wbm_are_the_published_ones(shared):
    """Of the first 60 crystals of the data pack: oxides, fluorides, chalcogenides and others."""
    path = shared / "data" / "hull" / "wbm_random_equilibrium.json.gz"
    records = json.loads(gzip.decompress(path.read_bytes()))[:60]
    stated = np.array([record["corrected_energy"] - record["energy"] for record in records])
    found = [mp2020_correction(frame(of_pack(record), record["energy"])) for record in records]
    assert (np.abs(stated) > 0.1).sum() > 15
    assert found == pytest.approx(stated, abs=1e-4)


def of_pack(record: dict) -> Atoms:
    return Atoms(record["species"], scaled_positions=record["frac_coords"], cell=record["lattice"], pbc=True)


def test_a_frame_and_its_structure_are_one_crystal():
    salt = bulk("NaCl", "rocksalt", a=5.6)
    structure = to_pymatgen(frame(salt))
    assert structure.volume == pytest.approx(salt.get_volume())
    assert [site.specie.symbol for site in structure] == ["Na", "Cl"]
