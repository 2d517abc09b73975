"""ALEXANDRIA's layouts: real-layout files, and each kind of dirt that its files hold."""

import bz2
import json
from pathlib import Path

import numpy as np
import pytest

from mlip.data import Entry, Skipped, Trajectory
from mlip.data.readers import alexandria
from mlip.data.readers.naming import dimensionality_by_name, functional_by_name
from mlip.data.readers.pymatgen_json import NO_ENERGY, NO_FORCES
from mlip.errors import MlipError

NAN = float("nan")


@pytest.fixture(scope="module")
def fixtures(shared):
    return shared / "data" / "alexandria"


def only(path, **options):
    """The one item of a file."""
    (item,) = alexandria.read(path, functional="PBE", **options)
    return item


def test_entries_carry_structure_labels_and_scalar_properties(fixtures):
    entries = list(alexandria.read(fixtures / "fixture_entries_pbe.json.bz2"))
    assert len(entries) == 98
    assert all(isinstance(entry, Entry) and entry.functional == "PBE" for entry in entries)
    first = entries[0]
    assert (first.material_id, first.dimensionality, first.frame.energy) == ("agm005268319", 3, -12.32530943)
    assert first.frame.numbers.tolist() == [89, 89, 89]
    assert first.properties["dos_ef"] == 5.0205603
    assert first.properties["spg"] == 166
    assert first.properties["volume"] == pytest.approx(135.1756885)
    assert "band_gap_dir" not in first.properties  # null in the file
    assert first.frame.stress is None  # NaN in the file
    assert first.frame.forces.shape == (3, 3)
    assert first.frame.magmoms.shape == (3,)


def test_an_entry_keeps_its_correction_and_its_run_type(structure):
    bare = {"structure": json.loads(structure.to_json()), "energy": -27.0, "data": {}}
    corrected = bare | {"correction": -1.5, "parameters": {"run_type": "GGA+U"}}
    entry = alexandria.entry_from_dict(corrected, "PBE", 3)
    assert entry.frame.energy == -27.0
    assert (entry.properties["correction"], entry.properties["run_type"]) == (-1.5, "GGA+U")
    assert not {"correction", "run_type"} & set(alexandria.entry_from_dict(bare, "PBE", 3).properties)


def test_a_fault_after_a_stress_of_nan_is_told_at_its_place(write_paths, structure):
    stress = [[NAN] * 3] * 3
    entry = {"energy": -7.0, "data": {"mat_id": "agm1", "stress": stress}, "structure": structure.as_dict(), "end": "x"}
    path = write_paths({"entries": [entry]}, "pbe_0000.json")
    text = path.read_text()
    assert text.count("NaN") == 9
    fault = text.index('"x"')
    path.write_text(text.replace('"x"', ","))
    with pytest.raises(MlipError, match=f"at byte {fault:,}"):
        list(alexandria.read(path))


def test_paths_are_read_as_the_frames_they_were_made_from(fixtures):
    items = list(alexandria.read(fixtures / "fixture_geo_opt_paths_pbe.json.bz2"))
    paths = {item.material_id: item for item in items if isinstance(item, Trajectory)}
    assert len(paths) == 9
    path = paths["fix_Si8"]
    assert [frame.ionic_step for frame in path.frames] == list(range(19))
    assert path.frames[0].energy == -42.91113348
    assert path.functional == "PBE"
    with bz2.open(fixtures / "fixture_geo_opt_paths_pbe.json.bz2", "rt") as stream:
        step = json.load(stream)["fix_Si8"][0]["steps"][0]
    xyz = [site["xyz"] for site in step["structure"]["sites"]]
    np.testing.assert_allclose(path.frames[0].positions, xyz, atol=1e-6)
    # kB, compression positive -> eV/A^3, tension positive
    np.testing.assert_allclose(path.frames[0].stress[0], -0.1 * step["stress"][0][0] / 160.21766208, rtol=1e-12)
    np.testing.assert_allclose(path.frames[0].stress[3], -0.1 * step["stress"][1][2] / 160.21766208, atol=1e-12)


def test_the_real_step_with_a_ragged_force_row_is_skipped_by_id(fixtures):
    items = list(alexandria.read(fixtures / "fixture_geo_opt_paths_pbe.json.bz2"))
    (skipped,) = [item for item in items if isinstance(item, Skipped)]
    assert (skipped.material_id, skipped.reason) == ("agm005676148", "no usable step")
    assert "without usable forces" in skipped.detail


def test_a_restart_that_repeats_the_last_geometry_is_counted_once(fixtures):
    paths = {p.material_id: p for p in alexandria.read(fixtures / "fixture_geo_opt_paths_pbe.json.bz2")}
    path = paths["fix_As2SO6"]  # runs of 17 and 20 steps
    assert len(path.frames) == 36
    assert path.dropped == {alexandria.RESTART: 1}
    assert path.n_read == 37
    # The restart's own energy is kept: its basis was made for that cell.
    at_restart = next(frame for frame in path.frames if frame.calculation == 1)
    assert at_restart.ionic_step == 0
    assert max(f.ionic_step for f in path.frames if f.calculation == 0) == 15


def test_pbesol_and_2d_sets_are_told_by_name(fixtures):
    pbesol = list(alexandria.read(fixtures / "fixture_geo_opt_paths_pbesol.json.bz2"))
    assert {path.functional for path in pbesol} == {"PBEsol"}
    flat = list(alexandria.read(fixtures / "fixture_geo_opt_paths_2d.json.bz2", functional="PBE"))
    assert {path.dimensionality for path in flat} == {2}


@pytest.mark.parametrize(
    ("path", "functional"),
    [
        ("data/pbe/2025.07.02/alexandria_00012.json.bz2", "PBE"),
        ("data/pbesol/alexandria_ps_000.json.bz2", "PBEsol"),
        ("data/scan/alexandria_scan_004.json.bz2", "SCAN"),
        ("geo_opt_paths/2025.07.02/pbe_2d/pbe_0000.json.bz2", "PBE"),
        ("geo_opt_paths/2024.05.24/pbesol/pbesol_0000.json.bz2", "PBEsol"),
        ("data/pbe_1d/geo_opt_paths/alex_go_aaa_000.json.bz2", "PBE"),
        ("convex_hull_ps_2023.12.29.json.bz2", "PBEsol"),
        ("quickstart/surrogate_paths_2d.json.bz2", "surrogate"),
    ],
)
def test_functional_is_told_by_the_names_of_alexandrias_files(path, functional):
    assert functional_by_name(Path(path)) == functional


def test_only_folders_of_alexandrias_layout_tell():
    for name in ("scan_2d/copper/paths.json", "my_scan_2d/paths.json", "pbe_runs/2d/x/paths.json"):
        with pytest.raises(MlipError, match="--functional"):
            functional_by_name(Path(name))
        assert dimensionality_by_name("x", Path(name)) == 3


def test_the_path_is_taken_as_it_was_given(tmp_path, monkeypatch):
    (tmp_path / "pbe_2d").mkdir()
    monkeypatch.chdir(tmp_path / "pbe_2d")
    assert dimensionality_by_name("x", Path("paths.json")) == 3


def test_a_functional_that_no_name_tells_is_asked_for(write_paths, make_run, make_step):
    path = write_paths({"agm000000001": [make_run(make_step())]}, name="alex_go_aaa_000.json.bz2")
    with pytest.raises(MlipError, match="--functional"):
        list(alexandria.read(path))
    with pytest.raises(MlipError, match="PBE and SCAN"):
        functional_by_name(Path("pbe_scan_mix.json"))


@pytest.mark.parametrize(
    ("material_id", "name", "dimensionality"),
    [
        ("agm003272798", "pbe_0000.json.bz2", 3),
        ("agm2000001234", "pbe_0000.json.bz2", 2),
        ("agm1000001234", "pbe_0000.json.bz2", 1),
        ("agm200000123", "pbe_0000.json.bz2", 3),  # nine digits: 3D
        ("sur2d-0001", "surrogate_paths.json.bz2", 2),
        ("x", "surrogate_paths_1d.json.bz2", 1),
        ("x", "pbe_2d/pbe_0000.json.bz2", 2),
        ("x", "pbe_2d/2025.07.02/pbe_0000.json.bz2", 2),
        ("x", "data/pbe/alexandria_2d_000.json.bz2", 2),
        ("x", "pbe/pbe_0000.json.bz2", 3),
    ],
)
def test_dimensionality_is_told_by_id_then_name(material_id, name, dimensionality):
    assert dimensionality_by_name(material_id, Path(name)) == dimensionality


def test_a_stress_that_is_compressive_in_vasp_is_negative_here(write_paths, make_run, make_step):
    path = only(write_paths({"m": [make_run(make_step())]}))
    np.testing.assert_allclose(path.frames[0].stress, [-0.00998641] * 3 + [0] * 3, atol=1e-8)  # 16 kB


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"energy": None}, NO_ENERGY),
        ({"energy": NAN}, NO_ENERGY),
        ({"energy": "low"}, NO_ENERGY),
        ({"forces": None}, NO_FORCES),
        ({"forces": [[0.0, 0.0, 0.0]] * 7 + [[0.00943903]]}, NO_FORCES),
        ({"forces": [[0.0, 0.0, 0.0]] * 7}, NO_FORCES),
        ({"forces": [[0.0, 0.0, None]] * 8}, NO_FORCES),
        ({"forces": [[0.0, 0.0, NAN]] * 8}, NO_FORCES),
    ],
)
def test_a_step_without_energy_or_forces_is_dropped_and_counted(write_paths, make_run, make_step, changes, reason):
    steps = [make_step(-27.0), make_step(**{"energy": -27.1} | changes), make_step(-27.2)]
    path = only(write_paths({"m": [make_run(*steps)]}))
    assert [frame.energy for frame in path.frames] == [-27.0, -27.2]
    assert [frame.ionic_step for frame in path.frames] == [0, 2]  # counted in the source
    assert path.dropped == {reason: 1}


def test_a_path_whose_last_step_is_dropped_has_lost_its_relaxed_structure(write_paths, make_run, make_step):
    bare = make_step(energy=None)
    assert only(write_paths({"m": [make_run(make_step(), bare)]})).properties == {"path_end_removed": 1.0}
    assert only(write_paths({"m": [make_run(bare, make_step())]})).properties == {}


def test_a_step_without_the_key_forces_is_dropped_too(write_paths, make_run, make_step):
    bare = make_step()
    del bare["forces"]
    path = only(write_paths({"m": [make_run(make_step(), bare)]}))
    assert path.dropped == {NO_FORCES: 1}


@pytest.mark.parametrize("stress", [None, [[NAN] * 3] * 3, [[1.0, 2.0], [3.0]], "none"])
def test_a_stress_that_cannot_be_used_is_a_missing_label(write_paths, make_run, make_step, stress):
    path = only(write_paths({"m": [make_run(make_step(stress=stress))]}))
    assert path.frames[0].stress is None
    assert not path.dropped


def without(mapping, *keys):
    """A deep copy with the value at keys[0]...keys[-1] removed."""
    copy = json.loads(json.dumps(mapping))
    inner = copy
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    return copy


def test_a_fault_of_the_structure_skips_the_material(write_paths, make_run, make_step):
    step = make_step()
    ragged = json.loads(json.dumps(step))
    ragged["structure"]["sites"][0]["abc"] = [0.0, 0.0]
    disordered = json.loads(json.dumps(step))
    disordered["structure"]["sites"][0]["species"] = [{"element": "Na", "occu": 0.5}]
    unknown = json.loads(json.dumps(step))
    unknown["structure"]["sites"][0]["species"] = [{"element": "Xx", "occu": 1}]
    flat = json.loads(json.dumps(step))
    flat["structure"]["lattice"]["matrix"][2] = [0.0, 0.0, 0.0]
    other = json.loads(json.dumps(step))
    other["structure"]["sites"][0]["species"] = [{"element": "K", "occu": 1}]
    faults = {
        "no structure": ([make_run(without(step, "structure"))], "missing key"),
        "no lattice": ([make_run(without(step, "structure", "lattice"))], "missing key"),
        "no sites": ([make_run(without(step, "structure", "sites"))], "missing key"),
        "no species": ([make_run(without(step, "structure", "sites", 0, "species"))], "missing key"),
        "no steps": ([without(make_run(step), "steps")], "missing key"),
        "ragged": ([make_run(ragged)], "bad coordinates"),
        "disordered": ([make_run(disordered)], "disordered site"),
        "unknown": ([make_run(unknown)], "unknown element"),
        "flat": ([make_run(flat)], "bad cell"),
        "other": ([make_run(step, other)], "composition changes along the path"),
        "empty": ([], "no usable step"),
        "empty run": ([make_run()], "no usable step"),
        "not a list": ({"steps": 1}, "frame without a number"),
        "null": (None, "wrong type"),
        "run is a number": ([3], "wrong type"),
        "step is a number": ([make_run(3)], "wrong type"),
    }
    good = [make_run(step)]
    path = write_paths({"first": good} | {name: runs for name, (runs, _) in faults.items()} | {"last": good})
    first, *skipped, last = alexandria.read(path, functional="PBE")
    assert (first.material_id, last.material_id) == ("first", "last")
    assert {one.material_id: one.reason for one in skipped} == {n: reason for n, (_, reason) in faults.items()}
    assert all(one.source == str(path) for one in skipped)


def nodes(value, path=()):
    """The keys that lead to each value of a nested structure."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from nodes(child, (*path, key))


def replaced(value, path, by):
    """A deep copy with the value at `path` replaced."""
    if not path:
        return by
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = by
    return copy


@pytest.mark.parametrize("junk", [3, "x", [], {}, None, [[1], [2, 3]], ["Fe"], {"a": "Fe"}, -1e400, 10**400])
def test_junk_in_place_of_any_value_is_at_worst_a_skipped_material(write_paths, structure, junk):
    pair = structure.copy(site_properties={"magmom": [0.1] * 8, "forces": [[0.0] * 3] * 8})
    pair.remove_sites(range(1, 7))
    plain = json.loads(json.dumps(pair.as_dict()))
    step = {"structure": plain, "energy": -7.0, "forces": [[0.0] * 3] * 2, "stress": [[1.0] * 3] * 3}
    runs = [{"steps": [step, step]}, {"steps": [step]}]
    entry = {"energy": -7.0, "entry_id": "agm1", "data": {"mat_id": "agm1", "spg": 225}, "structure": plain}
    paths = {str(keys): replaced(runs, keys, junk) for keys in nodes(runs)}
    entries = [replaced(entry, keys, junk) for keys in nodes(entry)]
    for material in alexandria.read(write_paths(paths)):
        assert isinstance(material, Trajectory) or (material.reason and material.detail)
        del paths[material.material_id]
    assert not paths
    materials = list(alexandria.read(write_paths({"entries": entries})))
    assert len(materials) == len(entries)
    assert all(isinstance(material, Entry) or (material.reason and material.material_id) for material in materials)


@pytest.mark.parametrize(
    ("keys", "junk", "reason"),
    [
        (("sites", 0, "species"), ["Fe"], "wrong type"),
        (("sites", 0, "species", 0, "element"), ["Fe"], "wrong type"),
        (("sites", 0, "properties"), ["magmom"], "wrong type"),
        (("lattice", "pbc"), [[True], [True, False], True], "bad cell"),
        (("lattice", "pbc"), [True, True], "bad cell"),
    ],
)
def test_a_malformed_site_or_lattice_skips_the_material_by_id(write_paths, make_run, make_step, keys, junk, reason):
    runs = [make_run(replaced(make_step(), ("structure", *keys), junk))]
    first, last = alexandria.read(write_paths({"odd": runs, "good": [make_run(make_step())]}))
    assert (first.material_id, first.reason) == ("odd", reason)
    assert isinstance(last, Trajectory)


def test_an_entry_without_what_it_needs_is_skipped_by_id(tmp_path, structure):
    good = {"energy": -27.0, "entry_id": "agm1", "data": {"mat_id": "agm1"}, "structure": structure.as_dict()}
    entries = [good, {**good, "energy": NAN}, without(good, "structure"), without(good, "data"), 7]
    path = tmp_path / "alexandria_pbe.json"
    path.write_text(json.dumps({"entries": entries}))
    first, *skipped = alexandria.read(path)
    assert isinstance(first, Entry)
    assert [one.reason for one in skipped] == ["no energy", "missing key", "missing key", "wrong type"]
    assert [one.material_id for one in skipped] == ["agm1", "agm1", "agm1", "entry without an id"]


def test_a_truncated_bz2_names_the_file_and_the_last_good_material(write_paths, make_run, make_step, tmp_path):
    rng = np.random.default_rng(0)

    step = make_step()

    def noisy_runs():  # random digits: several bz2 blocks
        return [make_run(*[step | {"forces": rng.normal(size=(8, 3)).tolist()} for _ in range(40)])]

    whole = write_paths({f"m{k}": noisy_runs() for k in range(40)})
    cut = tmp_path / "pbe_cut.json.bz2"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.7)])
    read = []
    with pytest.raises(MlipError, match=r"pbe_cut\.json\.bz2: .*truncated.*last complete material: m\d+") as error:
        read.extend(item.material_id for item in alexandria.read(cut))
    assert 0 < len(read) < 40
    assert f"last complete material: {read[-1]} " in f"{error.value} "


def test_a_damaged_bz2_is_named(write_paths, make_run, make_step):
    path = write_paths({"m": [make_run(make_step())]})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(MlipError, match=r"pbe_0000\.json\.bz2"):
        list(alexandria.read(path))


def test_a_path_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(MlipError, match="No such file"):
        list(alexandria.read(tmp_path / "pbe.json.bz2"))
