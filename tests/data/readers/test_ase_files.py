"""extxyz and ASE databases as trajectories."""

import gzip
from itertools import groupby

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import read as ase_read
from ase.io import write as ase_write

from mlip.data import Skipped
from mlip.data.readers import ase_files
from mlip.errors import MlipError


def labeled(atoms: Atoms | None = None, info: dict | None = None, **labels) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.64) if atoms is None else atoms
    atoms.info |= info or {}
    defaults = {"energy": -6.8, "forces": np.full((len(atoms), 3), 0.1), "stress": np.arange(6) * 1e-3}
    atoms.calc = SinglePointCalculator(atoms, **{k: v for k, v in (defaults | labels).items() if v is not None})
    return atoms


@pytest.fixture
def write(tmp_path):
    def to_file(structures, name="pbe.extxyz"):
        ase_write(tmp_path / name, structures, format="extxyz")
        return tmp_path / name

    return to_file


def test_real_relaxations_are_read_as_ase_reads_them(shared, tmp_path):
    packed = shared / "data" / "lowdim" / "pbe_2d_relaxations_mech2d.extxyz.gz"
    plain = tmp_path / "plain.extxyz"
    plain.write_bytes(gzip.decompress(packed.read_bytes()))
    expected = ase_read(plain, ":")
    paths = list(ase_files.read(packed))
    frames = [frame for path in paths for frame in path.frames]
    assert len(frames) == len(expected) == 644
    for frame, atoms in zip(frames[::20], expected[::20], strict=True):
        np.testing.assert_array_equal(frame.positions, atoms.positions)
        np.testing.assert_array_equal(frame.cell, atoms.cell.array)
        np.testing.assert_array_equal(frame.forces, atoms.get_forces())
        np.testing.assert_array_equal(frame.stress, atoms.get_stress())
        assert frame.energy == atoms.get_potential_energy()
        assert frame.ionic_step == atoms.info["ionic_step"]
    assert [p.material_id for p in paths] == [key for key, _ in groupby(a.info["run_id"] for a in expected)]
    assert {(path.functional, path.dimensionality) for path in paths} == {("PBE", 2)}


def test_frames_of_an_id_are_one_trajectory_wherever_they_are_in_the_file(write):
    ids = ["a", "a", "b", "a", "c"]
    paths = list(ase_files.read(write([labeled(info={"material_id": i}, energy=-k) for k, i in enumerate(ids)])))
    assert [(p.material_id, [f.energy for f in p.frames]) for p in paths] == [
        ("b", [-2]),
        ("a", [0, -1, -3]),
        ("c", [-4]),
    ]
    assert [f.ionic_step for f in paths[1].frames] == [0, 1, 2]


def test_a_shuffled_path_is_put_in_the_order_of_its_steps(write):
    steps = [("a", 2), ("b", 1), ("a", 0), ("b", 0), ("a", 1)]
    frames = [labeled(info={"material_id": i, "ionic_step": k}, energy=-k) for i, k in steps]
    paths = {path.material_id: path for path in ase_files.read(write(frames))}
    assert [f.energy for f in paths["a"].frames] == [0, -1, -2]
    assert [f.ionic_step for f in paths["b"].frames] == [0, 1]


def test_one_id_under_two_functionals_is_two_materials(write):
    frames = [labeled(info={"material_id": "a", "functional": name}) for name in ("PBE", "PBEsol", "PBE")]
    paths = list(ase_files.read(write(frames)))
    assert [(p.material_id, p.functional, len(p.frames)) for p in paths] == [("a", "PBE", 2), ("a", "PBEsol", 1)]


def test_rows_of_a_database_are_gathered_by_id(tmp_path):
    file = tmp_path / "pbe.db"
    with connect(file) as database:
        for k in range(4):
            database.write(labeled(), mat_id="ab"[k % 2])
    assert [(p.material_id, len(p.frames)) for p in ase_files.read(file)] == [("a", 2), ("b", 2)]


def test_frames_of_an_id_with_other_elements_are_another_trajectory(write):
    salts = [bulk(formula, "rocksalt", a=5.6) for formula in ("NaCl", "NaCl", "KCl")]
    paths = list(ase_files.read(write([labeled(atoms, {"run_id": "salts"}) for atoms in salts])))
    assert [(path.material_id, len(path.frames)) for path in paths] == [("salts", 2), ("salts-ClK", 1)]


def test_without_an_id_frames_of_the_same_elements_in_order_are_a_trajectory(write):
    salts = ("NaCl", "NaCl", "KCl", "ClK", "ClK", "NaCl")
    frames = [labeled(bulk(formula, "rocksalt", a=5.6)) for formula in salts]
    paths = list(ase_files.read(write(frames, "pbe_1.5.extxyz")))
    assert [(path.material_id, len(path.frames)) for path in paths] == [
        ("pbe_1.5", 2),
        ("pbe_1.5-000001", 1),
        ("pbe_1.5-000002", 2),
        ("pbe_1.5-000003", 1),
    ]


def test_frames_with_an_id_among_frames_without_keep_it(write):
    frames = [labeled(), labeled(info={"run_id": "own"}), labeled()]
    assert [path.material_id for path in ase_files.read(write(frames))] == ["pbe", "own", "pbe-000001"]


@pytest.mark.parametrize("key", ["material_id", "mat_id", "alexandria_id", "mptrj_traj_id", "run_id"])
def test_ids_are_found_under_the_names_that_data_sets_use(write, key):
    (path,) = ase_files.read(write([labeled(info={key: "x7"})]))
    assert path.material_id == "x7"


def test_functional_is_the_frames_own_then_the_names_and_else_asked_for(write):
    (own,) = ase_files.read(write([labeled(info={"functional": "PBE+U"})]))
    assert own.functional == "PBE+U"
    (given,) = ase_files.read(write([labeled()], "set.extxyz"), functional="r2SCAN")
    assert given.functional == "r2SCAN"
    (named,) = ase_files.read(write([labeled()], "pbesol_set.extxyz"))
    assert named.functional == "PBEsol"
    for name in ("set.extxyz", "volume_scan.extxyz", "md_10_ps.extxyz"):
        with pytest.raises(MlipError, match="--functional"):
            list(ase_files.read(write([labeled()], name)))


def test_folders_of_ase_files_tell_neither_functional_nor_dimensionality(write, tmp_path):
    folder = tmp_path / "pbe" / "scan_2d"
    folder.mkdir(parents=True)
    file = write([labeled(bulk("Cu"))], "cu_2d.extxyz").rename(folder / "cu_2d.extxyz")
    with pytest.raises(MlipError, match="--functional"):
        list(ase_files.read(file))
    (path,) = ase_files.read(file, functional="PBE", name="scan_2d/cu_2d.extxyz")
    assert path.dimensionality == 3


@pytest.mark.parametrize(
    ("pbc", "info", "dimensionality"),
    [
        ((1, 1, 1), {}, 3),
        ((1, 1, 0), {}, 2),
        ((1, 0, 0), {}, 1),
        ((1, 1, 1), {"dimensionality": "2D"}, 2),
        ((1, 1, 1), {"dimensionality": 1}, 1),
        ((1, 1, 1), {"mat_id": "agm2000000001"}, 2),
    ],
)
def test_dimensionality_is_told_by_info_periodicity_and_id(write, pbc, info, dimensionality):
    atoms = Atoms("C2", positions=[[0, 0, 0], [1.4, 0, 0]], cell=[9, 9, 9], pbc=pbc)
    (path,) = ase_files.read(write([labeled(atoms, info)]))
    assert path.dimensionality == dimensionality
    assert path.frames[0].pbc.tolist() == list(map(bool, pbc))


def test_a_molecule_needs_its_dimensionality_said(write):
    file = write([labeled(Atoms("O2", positions=[[0, 0, 0], [1.2, 0, 0]]), stress=None)])
    (skipped,) = ase_files.read(file)
    assert isinstance(skipped, Skipped)
    assert "--dimensionality" in skipped.detail
    (path,) = ase_files.read(file, dimensionality=3)
    assert not path.frames[0].pbc.any()


def test_labels_that_are_missing_stay_missing(write):
    bare = bulk("Cu")
    (none, some) = ase_files.read(write([bare, labeled(stress=None)]))  # Cu and NaCl
    assert np.isnan(none.frames[0].energy)
    assert none.frames[0].forces is None
    assert some.frames[0].energy == -6.8
    assert some.frames[0].stress is None


def test_the_energy_is_taken_and_not_the_free_energy(write):
    (path,) = ase_files.read(write([labeled(free_energy=-6.9)]))
    assert path.frames[0].energy == -6.8
    (skipped,) = ase_files.read(write([labeled(energy=None, free_energy=-6.9)]))
    assert skipped.reason == "free energy without energy"


def test_an_energy_that_is_nan_skips_the_material(write):
    bad = labeled(info={"run_id": "bad"}, energy=float("nan"))
    good = labeled(info={"run_id": "good"})
    skipped, path = ase_files.read(write([bad, good]))
    assert (skipped.material_id, skipped.reason) == ("bad", "no energy")
    assert path.material_id == "good"


@pytest.mark.parametrize(
    ("label", "value", "reason"),
    [
        ("energy", -np.inf, "no energy"),
        ("forces", np.full((2, 3), np.inf), "infinite forces"),
        ("stress", np.full(6, -np.inf), "infinite stress"),
    ],
)
def test_a_frame_with_an_infinite_label_is_dropped_and_counted(write, label, value, reason):
    (path,) = ase_files.read(write([labeled(), labeled(**{label: value}), labeled()]))
    assert [frame.ionic_step for frame in path.frames] == [0, 2]  # counted in the source
    assert path.dropped == {reason: 1}
    assert path.n_read == 3
    (skipped,) = ase_files.read(write([labeled(**{label: value})]))
    assert skipped.reason == reason


def test_forces_that_are_nan_are_missing_labels(write):
    (path,) = ase_files.read(write([labeled(forces=np.full((2, 3), np.nan))]))
    assert np.isnan(path.frames[0].forces).all()


def test_of_a_truncated_extxyz_only_the_last_frame_is_lost_and_named(write):
    file = write([labeled() for _ in range(5)])
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    skipped, path = ase_files.read(file)
    assert (skipped.material_id, skipped.reason) == ("pbe: frame 4", "the file ends within this frame")
    assert len(path.frames) == 4


@pytest.mark.parametrize("text", ["hello\n", "2\ncomment\nH 0 0 0\nH 0 0 x\n", "-1\n\n"])
def test_text_that_is_no_extxyz_says_so(tmp_path, text):
    file = tmp_path / "pbe.xyz"
    file.write_text(text)
    with pytest.raises(MlipError, match="frame 0"):
        list(ase_files.read(file))


def test_a_truncated_gz_is_named(write, tmp_path):
    packed = tmp_path / "pbe.extxyz.gz"
    packed.write_bytes(gzip.compress(write([labeled() for _ in range(50)]).read_bytes())[:-30])
    with pytest.raises(MlipError, match=r"pbe\.extxyz\.gz: .*truncated"):
        list(ase_files.read(packed))


def test_a_database_is_read_with_its_key_value_pairs(tmp_path):
    file = tmp_path / "pbe.db"
    with connect(file) as database:
        for k in range(4):
            database.write(labeled(), mat_id=f"agm2{k // 2:09d}", e_form=-0.5)
    paths = list(ase_files.read(file))
    assert [(p.material_id, len(p.frames), p.dimensionality) for p in paths] == [
        ("agm2000000000", 2, 2),
        ("agm2000000001", 2, 2),
    ]
    assert paths[0].properties == {"e_form": -0.5}
    np.testing.assert_allclose(paths[0].frames[0].forces, 0.1)


def test_other_formats_of_ase_are_read(tmp_path):
    file = tmp_path / "pbe.traj"
    ase_write(file, [labeled(), labeled()])
    assert [len(path.frames) for path in ase_files.read(file)] == [2]


def test_a_file_of_no_known_format_says_so(tmp_path):
    file = tmp_path / "pbe.xyzzy"
    file.write_text("nothing that ASE knows")
    with pytest.raises(MlipError, match="ASE cannot read it"):
        list(ase_files.read(file))


def test_rows_of_an_lmdb_of_omat24_are_frames_with_their_own_ids(tmp_path):
    """OMat24's and sAlex's files: ASE databases in LMDB, with the id in a row's data."""
    pytest.importorskip("ase_db_backends")
    path = tmp_path / "data.0000.aselmdb"
    with connect(path) as database:
        for k, sid in enumerate(("agm000000001_3", "agm000000001_3", "agm000000002_0")):
            atoms = bulk("Cu", a=3.6 + 0.01 * k)
            stress = np.arange(6) * 0.001
            atoms.calc = SinglePointCalculator(atoms, energy=-3.7 - k, forces=np.zeros((1, 3)), stress=stress)
            database.write(atoms, data={"sid": sid, "calc_id": k})
    first, second = ase_files.read(path, functional="PBE")
    assert (first.material_id, len(first.frames)) == ("agm000000001_3", 2)
    assert (second.material_id, second.frames[0].energy) == ("agm000000002_0", -5.7)
    assert second.frames[0].stress == pytest.approx(np.arange(6) * 0.001)
