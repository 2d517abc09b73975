"""The physics that a calculator owes its users, whatever the weights: derivatives, periodicity, odd structures."""

import pickle

import ase.build
import ase.db
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from mlip.calculator import MLIPCalculator
from mlip.errors import MlipError
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata

ELEMENTS = dict.fromkeys(("H", "C", "O", "Na", "Si", "S", "Cl", "Cu", "Mo", "Cs"), -3.0)


@pytest.fixture(scope="module")
def potential() -> Potential:
    config = M3GNetConfig(units=8, n_blocks=2, max_l=2, max_n=2)
    return Potential(config, init_parameters(config, seed=4), PotentialMetadata(reference_energies=ELEMENTS, scale=2.0))


def slab(pbc) -> Atoms:
    atoms = ase.build.mx2("MoS2", a=3.2, thickness=3.1, vacuum=7.5)
    atoms.rattle(0.1, seed=1)
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + 0.02 * np.array([[1, 1, 0], [0, -1, 0], [0, 0, 0]])), scale_atoms=True
    )
    atoms.pbc = pbc
    return atoms


def left_handed() -> Atoms:
    atoms = ase.build.bulk("Si", cubic=False)
    atoms.rattle(0.15, seed=2)
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    assert np.linalg.det(atoms.cell.array) < 0
    return atoms


def skewed() -> Atoms:
    atoms = ase.build.bulk("NaCl", "rocksalt", a=5.6)
    cell = atoms.cell.array.copy()
    cell[2] += 3 * cell[0] - 2 * cell[1]
    atoms.set_cell(cell)
    atoms.rattle(0.1, seed=3)
    return atoms


def chain() -> Atoms:
    atoms = Atoms("C2", [[0, 8, 8], [1.3, 8.2, 8]], cell=[2.7, 16, 16], pbc=[True, False, False])
    atoms.rattle(0.05, seed=5)
    return atoms


PERIODIC = {
    "TTT": lambda: slab([True, True, True]),
    "TTF": lambda: slab([True, True, False]),
    "TFF": chain,
    "left-handed": left_handed,
    "skewed": skewed,
}


@pytest.mark.parametrize("name", PERIODIC)
def test_forces_and_stress_are_derivatives_of_the_energy(potential, name):
    atoms = PERIODIC[name]()
    atoms.calc = MLIPCalculator(potential, dtype="float64")
    # Central differences with steps of 1e-4 A and 1e-5: error of second order, 1e-7 and below here.
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6)
    np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-7)


def test_a_molecule_has_forces_and_no_stress(potential):
    molecule = ase.build.molecule("H2O")
    molecule.calc = MLIPCalculator(potential, dtype="float64")
    np.testing.assert_allclose(molecule.get_forces(), calculate_numerical_forces(molecule, eps=1e-4), atol=1e-6)
    with pytest.raises(PropertyNotImplementedError):
        molecule.get_stress()


def test_an_open_slab_is_the_periodic_slab_with_vacuum(potential):
    periodic, open_, bare = slab([True, True, True]), slab([True, True, False]), slab([True, True, False])
    bare.cell[2] = 0  # no third vector at all
    reference, *others = potential.predict([periodic, open_, bare], dtype="float64")
    for other in others:
        assert other["energy"] == pytest.approx(reference["energy"], abs=1e-10)
        np.testing.assert_allclose(other["forces"], reference["forces"], atol=1e-10)
    assert np.isnan(others[1]["stress"]).all()


def test_lone_atoms_have_energies_and_no_forces(potential):
    in_a_box = Atoms("Cs", cell=[100, 100, 100], pbc=True)
    in_nothing = Atoms("Cs")
    one_per_cell = ase.build.bulk("Cs", "bcc", a=6.2)
    for atoms in (in_a_box, in_nothing, one_per_cell):
        atoms.calc = MLIPCalculator(potential)
        assert np.isfinite(atoms.get_potential_energy())
        np.testing.assert_allclose(atoms.get_forces(), 0, atol=1e-6)
    assert in_a_box.get_potential_energy() == pytest.approx(in_nothing.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(in_a_box.get_stress(), 0, atol=1e-12)


def test_unknown_element_is_named(potential):
    with pytest.raises(MlipError, match="does not know Au"):
        Atoms("Au", calculator=MLIPCalculator(potential)).get_potential_energy()


def test_coincident_atoms_are_an_error_not_a_nan(potential):
    twins = Atoms("Cu2", [[1, 1, 1], [1, 1, 1]], cell=[5, 5, 5], pbc=True, calculator=MLIPCalculator(potential))
    with pytest.raises(MlipError):
        twins.get_potential_energy()


def test_atoms_that_come_to_coincide_between_two_neighbor_lists_are_named_too(potential):
    pair = Atoms("Cu2", [[1, 1, 1], [2.2, 1, 1]], cell=[9, 9, 9], pbc=True)
    pair.calc = MLIPCalculator(potential, skin=3.0)
    assert np.isfinite(pair.get_potential_energy())
    pair.positions[1] = pair.positions[0]
    with pytest.raises(MlipError, match="atoms 0 and 1 coincide"):
        pair.get_potential_energy()
    assert pair.calc.n_rebuilds == 1


@pytest.mark.parametrize("skin", [0.0, 0.3])
def test_a_relaxation_calls_the_model_once_a_step_and_compiles_once_or_twice(potential, skin):
    atoms = ase.build.bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = calculator = MLIPCalculator(potential.with_metadata(scale=0.3), skin=skin)
    optimizer = FIRE(FrechetCellFilter(atoms), logfile=None)
    optimizer.run(fmax=1e-9, steps=20)
    assert calculator.n_calls == optimizer.nsteps + 1
    assert calculator.n_compiles <= 2
    if skin:
        assert calculator.n_rebuilds < calculator.n_calls


def test_the_skin_honors_atoms_and_cell_on_the_move(potential):
    """With a skin, every point of a rough path has the energy of a fresh calculator."""
    random = np.random.default_rng(0)
    atoms = skewed().repeat((2, 1, 1))
    atoms.calc = MLIPCalculator(potential, dtype="float64", skin=0.4)
    for _ in range(25):
        atoms.positions += random.normal(0, 0.02, atoms.positions.shape)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + random.normal(0, 0.004, (3, 3))), scale_atoms=True)
        fresh = potential.predict([atoms], dtype="float64")[0]
        assert atoms.get_potential_energy() == pytest.approx(fresh["energy"], abs=1e-10)
        np.testing.assert_allclose(atoms.get_stress(), fresh["stress"], atol=1e-12)
    assert 1 < atoms.calc.n_rebuilds < 25


def test_the_calculator_survives_pickling_and_a_change_of_structure(potential):
    calculator = MLIPCalculator(potential, dtype="float64")
    first, second = skewed(), left_handed()
    first.calc = calculator
    energy = first.get_potential_energy()
    second.calc = pickle.loads(pickle.dumps(calculator))
    assert second.get_potential_energy() == pytest.approx(
        potential.predict([second], "float64")[0]["energy"], abs=1e-10
    )
    second.calc = calculator
    second.get_potential_energy()
    first.calc = calculator
    assert first.get_potential_energy() == pytest.approx(energy, abs=1e-12)


def test_inputs_are_never_modified(potential):
    atoms = slab([True, True, False])
    before = atoms.copy()
    potential.predict([atoms])
    MLIPCalculator(potential).get_property("forces", atoms)
    assert atoms == before


@pytest.mark.parametrize(
    ("keyword", "way_out"),
    [
        ("device", "JAX_PLATFORMS"),
        ("default_dtype", "did you mean dtype"),
        ("dtpye", "did you mean dtype"),
        ("nonsense", "there are potential, dtype, skin, head"),
    ],
)
def test_an_unknown_keyword_is_refused_with_the_way_out(potential, keyword, way_out):
    with pytest.raises(MlipError, match=way_out):
        MLIPCalculator(potential, **{keyword: 3})
    with pytest.raises(MlipError, match=way_out):
        MLIPCalculator(potential).set(**{keyword: 3})


def test_keywords_of_ase_are_kept_and_a_calculator_stays_what_it_is(potential):
    atoms = ase.build.bulk("Cu")
    calculator = MLIPCalculator(potential, atoms=atoms, label="elsewhere/cu")
    assert atoms.calc is calculator
    assert calculator.directory == "elsewhere"
    with pytest.raises(MlipError, match="dtype cannot be changed"):
        calculator.set(dtype="float64")


def test_a_database_of_ase_records_which_potential_it_was(potential, tmp_path):
    atoms = ase.build.bulk("Cu")
    path = potential.save(tmp_path / "copper.safetensors")
    atoms.calc = MLIPCalculator(path, dtype="float64")
    energy = atoms.get_potential_energy()
    with ase.db.connect(tmp_path / "structures.db") as database:
        database.write(atoms)
    row = database.get(1)
    assert row.calculator == "mlip"
    assert row.energy == energy
    parameters = row.calculator_parameters
    assert parameters["potential"] == potential.fingerprint
    assert (parameters["model"], parameters["dtype"], parameters["file"]) == ("m3gnet", "float64", str(path))
