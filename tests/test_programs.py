"""Programs belong to the process: many structures need few of them, and those that leave give their memory back."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import ase.build
import jax
import numpy as np
import pytest

import mlip
from mlip import programs
from mlip.graph.batching import Shape
from mlip.hardware import CPU
from mlip.programs import Registry, Shapes
from tests.relaxation.morse import morse_potential

A_COMPILATION = int(CPU.compilation_operations / programs._OPERATIONS_OF_AN_EDGE)
"""In edges, of a model whose programs told nothing."""


@pytest.fixture
def shapes(monkeypatch) -> Shapes:
    monkeypatch.setattr(programs, "hardware", lambda: CPU)
    return Shapes()


def cost(shape: Shape) -> int:
    return shape.n_node + shape.n_edge


def test_structures_of_all_sizes_take_few_shapes(shapes):
    random = np.random.default_rng(0)
    n_atoms = random.integers(2, 200, 1000)
    for n, neighbors in zip(n_atoms, random.integers(20, 70, 1000), strict=True):
        needed = Shape(int(n) + 1, int(n * neighbors), 2)
        shape = shapes.choose(needed)
        assert all(room >= size for room, size in zip(shape, needed, strict=True))
        shapes.add(shape, None)
    assert len(shapes) <= 12


def test_growing_structures_take_a_shape_each_time_that_they_double(shapes):
    for n in range(2, 200):
        shapes.add(shapes.choose(Shape(n + 1, 50 * n, 2)), None)
    assert len(shapes) <= 9


def test_a_smaller_structure_takes_a_larger_shape_until_that_has_cost_a_compilation(shapes):
    large, small = Shape(200, 10_000, 2), Shape(20, 1_000, 2)
    there = shapes.choose(large)
    shapes.add(there, None)
    padding, n = 0, 0
    while (shape := shapes.choose(small)) == there:
        padding += cost(there) - cost(small)
        n += 1
    assert 0.8 * A_COMPILATION < padding < 1.2 * A_COMPILATION
    assert cost(shape) < 1.25 * cost(small)
    shapes.add(shape, None)
    assert shapes.choose(small) == shape
    assert shapes.choose(large) == there


def test_a_long_run_of_one_structure_does_not_pay_for_padding_for_ever(shapes):
    needed = Shape(65, 4_200, 2)
    met = []
    for _ in range(1_000):
        met.append(shapes.choose(needed))
        shapes.add(met[-1], None)
    assert cost(met[0]) > 1.8 * cost(needed)
    assert cost(met[-1]) < 1.2 * cost(needed)
    assert len(set(met)) == 2


def test_many_batches_at_once_are_worth_a_shape_of_their_own(shapes):
    needed = Shape(100, 8_500, 10)
    assert cost(shapes.choose(needed, n_evaluations=1)) > 1.5 * cost(needed)
    assert cost(shapes.choose(needed, n_evaluations=200)) < 1.2 * cost(needed)


def test_a_costly_model_compiles_sooner(shapes):
    large, small = Shape(200, 10_000, 2), Shape(20, 1_000, 2)
    there = shapes.choose(large)
    shapes.add(there, 20 * programs._OPERATIONS_OF_AN_EDGE * cost(there))
    n = 0
    while shapes.choose(small) == there:
        n += 1
    assert n < A_COMPILATION / 20 / (cost(there) - cost(small)) + 1


def test_the_least_recently_used_program_leaves(monkeypatch):
    monkeypatch.setattr(programs, "MOST_PROGRAMS", 2)
    registry, released = Registry(), []

    def compile_(n: int):
        return registry.compile(n, lambda x: x + n, (np.ones(n),), partial(released.append, n))[0]

    for n in (1, 2):
        compile_(n)
    assert registry.find(1)(np.ones(1)) == 2
    program = compile_(3)
    assert released == [2]
    assert [n in registry for n in (1, 2, 3)] == [True, False, True]
    compile_(2)
    assert released == [2, 1]
    assert (program(np.ones(3)) == 4).all()


def test_a_program_that_is_refused_is_not_kept():
    registry = Registry()

    def refuse(_):
        raise MemoryError

    with pytest.raises(MemoryError):
        registry.compile("huge", lambda x: x, (np.ones(1),), check=refuse)
    assert len(registry) == 0


def test_programs_leave_when_the_process_has_few_memory_maps_left(monkeypatch):
    registry = Registry()
    for n in (1, 2, 3):
        registry.compile(n, lambda x: 2 * x, (np.ones(n),))
    monkeypatch.setattr(programs, "_SHARE_OF_MAPS", 0.0)
    registry.compile(4, lambda x: 2 * x, (np.ones(4),))
    assert 4 in registry
    assert len(registry) == 1


def test_what_is_being_traced_passes_through():
    table, place = np.arange(3, dtype=np.float32), np.array([2])
    scaled = programs.Jitted(lambda model, x, table, place: model * x[0] * table[place + 0 * x.astype(int)][0])
    assert jax.grad(lambda x: scaled(3.0, x, table, place).sum())(np.ones(1, np.float32)) == 6.0
    assert scaled(3.0, np.ones(1, np.float32), table, place) == 6.0


MANY = """
import ase.build, numpy as np
import mlip
from mlip import programs
from tests.relaxation.morse import morse_potential

programs.MOST_PROGRAMS = 3
potential = morse_potential(cutoff=4.5)

def maps():
    return sum(1 for _ in open("/proc/self/maps"))

def evaluate(how, atoms, dtype):
    if how == "predict":
        return potential.predict([atoms], dtype)
    if how == "relax":
        return mlip.relax([atoms], potential, steps=2, dtype=dtype, progress=False)
    atoms.calc = mlip.MLIPCalculator(potential, dtype)
    return atoms.get_potential_energy()

for dtype, how in (("float32", "calculator"), ("float32", "predict"), ("float64", "calculator"), ("float32", "relax")):
    for n in np.random.default_rng(0).permutation(np.arange(2, 62)):
        evaluate(how, ase.build.bulk("Cu", a=3.4 + 0.02 * (n % 10)) * (int(n), 1, 1), dtype)
    print(dtype, how, len(programs.registry), maps(), flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells memory maps")
def test_a_new_calculator_for_each_structure_neither_compiles_nor_grows_without_bound():
    repository = Path(__file__).parent.parent
    result = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, check=True, cwd=repository)
    rows = [line.split() for line in result.stdout.splitlines()]
    assert len(rows) == 4
    assert all(int(n_programs) <= 3 for *_, n_programs, _ in rows)
    maps = [int(n) for *_, n in rows]
    assert max(maps) < 3 * 600 + 1_500  # those of Python and its libraries; a program takes 50 to 600


def test_calculators_and_predict_share_their_programs():
    potential = morse_potential(cutoff=4.75)
    before = set(programs.registry._programs)
    energies = []
    for size in (2, 1):
        atoms = ase.build.bulk("Si") * (size, size, size)
        energies.append(potential.predict([atoms])[0]["energy"])
        atoms.calc = mlip.MLIPCalculator(potential)
        assert atoms.get_potential_energy() == energies[-1]
    assert energies[0] == pytest.approx(8 * energies[1], abs=1e-4)
    assert len(set(programs.registry._programs) - before) == 1
