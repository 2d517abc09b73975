"""Reference energies and scales, against what the data were made from."""

import json

import numpy as np
import pytest

from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.data.force_scale import ForceSums
from mlip.data.label_statistics import LabelStatistics, compute_statistics
from mlip.data.readers.sources import read_source
from mlip.errors import MlipError

E0 = {1: -3.25, 8: -1.5, 26: -8.0}


@pytest.fixture
def write(tmp_path):
    def to_store(frames, splits=None):
        path = tmp_path / "store.h5"
        with StoreWriter(path) as writer:
            for k, frame in enumerate(frames):
                writer.add(Trajectory(f"m{k}", [frame], "PBE", 3), splits[k] if splits else "train")
        return Store(path)

    return to_store


def frame(numbers, energy, forces=None):
    n = len(numbers)
    positions = np.random.default_rng(0).normal(size=(n, 3))
    return Frame(np.array(numbers, np.int16), positions, np.eye(3) * 9, np.ones(3, bool), energy, forces)


def mixtures(n, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        numbers = rng.choice(list(E0), rng.integers(1, 9))
        energy = sum(E0[z] for z in numbers) + noise * rng.normal() * len(numbers)
        made.append(frame(numbers, energy, rng.normal(size=(len(numbers), 3)) * 0.3))
    return made


def test_energies_that_are_sums_over_atoms_give_back_the_atoms(write):
    statistics = compute_statistics(write(mixtures(50)))
    assert statistics.elements == ["H", "O", "Fe"]
    for symbol, z in (("H", 1), ("O", 8), ("Fe", 26)):
        assert statistics.reference_energies[symbol] == pytest.approx(E0[z], abs=1e-9)
    assert statistics.energy_rms_per_atom == pytest.approx(0.0, abs=1e-6)


def test_they_are_numpys_least_squares_of_total_energies(write, monkeypatch):
    monkeypatch.setattr("mlip.data.store.BLOCK_FRAMES", 7)  # several blocks
    frames = mixtures(200, noise=0.1)
    rows = np.array([[np.sum(f.numbers == z) for z in E0] for f in frames], dtype=float)
    energies = np.array([f.energy for f in frames])
    expected = np.linalg.lstsq(rows, energies, rcond=None)[0]
    statistics = compute_statistics(write(frames))
    np.testing.assert_allclose(list(statistics.reference_energies.values()), expected, rtol=1e-10)
    residual = (energies - rows @ expected) / rows.sum(axis=1)
    assert statistics.energy_rms_per_atom == pytest.approx(np.sqrt(np.mean(residual**2)), rel=1e-8)
    forces = np.concatenate([f.forces.ravel() for f in frames])
    assert statistics.force_rms == pytest.approx(np.sqrt(np.mean(forces**2)), rel=1e-6)  # kept as float32
    assert (statistics.n_frames, statistics.n_atoms) == (200, rows.sum())


def test_elements_that_only_come_together_share_their_energy(write):
    salts = [frame([11, 17] * k, -6.8 * k) for k in (1, 2, 4)]
    reference = compute_statistics(write(salts)).reference_energies
    assert reference["Na"] == pytest.approx(-3.4)
    assert reference["Cl"] == pytest.approx(-3.4)


def test_only_the_split_counts(write):
    frames = [frame([1], -1.0), frame([8], -2.0)]
    with write(frames, ["train", "test"]) as store:
        assert compute_statistics(store).elements == ["H"]
        assert compute_statistics(store, "test").elements == ["O"]
        assert compute_statistics(store, None).n_frames == 2
        with pytest.raises(MlipError, match="no frame in the split 'val'"):
            compute_statistics(store, "val")


def test_missing_labels_count_nowhere(write):
    holes = np.full((2, 3), 2.0)
    holes[0] = np.nan
    frames = [frame([1, 1], float("nan"), holes), frame([1], -3.0)]
    statistics = compute_statistics(write(frames))
    assert statistics.reference_energies == {"H": pytest.approx(-3.0)}
    assert statistics.force_rms == pytest.approx(2.0)
    assert np.isnan(compute_statistics(write(frames[1:])).force_rms)


def test_they_survive_json(write):
    statistics = compute_statistics(write(mixtures(5)))
    assert LabelStatistics.from_json(statistics.to_json()) == statistics
    assert json.loads(statistics.to_json())["elements"] == statistics.elements


def pulled(k, n_atoms, size):
    """A frame of hydrogen with forces of a normal distribution of this width, eV/A."""
    return frame([1] * n_atoms, -3.0 * n_atoms, np.random.default_rng(k).normal(size=(n_atoms, 3)) * size)


@pytest.mark.parametrize("n_sound", [19, 800])
def test_a_few_absurd_frames_do_not_make_the_scale_and_are_named(write, monkeypatch, n_sound):
    monkeypatch.setattr("mlip.data.store.BLOCK_FRAMES", 7)
    frames = [pulled(k, 4, 0.5) for k in range(n_sound)]
    sound = compute_statistics(write(frames))
    frames.insert(3, pulled(99, 4, 1e5))
    frames.insert(11, pulled(98, 4, 900.0))
    splits = ["val"] + ["train"] * (len(frames) - 1)
    statistics = compute_statistics(write(frames, splits))
    assert statistics.force_rms > 1000
    assert statistics.robust_force_rms == pytest.approx(sound.robust_force_rms, rel=0.05)
    assert statistics.n_absurd_forces == 2
    assert [k for k, _ in statistics.absurd_frames] == [3, 11]
    assert statistics.absurd_frames[0][1] == pytest.approx(np.abs(frames[3].forces).max(), rel=1e-6)
    assert LabelStatistics.from_json(statistics.to_json()) == statistics


def test_sound_forces_keep_their_root_mean_square_to_the_last_digit(write):
    tails = [pulled(k, 4, 0.01) for k in range(60)] + [pulled(k, 4, 0.6) for k in range(9)] + [pulled(1, 4, 8.0)]
    for frames in (tails, [pulled(1, 4, 300.0)], [pulled(k, 2, 0.0) for k in range(4)], mixtures(30)):
        statistics = compute_statistics(write(frames))
        assert statistics.robust_force_rms == statistics.force_rms
        assert (statistics.n_absurd_forces, statistics.absurd_frames) == (0, [])


def test_real_relaxations_are_sound_but_for_the_outlier_that_is_known(shared):
    """The same set with two further frames had a root mean square of 258 instead of 0.49 eV/A."""
    sums, n_frames = ForceSums(), 0
    for name, n_absurd in (("pbe_relaxations", 0), ("pbe_relaxations_outliers", 1)):
        for path in read_source(shared / "data" / "trajectories" / f"{name}.extxyz.gz"):
            for one in path.frames:
                sums.add(one.forces, np.array([len(one)]))
                n_frames += 1
        found = sums.scale()
        assert found.robust_rms == pytest.approx(0.489, abs=0.001)
        assert (found.robust_rms == found.rms, found.n_absurd) == (n_absurd == 0, n_absurd)
    assert found.rms == pytest.approx(258.5, abs=0.1)
    assert [frame.index for frame in found.absurd] == [n_frames - 2]


@pytest.mark.parametrize("n_sound", [60, 900])
def test_a_few_absurd_energies_do_not_make_the_reference_energies_and_are_named(write, n_sound):
    frames = mixtures(n_sound)
    sound = compute_statistics(write(frames))
    odd = [frame(f.numbers, f.energy + off * len(f)) for f, off in ((frames[4], 1e4), (frames[9], -300.0))]
    statistics = compute_statistics(write([*frames[:7], odd[0], *frames[7:], odd[1]]))
    assert statistics.n_absurd_energies == 2
    assert statistics.absurd_energies == [
        (7, pytest.approx(1e4, rel=1e-2)),
        (n_sound + 1, pytest.approx(-300, rel=1e-2)),
    ]
    for symbol, energy in sound.reference_energies.items():
        assert statistics.reference_energies[symbol] == pytest.approx(energy, abs=1e-6)
    assert statistics.energy_rms_per_atom == pytest.approx(sound.energy_rms_per_atom, abs=1e-6)
    assert LabelStatistics.from_json(statistics.to_json()) == statistics


def test_energies_of_all_electrons_are_not_absurd(write):
    """Thousands of eV an atom, that differ by element: reference energies account for them."""
    frames = [
        frame([z] * n, -500.0 * z * n + 0.1 * k) for k, (z, n) in enumerate([(1, 2), (8, 1), (26, 3), (8, 2)] * 5)
    ]
    statistics = compute_statistics(write(frames))
    assert (statistics.n_absurd_energies, statistics.absurd_energies) == (0, [])
    assert statistics.reference_energies["Fe"] == pytest.approx(-13000, rel=1e-3)
