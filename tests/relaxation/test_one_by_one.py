"""Any calculator of ASE relaxes by our protocol: with one of our own potentials, step for step as on our own road."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from mlip.errors import MlipError
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.relaxation import Along, Statistics, relax, relaxations
from mlip.relaxation.named import open_named

EMT_NAME = "ase:ase.calculators.emt:EMT"


def strained(symbol: str, seed: int):
    atoms = bulk(symbol, cubic=True)
    atoms.rattle(0.08, seed=seed)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + np.random.default_rng(seed).normal(0, 0.02, (3, 3))), True)
    return atoms


class Stressless(Calculator):
    """Gives no stress."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.full((len(atoms), 3), 0.01)}


class Moody(EMT):
    """Fails at its third call, as a calculation that does not converge."""

    calls = 0

    def calculate(self, *arguments, **options):
        type(self).calls += 1
        if type(self).calls == 3:
            raise RuntimeError("the cycle\ndid not converge")
        super().calculate(*arguments, **options)


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    config = M3GNetConfig(units=4, n_blocks=1, max_n=2, max_l=2)
    metadata = PotentialMetadata(reference_energies={"Cu": -3.0, "Al": -2.0}, scale=5.0)
    path = tmp_path_factory.mktemp("potential") / "tiny.safetensors"
    return Potential(config, init_parameters(config, seed=1), metadata).save(path)


def test_one_of_our_potentials_by_both_roads_takes_the_same_steps_to_the_same_end(potential):
    layer = fcc111("Cu", (1, 1, 2), vacuum=5.0, periodic=True)
    held = strained("Al", 2)
    held.set_constraint(FixAtoms([0]))
    structures = [strained("Cu", 1), held, layer, bulk("Xe", "fcc", a=6.2)]
    cells = ["auto", "auto", Along((True, True, False)), "auto"]
    ours = relax(structures, potential, cell=cells, dtype="float64", steps=8, progress=False)
    name = f"ase:mlip:MLIPCalculator?potential={potential}&dtype=float64"
    theirs = relax(structures, name, cell=cells, steps=8, progress=False)
    for our, their in zip(ours, theirs, strict=True):
        assert (our.reason, our.n_steps) == (their.reason, their.n_steps)
        if our.reason == "error":
            assert "Xe" in our.message
            assert "Xe" in their.message
            continue
        assert our.energy == pytest.approx(their.energy, abs=1e-10)
        assert our.fmax == pytest.approx(their.fmax, abs=1e-9)
        assert our.max_stress == pytest.approx(their.max_stress, abs=1e-12)
        np.testing.assert_allclose(our.atoms.positions, their.atoms.positions, atol=1e-10)
        np.testing.assert_allclose(our.atoms.cell.array, their.atoms.cell.array, atol=1e-10)


def test_emt_relaxes_as_by_ases_own_fire_and_filter():
    atoms = strained("Ni", 3)
    (ended,) = relax(atoms, EMT_NAME, progress=False)
    by_ase = atoms.copy()
    by_ase.calc = EMT()
    fire = FIRE(FrechetCellFilter(by_ase), logfile=None)
    fire.run(fmax=0.05, steps=500)
    assert (ended.reason, ended.n_steps) == ("converged", fire.nsteps)
    assert ended.energy == pytest.approx(by_ase.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(ended.atoms.cell.array, by_ase.cell.array, atol=1e-7)


def test_a_structure_that_the_calculator_fails_for_is_an_error_and_the_others_go_on():
    results = relax([bulk("Cu"), bulk("U", "fcc", a=4.0), bulk("Al")], EMT_NAME, progress=False)
    assert [result.reason for result in results] == ["converged", "error", "converged"]
    assert "EMT failed" in results[1].message


def test_a_calculator_that_fails_on_the_way_leaves_its_reason_in_one_line(monkeypatch):
    monkeypatch.setattr(Moody, "calls", 0)
    (ended,) = relax(strained("Cu", 4), f"ase:{__name__}:Moody", progress=False)
    assert (ended.reason, ended.n_steps) == ("error", 2)
    assert "the cycle did not converge" in ended.message
    assert "\n" not in ended.message


def test_without_a_stress_atoms_relax_and_a_cell_does_not():
    fixed, free = relax([bulk("Cu")] * 2, f"ase:{__name__}:Stressless", cell=[False, True], progress=False)
    assert fixed.reason == "converged"
    assert "stress" not in fixed.atoms.calc.results
    assert free.reason == "error"
    assert "gives no stress, and the cell relaxes" in free.message


def test_the_cost_counts_calls_and_the_time_in_the_calculator():
    statistics = Statistics()
    ((_, ended),) = relaxations([strained("Cu", 5)], EMT_NAME, statistics=statistics)
    assert statistics.n_force_calls == ended.n_steps + 1
    assert 0 < statistics.device_seconds < statistics.seconds
    assert statistics.padded_fraction == 0


def test_a_molecule_without_a_cell_relaxes():
    (ended,) = relax(Atoms("Ar2", [[0, 0, 0], [0, 0, 1.2]]), "ase:ase.calculators.lj:LennardJones", progress=False)
    assert ended.reason == "converged"
    assert ended.atoms.get_distance(0, 1) == pytest.approx(2 ** (1 / 6), abs=0.01)


def test_a_precision_of_a_calculator_is_refused():
    with pytest.raises(MlipError, match="has its own precision"):
        open_named(EMT_NAME).precision("float64")
