"""Statistics of a store, and where they are kept."""

import json
from collections import Counter

import numpy as np
import pytest
from ase.build import bulk

from mlip.data import Frame, Store, StoreWriter, Trajectory, store_summary
from mlip.data.store_summary import compute_summary, robust_reference_energies, summary_of

E0 = {"Na": -1.5, "Cl": -2.5, "Cu": -3.7}


def frame_of(atoms, energy_shift=0.0, force=0.0, stress=0.0) -> Frame:
    energy = sum(E0[symbol] for symbol in atoms.symbols) + energy_shift
    forces = np.full((len(atoms), 3), force)
    return Frame(
        atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc, energy, forces, np.full(6, stress)
    )


@pytest.fixture
def store(tmp_path):
    """Rock salt by PBE, copper by PBE and by PBEsol."""
    salt, copper = bulk("NaCl", "rocksalt", a=5.64), bulk("Cu", cubic=True)
    with StoreWriter(tmp_path / "store.h5") as writer:
        writer.add(Trajectory("a", [frame_of(salt, force=0.5), frame_of(salt, stress=-0.25)], "PBE", 3), "train")
        writer.add(Trajectory("b", [frame_of(copper, force=-2.0)], "PBE", 3), "val")
        writer.add(Trajectory("c", [frame_of(copper, energy_shift=4.0)], "PBEsol", 3), "test")
    with Store(tmp_path / "store.h5") as opened:
        yield opened


def test_labels_are_told_by_functional_and_structures_together(store):
    found = compute_summary(store, cutoff=3.0)
    assert set(found.functionals) == {"PBE", "PBEsol"}
    pbe = found.functionals["PBE"]
    assert (pbe.n_frames, pbe.n_atoms) == (3, 8)
    assert pbe.energy_per_atom == pytest.approx([-3.7, -2.0])
    assert pbe.force == [-2.0, 0.5]
    assert pbe.stress == [-0.25, 0.0]
    assert pbe.reference_energies["Cu"] == pytest.approx(-3.7)
    assert found.functionals["PBEsol"].reference_energies["Cu"] == pytest.approx(-2.7)
    assert found.frames_with_element == {"Na": 2, "Cl": 2, "Cu": 2}
    assert found.atoms_of_element == {"Na": 2, "Cl": 2, "Cu": 8}
    assert found.frames_of_size == {"2": 2, "4": 2}
    assert found.mean_neighbors == pytest.approx((2 * 2 * 6 + 2 * 4 * 12) / 12)  # salt has 6 within 3 A, copper 12


def test_labels_that_nobody_has_have_no_range(tmp_path):
    bare = frame_of(bulk("Cu"))
    bare = Frame(bare.numbers, bare.positions, bare.cell, bare.pbc)
    with StoreWriter(tmp_path / "store.h5") as writer:
        writer.add(Trajectory("a", [bare], "PBE", 3), "train")
    with Store(tmp_path / "store.h5") as store:
        of_pbe = compute_summary(store).functionals["PBE"]
    assert (of_pbe.energy_per_atom, of_pbe.force, of_pbe.stress) == ([], [], [])
    assert of_pbe.robust_reference_energies == {}


def test_robust_reference_energies_are_not_pulled_by_outliers():
    rng = np.random.default_rng(0)
    composition = np.zeros((400, 119), dtype=int)
    composition[:, 11], composition[:, 17] = rng.integers(1, 9, (2, 400))
    size = composition.sum(axis=1)
    energies = composition[:, 11] * -1.5 + composition[:, 17] * -2.5 + rng.normal(scale=0.02, size=400) * size
    energies[:40] += 30.0 * size[:40]  # a tenth of the frames, 30 eV/atom too high
    robust = robust_reference_energies(composition, energies)
    assert [robust["Na"], robust["Cl"]] == pytest.approx([-1.5, -2.5], abs=0.02)
    plain = np.linalg.lstsq(composition[:, [11, 17]] / size[:, None], energies / size, rcond=None)[0]
    assert np.abs(plain - [-1.5, -2.5]).min() > 1.0


def test_one_pass_reads_every_frame_once(store, monkeypatch):
    n_read = Counter()
    blocks = Store.blocks

    def counted(self, *choice):
        for block in blocks(self, *choice):
            n_read["frames"] += len(block["size"])
            yield block

    monkeypatch.setattr(Store, "blocks", counted)
    compute_summary(store)
    assert n_read["frames"] == len(store)


def test_it_is_computed_once_and_again_for_another_store(store, monkeypatch):
    calls = Counter()
    compute = store_summary.compute_summary
    monkeypatch.setattr(store_summary, "compute_summary", lambda *a: calls.update(["n"]) or compute(*a))
    first = summary_of(store)
    assert summary_of(store) == first
    assert calls["n"] == 1
    kept = store.path.with_name("store.h5.statistics.json")
    assert json.loads(kept.read_text())["fingerprint"] == store.content_sha256
    summary_of(store, cutoff=4.0)
    kept.write_text(kept.read_text().replace(first.fingerprint, "0" * 64))  # as of another store
    assert summary_of(store).mean_neighbors == first.mean_neighbors
    kept.write_text("{")
    assert summary_of(store) == first
    assert calls["n"] == 4
