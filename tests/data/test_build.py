"""From sources to a store, with an account of every frame."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlip.data import Store, parts
from mlip.data.build import BuildSettings, build
from mlip.data.outliers import END_REMOVED
from mlip.data.parts import NO_USABLE
from mlip.data.readers.sources import NO_MATERIAL, NOT_READ
from mlip.data.readers.vasp import NO_STEP
from mlip.data.split import assign_split
from mlip.errors import MlipError


def total(counter) -> int:
    return sum(counter.values())


def test_every_frame_of_real_layout_files_is_accounted_for(shared, tmp_path):
    folder = shared / "data" / "alexandria"
    sources = [folder / f"fixture_geo_opt_paths_{name}.json.bz2" for name in ("pbe", "pbesol")]
    settings = BuildSettings(subsample=np.inf, outliers="2d")
    skipped = []
    report = build(sources, tmp_path / "store.h5", settings, on_skipped=skipped.append)
    left_out = total(report.dropped_frames) + report.frames_subsampled_away + total(report.outlier_frames)
    assert report.frames_read == total(report.frames_kept) + left_out
    assert report.frames_read == 267
    assert report.materials_read == 15
    assert [one.material_id for one in skipped] == ["agm005676148"]
    assert report.skipped_materials == {"no usable step": 1}
    with Store(tmp_path / "store.h5") as store:
        assert len(store) == total(report.frames_kept)
        assert store.metadata["build"] == json.loads(json.dumps(report.as_dict()))
        assert store.metadata["settings"]["subsample"] == "inf"
        assert {m.functional for m in store.materials()} == {"PBE", "PBEsol"}
        for material in store.materials():
            assert 1 <= len(material.frames) <= 3
            assert material.split == assign_split(material.id, seed=0)
    listed = [json.loads(line) for line in (tmp_path / "store.h5.skipped.jsonl").read_text().splitlines()]
    assert [one["material_id"] for one in listed] == ["agm005676148"]


def test_three_dimensionalities_live_in_one_store(write_paths, make_run, make_step, tmp_path):
    runs = [make_run(make_step(), make_step(-27.2, scale=0.99))]
    path = write_paths({f"agm{k}000000001": runs for k in ("", "1", "2")})
    report = build([path], tmp_path / "store.h5")
    assert report.sets == {"PBE 3D": 1, "PBE 1D": 1, "PBE 2D": 1}
    with Store(tmp_path / "store.h5") as store:
        assert [m.dimensionality for m in store.materials()] == [3, 1, 2]


def test_each_rule_tells_frames_and_materials(write_paths, make_run, make_step, tmp_path):
    forces = [[51.0, 0.0, 0.0]] * 8
    path = write_paths(
        {
            "good": [make_run(make_step())],
            "some": [make_run(make_step(), make_step(-27.1, scale=0.99, forces=forces), make_step(1.0, scale=0.98))],
            "all": [make_run(make_step(forces=forces), make_step(scale=0.99, forces=forces))],
        }
    )
    report = build([path], tmp_path / "store.h5", BuildSettings(outliers="pbesol"))
    assert report.outlier_frames == {"force component > 50 eV/A": 3, "energy > 0 eV/atom": 1}
    assert report.outlier_materials == {"force component > 50 eV/A": 2, "energy > 0 eV/atom": 1}
    assert report.materials_emptied == 1
    assert total(report.materials_kept) == 2
    with Store(tmp_path / "store.h5") as store:  # "some" ends with an outlier: its relaxed structure is gone
        assert {m.id for m in store.materials() if END_REMOVED in m.properties} == {"some"}


def test_runs_without_ids_in_files_of_the_same_name_are_two_materials(tmp_path):
    source = tmp_path / "relaxations"
    for run in ("run1", "run2"):
        (source / run).mkdir(parents=True)
        steps = [bulk("Cu", a=a) for a in (3.5, 3.6, 3.7)]
        for atoms in steps:
            atoms.calc = SinglePointCalculator(atoms, energy=-3.7)
        write(source / run / "out.xyz", steps, format="extxyz")
    report = build([source], tmp_path / "store.h5", BuildSettings(functional="PBE"))
    assert report.materials_read == 2
    with Store(tmp_path / "store.h5") as store:
        assert [(m.id, len(m.frames)) for m in store.materials()] == [("run1/out", 3), ("run2/out", 3)]


def test_atoms_at_the_same_place_are_reported_by_id(write_paths, make_run, make_step, tmp_path):
    step = make_step()
    twin = json.loads(json.dumps(step))
    twin["structure"]["sites"][1]["abc"] = [1.0, -1e-20, 0.0]  # an image of atom 0
    path = write_paths({"good": [make_run(step)], "twin": [make_run(twin)]})
    skipped = []
    report = build([path], tmp_path / "store.h5", on_skipped=skipped.append)
    (one,) = skipped
    assert (one.material_id, one.reason, one.source) == ("twin", "atoms at the same place", str(path))
    assert "atoms 0 and 1" in one.detail
    assert report.materials_read == total(report.materials_kept) == 1


def test_entries_and_paths_are_never_mixed(shared, tmp_path):
    folder = shared / "data" / "alexandria"
    sources = [folder / "fixture_entries_pbe.json.bz2", folder / "fixture_geo_opt_paths_pbe.json.bz2"]
    with pytest.raises(MlipError, match="different calculations"):
        build(sources, tmp_path / "store.h5")
    report = build(sources[:1], tmp_path / "store.h5")
    assert total(report.frames_kept) == 98
    with Store(tmp_path / "store.h5") as store:
        assert store.material(0).properties["e_above_hull"] == 0.0
        assert store.material(0).formula == "Ac"


def test_the_same_sources_make_the_same_bytes(write_paths, make_run, make_step, tmp_path):
    path = write_paths({f"m{k}": [make_run(make_step(-27.0 - k))] for k in range(20)})
    for name in ("a.h5", "b.h5"):
        build([path], tmp_path / name)
        time.sleep(1.1)  # no time stamp of a second's resolution either
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_truncated_source_leaves_no_store_and_no_litter(write_paths, make_run, make_step, tmp_path):
    path = write_paths({f"m{k}": [make_run(make_step())] for k in range(3)})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(MlipError, match="truncated"):
        build([path], tmp_path / "store.h5")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_nothing_left_says_why(write_paths, make_run, make_step, tmp_path):
    path = write_paths({"a": [make_run(make_step(energy=float("nan")))], "b": [make_run(make_step(9.0))]})
    with pytest.raises(MlipError, match=r"nothing is left.*1 x no usable step.*1 x energy > 0"):
        build([path], tmp_path / "store.h5", BuildSettings(outliers="pbesol"))


def test_an_old_list_of_skipped_materials_does_not_outlive_its_store(write_paths, make_run, make_step, tmp_path):
    good = {"good": [make_run(make_step())]}
    build([write_paths(good | {"bad": []})], tmp_path / "store.h5")
    assert (tmp_path / "store.h5.skipped.jsonl").exists()
    build([write_paths(good)], tmp_path / "store.h5")
    assert not (tmp_path / "store.h5.skipped.jsonl").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"subsample": -1.0}, "cutoff"),
        ({"outliers": "3d"}, "outlier rules"),
        ({"fractions": (0.5, 0.4, 0.2)}, "three shares"),
        ({"dimensionality": 4}, "dimensionality"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_reading(values, message):
    with pytest.raises(MlipError, match=message):
        BuildSettings(**values)


def test_out_is_a_store_file(tmp_path):
    with pytest.raises(MlipError, match=r"\*\.h5"):
        build([tmp_path], tmp_path / "store.json")


def test_a_build_killed_at_any_moment_leaves_the_old_store(write_paths, make_run, make_step, tmp_path):
    store = tmp_path / "store.h5"
    build([write_paths({"old": [make_run(make_step())]}, "pbe_old.json")], store)
    old = store.read_bytes()
    step = make_step()
    source = write_paths(
        {f"m{k}": [make_run(*[step | {"energy": -27.0 - j} for j in range(9)])] for k in range(60)}, "pbe.json"
    )
    script = f"""
        from pathlib import Path
        from mlip.data import writer
        from mlip.data.build import build
        writer.BLOCK_ATOMS = 200
        print("start", flush=True)
        while True:
            build([Path({str(source)!r})], Path({str(tmp_path / "killed" / "store.h5")!r}))
    """
    target = tmp_path / "killed" / "store.h5"
    target.parent.mkdir()
    for delay in (0.05, 0.3):
        target.write_bytes(old)
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        with Store(target) as opened:
            assert opened.n_materials in (1, 60)  # the old one, or a complete new one


def skipped_by_name(store) -> dict[str, dict]:
    lines = store.with_name(f"{store.name}.skipped.jsonl").read_text().splitlines()
    return {one["material_id"]: one for one in map(json.loads, lines)}


@pytest.fixture
def folder(write_paths, make_run, make_step, tmp_path):
    """A folder of two sound files, among which sources of all kinds that cannot be read, or hold nothing."""
    source = tmp_path / "data"
    source.mkdir()
    for name in ("pbe_0.json", "pbe_1.json"):
        made = write_paths({f"of {name}": [make_run(make_step())]}, name)
        made.rename(source / name)
    good = (source / "pbe_0.json").read_text()
    for name, text in {
        "0_empty.extxyz": "",
        "cut_pbe.json": good[: len(good) // 2],
        "late_pbe.json": good.replace("of pbe_0.json", "before") + "and more",
        "none_pbe.json": "{}",
        "job/vasprun.xml": "<modeling><generator>",
        "job2/vasprun.xml": "no run at all",
        "killed/OUTCAR": " vasp.6.3.0 20Jan22 complex\n",
        "words/OUTCAR": "no run at all",
        "a.cif": "data_x\n_cell_length_a 3\n",
        "b.traj": "what",
        "c.db": "what",
        "notes.TXT": "",
        "job/INCAR": "",
        "sums.dat.gz": "",
    }.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text)
    return source


def test_sources_that_fail_are_listed_and_the_others_go_on(folder, tmp_path):
    store = tmp_path / "s.h5"
    report = build([folder], store, BuildSettings(functional="PBE"))
    skipped = skipped_by_name(store)
    assert {name: one["reason"] for name, one in skipped.items()} == {
        "0_empty.extxyz": NO_MATERIAL,
        "cut_pbe.json": NOT_READ,
        "late_pbe.json": NOT_READ,
        "none_pbe.json": NO_MATERIAL,
        "job": NO_STEP,
        "job2/vasprun.xml": NOT_READ,
        "killed": NO_STEP,
        "words/OUTCAR": NOT_READ,
        "a.cif": NO_MATERIAL,
        "b.traj": NOT_READ,
        "c.db": NOT_READ,
    }
    assert skipped["cut_pbe.json"]["source"] == str(folder / "cut_pbe.json")
    assert "ends early" in skipped["cut_pbe.json"]["detail"]
    assert "\n" not in "".join(one["detail"] for one in skipped.values())
    assert report.sources == 13
    assert report.failed_sources == {NOT_READ: 6, NO_MATERIAL: 3, NO_USABLE: 2}
    assert report.ignored_files == {".txt": 1, "no suffix": 1, ".dat.gz": 1}
    with Store(store) as opened:
        assert {m.id for m in opened.materials()} == {"before", "of pbe_0.json", "of pbe_1.json"}
        assert opened.metadata["build"] == json.loads(json.dumps(report.as_dict()))


def test_parts_and_processes_make_the_same_of_sources_that_fail(folder, tmp_path):
    sources = sorted(folder.glob("*.json"))
    made = []
    for name, options in (("a.h5", {}), ("b.h5", {"part_bytes": 1, "n_workers": 2})):
        report = build(sources, tmp_path / name, BuildSettings(functional="PBE"), **options)
        made.append((report.as_dict(), (tmp_path / f"{name}.skipped.jsonl").read_bytes()))
    assert made[0] == made[1]


def test_an_error_of_any_kind_in_one_file_is_that_files(write_paths, make_run, make_step, tmp_path, monkeypatch):
    paths = [write_paths({f"m{k}": [make_run(make_step())]}, f"pbe_{k}.json") for k in range(3)]
    read = parts.alexandria.material_members

    def stumbling(path, on_bytes):
        if path == paths[1]:
            raise ZeroDivisionError("of a package")
        return read(path, on_bytes)

    monkeypatch.setattr(parts.alexandria, "material_members", stumbling)
    report = build(paths, tmp_path / "s.h5")
    assert report.failed_sources == {NOT_READ: 1}
    assert skipped_by_name(tmp_path / "s.h5")["pbe_1.json"]["detail"] == "ZeroDivisionError: of a package"


def test_a_material_that_is_no_json_is_one_material(write_paths, make_run, make_step, tmp_path):
    path = write_paths({f"m{k}": [make_run(make_step(-27.0 - k))] for k in range(3)}, "pbe.json")
    path.write_text(path.read_text().replace("-28.0", "-28.0.0"))
    report = build([path], tmp_path / "s.h5")
    assert (report.materials_read, report.skipped_materials, report.failed_sources) == (2, {"not JSON": 1}, {})
    assert "at byte" in skipped_by_name(tmp_path / "s.h5")["m1"]["detail"]


def test_a_build_of_which_no_source_is_readable_is_an_error_that_reads_them_again(folder, tmp_path):
    sources = [folder / name for name in ("late_pbe.json", "cut_pbe.json", "b.traj")]
    for _ in range(2):
        with pytest.raises(
            MlipError, match=r"late_pbe.json: expected another JSON object.*at byte.*the other 2 sources"
        ):
            build(sources, tmp_path / "s.h5", BuildSettings(functional="PBE"))
    assert [path.name for path in tmp_path.glob("*.h5*")] == []


def test_sources_without_any_material_are_nothing_to_store(tmp_path):
    (tmp_path / "a.extxyz").touch()
    (tmp_path / "b_pbe.json").write_text("{}")
    with pytest.raises(MlipError, match=rf"nothing is left to store .2 x {NO_MATERIAL}"):
        build([tmp_path], tmp_path / "s.h5", BuildSettings(functional="PBE"))


def test_an_empty_folder_tells_what_it_holds_instead(tmp_path):
    for name in ("a.txt", "b.txt", "INCAR"):
        (tmp_path / name).touch()
    with pytest.raises(MlipError, match=r"nothing to read, but 2 x \.txt, 1 x no suffix"):
        build([tmp_path], tmp_path / "s.h5")
