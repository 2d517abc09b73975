"""The loader: every frame once an epoch, nothing mixed up, the same batches again after a resume."""

import gc
import json
import threading
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise

import jax
import numpy as np
import pytest
from ase.build import bulk

from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.graph import window
from mlip.graph.batching import Shape
from mlip.graph.labeled_graphs import EnergyLabels, LabeledGraphs, labeled_graphs
from mlip.graph.loader import EvaluationLoader, TrainingLoader
from mlip.graph.order import Source
from mlip.graph.radius_graph import RadiusGraph
from tests.clean_process import with_peak_memory

CUTOFF = 4.0
N_FRAMES = 150
REFERENCE = np.linspace(-3, 3, 119)


def random_frame(rng, k: int) -> Frame:
    atoms = bulk(["Cu", "Si", "NaCl", "Fe"][k % 4], ["fcc", "diamond", "rocksalt", "bcc"][k % 4], a=4.0 + 0.01 * k)
    atoms = atoms * (1, 1, int(rng.integers(1, 4)))
    atoms.rattle(0.05, seed=k)
    return Frame(
        atoms.numbers.astype(np.int16),
        atoms.positions,
        atoms.cell[:],
        atoms.pbc,
        energy=float(k),
        forces=rng.normal(size=(len(atoms), 3)).astype(np.float32) if k % 5 else None,
        stress=rng.normal(size=6),
    )


def write_store(path, frames) -> Store:
    with StoreWriter(path) as writer:
        for k, frame in enumerate(frames):
            writer.add(Trajectory(f"mat{k:04d}", [frame], "PBE", 3), "train")
    return Store(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    rng = np.random.default_rng(0)
    return write_store(tmp_path_factory.mktemp("loader") / "store.h5", [random_frame(rng, k) for k in range(N_FRAMES)])


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch):
    """Several windows an epoch, the last one ragged; shapes from a part of the frames."""
    monkeypatch.setattr(window, "WINDOW", 48)
    monkeypatch.setattr(window, "_SAMPLE", 64)


def training_loader(store, indices=None, **options) -> TrainingLoader:
    indices = store.indices() if indices is None else indices
    options = {"batch_size": 12, "seed": 5} | options
    return TrainingLoader(LabeledGraphs(store, RadiusGraph(CUTOFF), EnergyLabels(REFERENCE)), indices, **options)


def epoch_of(loader: TrainingLoader) -> list:
    return [batch for batch, _ in islice(loader, loader.steps_per_epoch)]


def frames_in(batches) -> list[int]:
    frames = np.concatenate([batch.globals["frame"].ravel() for batch in batches])
    return frames[frames >= 0].tolist()


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("n_devices", [1, 2, 4])
@pytest.mark.parametrize("n_frames", [N_FRAMES, 144, 145, 13, 12, 3, 1])
def test_every_epoch_sees_every_frame_exactly_once_in_another_order(store, n_frames, n_devices):
    loader = training_loader(store, store.indices()[:n_frames], n_devices=n_devices)
    assert loader.steps_per_epoch == -(-n_frames // 12)
    first, second = frames_in(epoch_of(loader)), frames_in(epoch_of(loader))
    assert sorted(first) == sorted(second) == list(range(n_frames))
    if n_frames > 12:
        assert first != second


def test_every_graph_of_a_batch_is_the_graph_of_its_frame(store):
    loader = training_loader(store, n_devices=2)
    for batch in epoch_of(loader):
        for device in range(2):
            part = jax.tree.map(lambda array: array[device], batch)  # noqa: B023
            first_nodes = np.cumsum(part.n_node) - part.n_node
            first_edges = np.cumsum(part.n_edge) - part.n_edge
            for g, frame in enumerate(part.globals["frame"].tolist()):
                if frame < 0:
                    continue
                expected = labeled_graphs([store.frame(frame)], RadiusGraph(CUTOFF), EnergyLabels(REFERENCE))[0]
                nodes = slice(first_nodes[g], first_nodes[g] + part.n_node[g])
                edges = slice(first_edges[g], first_edges[g] + part.n_edge[g])
                positions, cell = part.nodes["positions"], part.globals["cell"][g]
                vectors = positions[part.senders[edges]] - positions[part.receivers[edges]]
                vectors = vectors + part.edges["shifts"][edges] @ cell
                x, c = expected.nodes["positions"], expected.globals["cell"][0]
                right = x[expected.senders] - x[expected.receivers] + expected.edges["shifts"] @ c
                np.testing.assert_array_equal(vectors, right)
                np.testing.assert_array_equal(part.nodes["species"][nodes], expected.nodes["species"])
                np.testing.assert_array_equal(part.nodes["forces"][nodes], expected.nodes["forces"])
                for label in ("energy", "stress"):
                    np.testing.assert_array_equal(part.globals[label][g], expected.globals[label][0])
            assert all(a <= b for a, b in pairwise(part.receivers))
            assert part.n_node[-1] >= 1


def test_every_full_step_has_exactly_the_batch_size_and_no_step_is_tiny(store):
    loader = training_loader(store, batch_size=16)
    counts = [statistics.n_graphs for _, statistics in islice(loader, loader.steps_per_epoch)]
    assert sum(counts) == N_FRAMES
    assert counts[:-1] == [16] * 9
    assert counts[-1] == N_FRAMES - 9 * 16
    counts = [s.n_graphs for _, s in islice(training_loader(store, store.indices()[:40], batch_size=16), 3)]
    assert sorted(counts) == [13, 13, 14]  # within a window what is missing is shared out


def test_the_same_seed_gives_the_same_batches_and_another_seed_others(store):
    batches = epoch_of(training_loader(store))
    assert_same(epoch_of(training_loader(store)), batches)
    assert frames_in(epoch_of(training_loader(store, seed=6))) != frames_in(batches)


def mixture(store) -> list[Source]:
    """Two thirds of each epoch from the first 120 frames, one third from the other 30."""
    return [Source(store.indices()[:120], 2.0), Source(store.indices()[120:], 1.0)]


@pytest.mark.parametrize("order", ["frames", "blocks", "mixture"])
@pytest.mark.parametrize("n_steps", [0, 1, 3, 5, 12, 13, 14, 30])
def test_a_resumed_run_sees_the_very_next_batch(store, n_steps, order):
    frames = mixture(store) if order == "mixture" else store.indices()
    block = 1 if order == "frames" else 8
    uninterrupted = training_loader(store, frames, block=block)
    for _ in range(n_steps):
        next(uninterrupted)
    state = json.loads(json.dumps(uninterrupted.get_state()))
    resumed = training_loader(store, frames, block=block)
    next(resumed)  # whatever it has prefetched must not matter
    resumed.set_state(state)
    assert resumed.epoch == uninterrupted.epoch
    expected = [batch for batch, _ in islice(uninterrupted, 15)]
    assert_same([batch for batch, _ in islice(resumed, 15)], expected)


def test_resuming_over_other_data_is_refused_but_for_the_start_of_an_epoch(store):
    loader = training_loader(store)
    next(loader)
    with pytest.raises(MlipError, match="n_frames, frames_crc32, frames_of_sources changed"):
        training_loader(store, store.indices()[:-1]).set_state(loader.get_state())
    for _ in range(loader.steps_per_epoch - 1):
        next(loader)
    shorter = training_loader(store, store.indices()[:-10])
    shorter.set_state(loader.get_state())
    assert shorter.epoch == 1
    assert sorted(frames_in(epoch_of(shorter))) == list(range(N_FRAMES - 10))


@pytest.mark.parametrize("process_count", [1, 2])
def test_sources_have_their_shares_of_every_epoch(store, process_count):
    def three_epochs(process) -> list[int]:
        loader = training_loader(store, mixture(store), block=4, **process)
        return frames_in([batch for _ in range(3) for batch in epoch_of(loader)])

    seen = np.bincount(np.concatenate(in_processes(process_count, three_epochs)), minlength=N_FRAMES)
    assert seen[:120].sum() == 3 * 100
    assert seen[120:].sum() == 3 * 50
    assert set(seen[:120]) == {2, 3}  # 100 of 120 an epoch, three times
    assert (seen[120:] == 5).all()


def test_frames_of_a_block_are_mixed_with_those_of_others(store):
    loader = training_loader(store, block=8)
    first = frames_in(epoch_of(loader)[:4])  # a window: six blocks
    assert len({frame // 8 for frame in first}) <= 7  # and, at most, the rest of the epoch's end
    assert max(sum(frame // 8 == block for frame in first[:12]) for block in set(np.array(first) // 8)) < 8


def in_processes(process_count: int, work) -> list:
    """What `work(options of a loader)` gives in each process; the processes are threads here."""
    meeting, told = threading.Barrier(process_count), [None] * process_count

    def process(index: int):
        def gather(compute):
            told[index] = json.dumps(compute())
            meeting.wait(timeout=60)
            found = [json.loads(text) for text in told]
            meeting.wait(timeout=60)
            return found

        return work({"process_index": index, "process_count": process_count, "gather": gather})

    with ThreadPoolExecutor(process_count) as pool:
        return list(pool.map(process, range(process_count)))


def assert_is_shared(shares: list[list], frames: list[int]) -> None:
    """Every frame in one process, the same program in all of them at each step."""
    assert len({len(batches) for batches in shares}) == 1
    assert sorted(frames_in([batch for batches in shares for batch in batches])) == frames
    for step in zip(*shares, strict=True):
        assert len({str(jax.tree.map(np.shape, batch)) for batch in step}) == 1


@pytest.mark.parametrize("process_count", [2, 3, 4])
@pytest.mark.parametrize(("n_frames", "block"), [(N_FRAMES, 1), (149, 8), (50, 1), (49, 8), (2, 1), (1, 8)])
def test_processes_share_each_epoch_in_steps_of_one_shape(store, process_count, n_frames, block):
    indices = store.indices()[:n_frames]

    def two_epochs(process) -> list[list]:
        loader = training_loader(store, indices, block=block, **process)
        return [epoch_of(loader), epoch_of(loader)]

    for shares in zip(*in_processes(process_count, two_epochs), strict=True):
        assert_is_shared(shares, list(range(n_frames)))


@pytest.mark.parametrize("n_frames", [N_FRAMES, 50, 49, 1])
def test_processes_share_an_evaluation_in_steps_of_one_shape(store, n_frames):
    build_graph = LabeledGraphs(store, RadiusGraph(CUTOFF), EnergyLabels(REFERENCE))

    def share(process) -> list:
        loader = EvaluationLoader(build_graph, store.indices()[:n_frames], batch_size=12, **process)
        batches = [batch for batch, _ in loader]
        assert len(batches) == len(loader)
        return batches

    assert_is_shared(in_processes(2, share), list(range(n_frames)))


def test_a_larger_batch_elsewhere_is_more_padding_here(store):
    agreed = Shape(120, 3000, 20)

    def gather(compute):
        mine = compute()
        return [mine, [agreed] * len(mine)]

    loader = training_loader(store, gather=gather)
    for (batch, statistics), (small, small_statistics) in zip(islice(loader, 5), training_loader(store), strict=False):
        assert statistics.shape == agreed
        assert statistics[:3] == small_statistics[:3]
        assert frames_in([batch]) == frames_in([small])


def test_worker_processes_give_the_batches_that_threads_give(store):
    by_threads = training_loader(store, n_devices=2)
    by_workers = training_loader(store, n_devices=2, n_workers=1)
    for loader in (by_threads, by_workers):
        loader.set_state(by_threads.get_state() | {"step": 2})
    assert_same(
        [batch for batch, _ in islice(by_workers, 14)],
        [batch for batch, _ in islice(by_threads, 14)],
    )
    by_workers.close()


def test_batches_that_were_taken_are_let_go(store):
    loader, given = training_loader(store), []
    for _ in range(3 * loader.steps_per_epoch):
        given.append(weakref.ref(next(loader)[0].senders))
    gc.collect()
    held = sum(senders() is not None for senders in given)
    loader.close()
    assert held <= window.WINDOW // 12  # those of one window


def held_after(path, *epochs: int) -> list[int]:
    """Bytes that a loader's process holds after so many epochs more."""
    window.WINDOW, window._SAMPLE = 48, 64
    loader, held = training_loader(Store(path)), []
    for n in epochs:
        for _ in range(n * loader.steps_per_epoch):
            next(loader)
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
    return held


def test_memory_does_not_grow_with_the_epochs(store):
    (early, late), _ = with_peak_memory(held_after, store.path, 3, 40)
    assert late < early + 1_000_000  # prefetched windows of 150 kB come and go; the batches of 40 epochs have 8 MB


def broken_store(path, at: int) -> Store:
    rng = np.random.default_rng(0)
    frames = [random_frame(rng, k) for k in range(N_FRAMES)]
    twice = frames[at]
    frames[at] = Frame(
        np.tile(twice.numbers, 2), np.tile(twice.positions, (2, 1)), twice.cell, twice.pbc, energy=1.0, ionic_step=4
    )
    return write_store(path, frames)


@pytest.mark.parametrize("n_workers", [0, 1])
def test_coincident_atoms_stop_the_loader_with_the_material_id(tmp_path, n_workers, monkeypatch):
    monkeypatch.setattr(window, "_SAMPLE", 1)  # the smallest frame, or the broken one is found before the first epoch
    loader = training_loader(broken_store(tmp_path / "store.h5", at=100), n_workers=n_workers)
    with pytest.raises(MlipError, match=r"mat0100: calculation 0, step 4 .*: atoms 0 and \d+ coincide"):
        epoch_of(loader)
    loader.close()


def test_statistics_say_what_is_in_the_batch_and_how_much_is_padding(store):
    loader = training_loader(store, n_devices=2)
    n_graphs = n_atoms = n_edges = 0
    slots = np.zeros(2)
    for batch, statistics in islice(loader, loader.steps_per_epoch):
        assert batch.nodes["species"].shape == (2, statistics.shape.n_node)
        assert batch.senders.shape == (2, statistics.shape.n_edge)
        assert batch.n_node.shape == (2, statistics.shape.n_graph)
        assert statistics.n_atoms == (batch.nodes["species"] > 0).sum()
        n_graphs += statistics.n_graphs
        n_atoms += statistics.n_atoms
        n_edges += statistics.n_edges
        slots += [batch.nodes["species"].size, batch.senders.size]
    assert n_graphs == N_FRAMES
    np.testing.assert_allclose(loader.padded_fraction, 1 - np.array([n_atoms, n_edges]) / slots)
    assert 1 <= len(loader.shapes) <= 4


@pytest.mark.parametrize("n_devices", [1, 3])
@pytest.mark.parametrize("n_frames", [N_FRAMES, 50, 1, 0])
def test_evaluation_sees_every_frame_once_and_always_in_the_same_order(store, n_frames, n_devices):
    build_graph = LabeledGraphs(store, RadiusGraph(CUTOFF), EnergyLabels(REFERENCE))
    loader = EvaluationLoader(build_graph, store.indices()[:n_frames], batch_size=12, n_devices=n_devices)
    batches = [batch for batch, _ in loader]
    assert len(batches) == len(loader) == -(-n_frames // 12)
    assert sorted(frames_in(batches) if batches else []) == list(range(n_frames))
    assert_same([batch for batch, _ in loader], batches)


def test_a_batch_that_devices_cannot_share_and_an_empty_training_set_are_refused(store):
    with pytest.raises(MlipError, match="12 structures cannot be shared equally by 5 devices"):
        training_loader(store, n_devices=5)
    with pytest.raises(MlipError, match="no frames"):
        training_loader(store, np.zeros(0, np.int64))
