"""A store in other programs' formats, read back by their own readers."""

import pickle
import sys

import numpy as np
import pytest
from ase.io import read as ase_read
from pymatgen.core import Structure
from typer.testing import CliRunner

from mlip.cli.data import app
from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.data.build import build
from mlip.data.store_export import export
from mlip.errors import MlipError


@pytest.fixture
def store(tmp_path):
    """A path with all labels, one with none; ids that look like numbers, and a layer."""
    rng = np.random.default_rng(0)

    def frame(n, labeled, step, pbc=(True, True, True)):
        cell = np.diag([4.0, 5.0, 6.0]) + rng.normal(scale=0.1, size=(3, 3))
        labels = {"energy": -3.0 * n - step, "forces": rng.normal(size=(n, 3)), "stress": rng.normal(size=6) * 0.01}
        labels |= {"magmoms": rng.normal(size=n), "calculation": 1, "ionic_step": step}
        numbers = rng.integers(1, 90, n).astype(np.int16) if step == 0 else None
        return numbers, rng.random((n, 3)) @ cell, cell, np.array(pbc), labels if labeled else {"ionic_step": step}

    def path(n, labeled, n_steps, **options):
        made = [frame(n, labeled, step, **options) for step in range(n_steps)]
        return [Frame(made[0][0], *one[1:4], **one[4]) for one in made]

    with StoreWriter(tmp_path / "store.h5") as writer:
        properties = {"e_form": -0.25, "prototype_id": "AB"}
        writer.add(Trajectory("agm000000001", path(4, True, 3), "PBE", 3, properties), "train")
        writer.add(Trajectory("12345", path(2, False, 2, pbc=(True, True, False)), "PBEsol", 2), "val")
    with Store(tmp_path / "store.h5") as opened:
        yield opened


def assert_same(found: Store, expected: Store, *, atol=1e-6) -> None:
    for a, b in zip(found.materials(), expected.materials(), strict=True):
        assert (a.id, a.functional, a.dimensionality, len(a.frames)) == (
            b.id,
            b.functional,
            b.dimensionality,
            len(b.frames),
        )
        assert a.properties.get("e_form") == b.properties.get("e_form")
    for k in range(len(expected)):
        a, b = found.frame(k), expected.frame(k)
        assert (a.calculation, a.ionic_step, a.pbc.tolist()) == (b.calculation, b.ionic_step, b.pbc.tolist())
        assert np.array_equal(a.numbers, b.numbers)
        for name in ("positions", "cell", "energy", "forces", "stress", "magmoms"):
            x, y = getattr(a, name), getattr(b, name)
            assert (x is None) == (y is None), name
            if x is not None:
                assert np.allclose(x, y, atol=atol, equal_nan=True), name


@pytest.mark.parametrize("name", ["out.extxyz", "out.extxyz.gz", "out.db", "out.aselmdb"])
def test_what_is_exported_and_built_again_is_the_same_store(store, tmp_path, name):
    if name.endswith("aselmdb"):
        pytest.importorskip("ase_db_backends")
    assert export(store, tmp_path / name) == 5
    build([tmp_path / name], tmp_path / "again.h5")
    with Store(tmp_path / "again.h5") as again:
        assert_same(again, store)
    assert {p.name for p in tmp_path.iterdir() if p.name.startswith((".", "out"))} <= {name, f"{name}-lock"}


def test_ases_reader_finds_every_label_in_its_units(store, tmp_path):
    export(store, tmp_path / "out.extxyz", split="train")
    atoms = ase_read(tmp_path / "out.extxyz", 1)
    frame = store.frame(1)
    assert atoms.get_potential_energy() == pytest.approx(frame.energy)
    assert atoms.get_stress() == pytest.approx(frame.stress, abs=1e-8)
    assert atoms.get_forces() == pytest.approx(frame.forces, abs=1e-7)
    assert atoms.info["split"] == "train"
    assert len(ase_read(tmp_path / "out.extxyz", ":")) == 3


def lmdb_samples(path):
    lmdb = pytest.importorskip("lmdb")
    environment = lmdb.open(str(path), readonly=True, subdir=False, lock=False)
    with environment, environment.begin() as transaction:
        return {int(key): pickle.loads(value) for key, value in transaction.cursor()}


def test_the_lmdb_has_what_matscimls_alexandria_dataset_reads(store, tmp_path):
    """By the keys of its code: numeric keys, "entry_id", "structure", "force", "magmoms", "targets"/"regression"."""
    export(store, tmp_path / "out.lmdb")
    samples = lmdb_samples(tmp_path / "out.lmdb")
    assert sorted(samples) == list(range(5))
    for k, sample in samples.items():
        frame, structure = store.frame(k), Structure.from_dict(sample["structure"])
        assert structure.atomic_numbers == tuple(frame.numbers)
        assert structure.cart_coords == pytest.approx(frame.positions)
        assert np.shape(sample["force"]) == (len(frame), 3)
        assert np.shape(sample["magmoms"]) == (len(frame),)
    assert samples[1]["force"] == pytest.approx(store.frame(1).forces)
    assert samples[1]["targets"]["regression"]["energy_total"] == store.frame(1).energy
    assert samples[1]["targets"]["regression"]["e_form"] == -0.25
    assert samples[1]["stress"][1][2] == pytest.approx(store.frame(1).stress[3])
    assert np.isnan(samples[4]["magmoms"]).all()


def test_the_lmdb_has_lattice_vectors_that_a_layer_lacks(tmp_path):
    cell = np.array([[3.0, 0.0, 0.0], [-1.5, 2.6, 0.0], [0.0, 0.0, 0.0]])
    frame = Frame(np.array([5, 7], np.int16), np.array([[0.0, 0, 0.5], [0, 1.7, 0.5]]), cell, np.array([1, 1, 0], bool))
    with StoreWriter(tmp_path / "store.h5") as writer:
        writer.add(Trajectory("layer", [frame], "PBE", 2), "train")
    with Store(tmp_path / "store.h5") as opened:
        export(opened, tmp_path / "out.lmdb")
    (sample,) = lmdb_samples(tmp_path / "out.lmdb").values()
    structure = Structure.from_dict(sample["structure"])
    assert structure.cart_coords == pytest.approx(frame.positions)
    assert structure.lattice.pbc == (True, True, False)
    assert structure.lattice.matrix == pytest.approx(np.array([*cell[:2], [0, 0, 1]]))


def test_matsciml_itself_reads_the_lmdb(store, tmp_path):
    dataset = pytest.importorskip("matsciml.datasets.alexandria")
    (tmp_path / "lmdb").mkdir()
    export(store, tmp_path / "lmdb" / "data.lmdb", split="train")
    read = dataset.AlexandriaDataset(tmp_path / "lmdb")
    assert len(read) == 3
    assert read[2]["force"].numpy() == pytest.approx(store.frame(2).forces, abs=1e-5)


def test_an_export_that_fails_leaves_nothing(store, tmp_path):
    before = set(tmp_path.iterdir())
    with pytest.raises(MlipError, match="no frame in the split 'test'"):
        export(store, tmp_path / "out.extxyz", split="test")
    with pytest.raises(MlipError, match=r"no format.*\*\.extxyz"):
        export(store, tmp_path / "out.csv")
    assert set(tmp_path.iterdir()) == before


def test_without_lmdb_the_way_to_get_it_is_told(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(MlipError, match=r"alexandria-mlip\[lmdb\]"):
        export(store, tmp_path / "out.lmdb")


def test_the_command_tells_how_many_frames_it_wrote(store, tmp_path):
    result = CliRunner().invoke(app, ["export", str(store.path), str(tmp_path / "out.extxyz"), "--split", "val"])
    assert result.exit_code == 0, result.output
    assert "2 frames" in result.output
    result = CliRunner().invoke(app, ["export", str(store.path), str(tmp_path / "out.extxyz"), "--split", "validation"])
    assert isinstance(result.exception, MlipError)
