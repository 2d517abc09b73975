"""benchmarks/paper_structures.py and paper_protocol.py: what stands in the published tables is what was relaxed."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase.data import covalent_radii

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from paper_protocol import PARTS, chains_table, store_of
from paper_structures import CHAINS, SETS, structures

from mlip.benchmark.results import PotentialResults
from mlip.benchmark.suites.chains import VACUUM
from mlip.data import Store


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)
def test_chains_hold_together_along_a_and_nowhere_else(chain):
    atoms = chain.atoms()
    distances = atoms.get_all_distances(mic=True) + 10 * np.eye(len(atoms))
    sums = covalent_radii[atoms.numbers][:, None] + covalent_radii[atoms.numbers]
    nearest = (distances / sums).min(axis=1)
    assert nearest.min() > 0.8, "no two atoms overlap"
    assert nearest.max() < 1.15, "every atom has a bond"
    extents = np.ptp(atoms.positions[:, 1:], axis=0)
    np.testing.assert_allclose(atoms.cell.lengths(), [chain.repeat, *(extents + VACUUM)])


@pytest.mark.parametrize(
    ("name", "n_materials", "dimensionality"),
    [("layers", 261, 2), ("pbesol-paths", 5, 3), ("chains", 9, 1), ("wbm", 972, 3)],
)
def test_a_store_has_the_materials_of_its_set(shared, tmp_path, name, n_materials, dimensionality):
    with Store(store_of(name, shared / "data", tmp_path)) as store:
        materials = list(store.materials())
        assert len(materials) == n_materials
        assert {material.dimensionality for material in materials} == {dimensionality}
        energies = np.array([store.relaxed_frame(material).energy for material in materials])
    expected = {"layers": 3, "chains": 0}.get(name, n_materials)
    assert np.isfinite(energies).sum() == expected


def test_paths_end_relaxed_and_their_cells_were_free(shared):
    frames = structures("paths", shared / "data")
    last = {frame.info["run_id"]: frame for frame in frames}
    first = {frame.info["run_id"]: frame for frame in reversed(frames)}
    assert len(last) == 56
    assert len({frame.info.get("material_id", run) for run, frame in last.items()}) == 52, "some were relaxed twice"
    assert all(np.abs(frame.get_stress()).max() < 0.005 for frame in last.values())
    changes = [last[run].get_volume() / first[run].get_volume() for run in last]
    assert np.ptp(changes) > 0.2


def test_every_part_has_a_set():
    assert {part.store for part in PARTS.values()} == set(SETS)


def test_chains_are_tabled_by_their_repeat_and_a_failure_by_its_reason():
    def record(chain, **ended):
        cell = np.diag([chain.repeat + 0.1, 20, 20]).tolist()
        return {"id": f"chain-{chain.name}", "volume": 1.0, "cell": cell, "converged": True} | ended

    records = [record(chain) for chain in CHAINS]
    records[1] = record(CHAINS[1], volume=None, converged=False, reason="exploded")
    table = chains_table([PotentialResults("mine", "0", [], records)])
    assert table.rows[0] == ("Se", "4.954", "5.054")
    assert table.rows[1] == ("Te", "5.927", "- (exploded)")
