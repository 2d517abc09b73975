"""A batch that does not fit into memory is no crash: smaller ones follow, and every structure has its result."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from jax.errors import JaxRuntimeError
from morse import morse_potential

import mlip
from mlip.graph.batching import Shape
from mlip.hardware import CPU
from mlip.relaxation import memory, step_programs
from mlip.relaxation.memory import Room, available_memory
from mlip.relaxation.step_programs import Programs


@pytest.fixture
def fresh(monkeypatch):
    """A process that has compiled nothing yet, whose batches would be large; and the programs that it makes."""
    large = replace(CPU, largest_relaxation=8_192, smallest_relaxation=256, relaxation_compilation=10**9)
    monkeypatch.setattr(step_programs, "hardware", lambda: large)
    made = []

    def programs_of(model, dtype, with_symmetry):
        made[:] = made or [Programs(model, dtype)]
        return made[0]

    monkeypatch.setattr("mlip.relaxation.queue.programs_of", programs_of)
    return made


def refusing(monkeypatch, most_edges: int) -> list[Shape]:
    """Programs with more edges fail as on a full GPU. Gives the list of those that did."""
    refused, make = [], Programs._program

    def program(self, shape, device, arguments):
        compiled, seconds = make(self, shape, device, arguments)

        def fail(*_):
            refused.append(shape)
            raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12884901888 bytes.")

        return (fail if shape.n_edge > most_edges else compiled), seconds

    monkeypatch.setattr(Programs, "_program", program)
    return refused


def test_batches_are_halved_until_they_fit_and_all_structures_end_as_they_would_have(
    crystals, potential, fresh, monkeypatch
):
    structures = [atoms * (1, 1, 2) for atoms in crystals.values()] * 6
    expected = mlip.relax(structures, potential, progress=False, dtype="float64")
    fresh.clear()
    refused = refusing(monkeypatch, 2_048)
    with pytest.warns(UserWarning, match="out of memory with 8,192 edges a batch: 4,096 from now on"):
        results = mlip.relax(structures, potential, progress=False, dtype="float64")
    assert {shape.n_edge for shape in refused} == {8_192, 4_096}
    assert fresh[0].budget == 2_048
    for result, reference in zip(results, expected, strict=True):
        assert result.n_steps == reference.n_steps
        assert result.energy == pytest.approx(reference.energy, abs=1e-9)


def test_a_structure_that_does_not_fit_by_itself_fails_with_its_reason(crystals, potential, fresh, monkeypatch):
    refusing(monkeypatch, 2_048)
    huge = crystals["diamond"] * (4, 4, 4)
    with pytest.warns(UserWarning, match="out of memory"):
        good, failed, also_good = mlip.relax([crystals["hcp"], huge, crystals["rocksalt"]], potential, progress=False)
    assert failed.reason == "error"
    assert "edges do not fit into memory: RESOURCE_EXHAUSTED" in failed.message
    assert good.converged
    assert also_good.converged


def test_another_error_of_the_device_is_not_taken_for_a_lack_of_memory(crystals, potential, fresh, monkeypatch):
    def program(self, shape, device, arguments):
        raise JaxRuntimeError("INTERNAL: the device is gone")

    monkeypatch.setattr(Programs, "_program", program)
    with pytest.raises(JaxRuntimeError, match="the device is gone"):
        mlip.relax([crystals["hcp"]], potential, progress=False)


def test_on_a_cpu_a_program_that_needs_more_than_is_free_does_not_run(crystals, potential, fresh, monkeypatch):
    monkeypatch.setattr(step_programs, "available_memory", lambda: 1e4)  # bytes
    with pytest.warns(UserWarning, match="out of memory"):
        (result,) = mlip.relax([crystals["hcp"]], potential, progress=False)
    assert result.reason == "error"
    assert "GB are free" in result.message


def test_available_memory_is_the_least_of_machine_and_container(tmp_path, monkeypatch):
    assert 0 < available_memory() < 2**50
    monkeypatch.setattr(memory, "virtual_memory", lambda: SimpleNamespace(available=51_200))
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert available_memory() == 51_200
    for name, content in {"max": "40000\n", "current": "30000\n", "stat": "anon 5\ninactive_file 2000\n"}.items():
        (tmp_path / f"memory.{name}").write_text(content)
    assert available_memory() == 12_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() == 51_200


def test_programs_of_several_threads_wait_until_all_of_them_fit(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 10.0)
    room, running, most = Room(), [], []

    def run(n_bytes: float) -> None:
        with room.taken(n_bytes):
            running.append(n_bytes)
            most.append(sum(running))
            time.sleep(0.01)
            running.remove(n_bytes)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, [4.0] * 12))
        list(pool.map(run, [30.0]))  # fits nowhere beside others, and may run alone
    assert len(most) == 13
    assert sorted(most)[-2:] == [8.0, 30.0]


def test_batches_of_all_cores_are_weighed_together(crystals, potential, fresh, monkeypatch):
    """Each batch fits by itself, two do not: they take turns, and nobody is told that memory lacks."""
    monkeypatch.setattr(step_programs, "_check_memory", lambda program: 6)
    monkeypatch.setattr(memory, "available_memory", lambda: 10.0)
    monkeypatch.setattr("mlip.relaxation.queue.n_cores", lambda: 4)
    room = Room()
    monkeypatch.setattr(step_programs, "_ROOM", room)
    results = mlip.relax(list(crystals.values()) * 4, potential, progress=False)
    assert all(result.converged for result in results)
    assert room.most_taken == 6


def test_a_shape_is_rented_until_the_padding_has_cost_a_compilation():
    chooser = Programs(morse_potential().model, "float32")
    chooser._hardware = replace(CPU, relaxation_compilation=10_000)
    large, small = Shape(100, 2_000, 20), Shape(10, 300, 5)
    first = chooser.choose(large)
    assert first == Shape(128, 2_048, 64)
    assert chooser.choose(small) == first
    chooser.count_waste(small, first, n_evaluations=3)
    assert chooser.choose(small) == first
    chooser.count_waste(small, first, n_evaluations=4)
    assert chooser.choose(small) == Shape(24, 384, 12)
    assert chooser.choose(small) == Shape(24, 384, 12)


def test_batches_of_different_sizes_pay_for_a_shape_together():
    chooser = Programs(morse_potential().model, "float32")
    chooser._hardware = replace(CPU, relaxation_compilation=10_000)
    first = chooser.choose(Shape(100, 2_000, 20))
    small, smaller, middle = Shape(10, 300, 5), Shape(10, 200, 5), Shape(30, 900, 9)
    chooser.count_waste(small, first, n_evaluations=3)
    chooser.count_waste(smaller, first, n_evaluations=3)
    assert chooser.choose(middle) == first
    assert chooser.choose(smaller) == Shape(24, 384, 12)  # holds both; a tight one would have saved half of them
    chooser.count_waste(smaller, Shape(24, 384, 12), n_evaluations=3)
    assert chooser.choose(smaller) == Shape(24, 384, 12)  # counted anew, against the new one
