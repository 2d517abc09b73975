"""benchmarks/{cases,comparison,mace,cost}.py: what is compared, when two programs agree, and what is said of it."""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import ase.build
import ase.io
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import cost
from cases import Case, batch_case, cell_case, n_edges, representative
from comparison import compare, faults, table
from side_by_side import Outcome

from mlip.models.m3gnet import M3GNetConfig
from mlip.models.mace import MACEConfig
from mlip.potential import Potential, PotentialMetadata

# Imported by its path: mace-torch has its name.
mace = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "mace.py")))
CASE = Case("two cells", "predict", Path("none"), n_atoms=[2, 4], n_edges=60)
CHECK = {"energy": [-2.0, -8.0], "forces": np.zeros((6, 3)).tolist(), "stress": np.zeros((2, 6)).tolist()}
TOLERANCES = {"energy": 1e-5, "forces": 1e-4, "stress": 1e-5}


def outcome(*seconds: float, energy: float = -8.0, elsewhere: float = 0.0) -> Outcome:
    return Outcome(list(seconds), [elsewhere] * len(seconds), CHECK | {"energy": [-2.0, energy]})


def record(mine: Outcome, theirs: Outcome) -> dict:
    comparison = compare(CASE, "mlip", "peer", {"mlip": mine, "peer": theirs}, same_weights=True)
    return CASE.describe() | {
        "times": {"mlip": mine.as_dict(), "peer": theirs.as_dict()},
        "comparisons": [comparison],
    }


def test_times_are_compared_by_their_medians_and_by_their_minima():
    (comparison,) = record(outcome(1.0, 2.0, 9.0), outcome(5.0, 6.0, 7.0))["comparisons"]
    assert comparison["ratio"] == 3.0
    assert comparison["ratio_of_minima"] == 5.0


def test_energies_are_compared_an_atom_and_a_difference_is_a_fault():
    (comparison,) = record(outcome(1.0), outcome(1.0, energy=-8.4))["comparisons"]
    assert comparison["differences"]["energy"] == pytest.approx(0.1)
    assert faults([record(outcome(1.0), outcome(1.0))], TOLERANCES) == []
    (fault,) = faults([record(outcome(1.0), outcome(1.0, energy=-8.4))], TOLERANCES)
    assert fault == "two cells: mlip and peer differ in energy by 0.1"
    assert faults([record(outcome(1.0), outcome(1.0, energy=np.nan))], TOLERANCES) != []


def test_a_side_that_failed_is_a_fault_and_has_a_line_in_the_table():
    failed = Outcome([], [], {}, "out of memory\nat a path of this machine")
    records = [record(outcome(1.0), failed)]
    assert "two cells: peer: out of memory" in faults(records, TOLERANCES)
    assert table(records, "1 thread").row_count == 1


def test_memory_has_columns_where_a_side_tells_it():
    silent, telling = record(outcome(1.0), outcome(2.0)), record(outcome(1.0)._replace(memory=10**9), outcome(2.0))
    assert telling["times"]["mlip"]["memory_mb"] == 1000
    assert len(table([telling], "").columns) == len(table([silent], "").columns) + 2


def test_sides_with_the_same_weights_that_disagree_are_not_timed():
    ours, theirs, far = outcome(), outcome(energy=-8.0 + 1e-6), outcome(energy=-8.4)
    assert mace.objection(CASE, {"mlip": ours, "mace-torch": theirs}) is None
    assert mace.objection(CASE, {"mlip": ours, "instadeep": far}) is None, "its weights are others"
    assert "mace-torch differ in energy by 0.1" in mace.objection(CASE, {"mlip": ours, "mace-torch": far})


def test_mace_torch_compiled_takes_part_in_the_calculator_alone():
    names = ["mlip", "mace-torch", "mace-torch, compiled", "instadeep"]
    sides = {name: SimpleNamespace(name=name) for name in names}
    cell, batch = replace(CASE, task="calculator"), replace(CASE, task="model")
    assert mace.contestants(cell, sides, whole_batches=True).keys() == {*names, "mlip, skin 0"}
    takers = mace.contestants(batch, sides, whole_batches=True)
    assert takers.keys() == {"mlip", "mace-torch", "instadeep"}
    assert takers["mlip"].options == {"batch_edges": CASE.n_edges}
    assert mace.contestants(batch, sides, whole_batches=False)["mlip"].options == {}


def test_cells_are_representative_and_vibrate_while_batches_start_again(tmp_path):
    copper = [ase.build.bulk("Cu", a=a, cubic=True) for a in (3.4, 3.6, 3.8)]
    pool = [*copper, ase.build.bulk("NaCl", "rocksalt", a=5.64)]
    assert representative(pool, 5, cutoff=4.0) is copper[1], "of three cells of four atoms the one in the middle"
    case = cell_case(copper[1], tmp_path, cutoff=4.0)
    frames = ase.io.read(case.path, ":")
    assert len(frames) == 100
    assert case.n_edges == n_edges(copper[1], 4.0) == 4 * 18
    moved = frames[30].positions - frames[0].positions
    assert 0.01 < np.abs(moved).max() < 0.5
    batch = batch_case(pool, "model", 9, tmp_path, cutoff=4.0)
    assert len(ase.io.read(batch.path, ":")) == len(batch.n_atoms) == 9
    assert sorted(batch.n_atoms[:4]) == [2, 4, 4, 4]


def test_peers_get_our_dimensions_in_the_words_that_the_converter_reads(shared):
    theirs = json.loads((shared / "goldens/mace/mace_L1_residual_mp0like_config.json").read_text())
    ours = mace.peer_config(MACEConfig(channels=16))
    made_up = {"mace_torch", "atomic_energies", "scale", "shift"}
    assert {key: ours[key] for key in ours.keys() - made_up} == {key: theirs[key] for key in ours.keys() - made_up}


def test_cost_is_told_an_atom_and_an_edge():
    configs = {"small": M3GNetConfig(), "large": MACEConfig()}
    potentials = {name: Potential(c, {}, PotentialMetadata(reference_energies={})) for name, c in configs.items()}
    outcomes = {"small": outcome(0.001, 0.002, 0.003), "large": outcome(0.01)}
    small, large = cost.records(potentials, outcomes, n_atoms=10, edges={5.0: 200, 6.0: 400})
    assert (small["us_per_atom"], small["us_per_edge"], small["times_the_first"]) == (200.0, 10.0, 1.0)
    assert (large["us_per_atom"], large["us_per_edge"], large["times_the_first"]) == (1000.0, 25.0, 5.0)
    report = {"models": [small, large], "crystals": 2, "data": "file", "atoms": 10, "threads": 1}
    shown = cost.table(report | {"machine": {"processor": "p", "date": "d"}}).to_markdown()
    assert "| large |" in shown
    assert "Not to be trusted" not in shown
