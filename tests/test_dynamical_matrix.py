"""Dynamical matrices from one cell are those of supercells, of every kind of network."""

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, make_supercell

import mlip.dynamical_matrix
from mlip.errors import MlipError
from mlip.graph.ends import WaveEnds
from mlip.models import parse_config
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata

RADIAL = {"cutoff": 4.0, "elements": (11, 17, 29), "radial_hidden": (6,), "mean_neighbors": 12.0}
NETWORKS = {
    "m3gnet": {"model": "m3gnet", "units": 8, "n_blocks": 2, "cutoff": 4.0, "three_body_cutoff": 3.5},
    "m3gnet-neighbor": {
        "model": "m3gnet",
        "units": 8,
        "n_blocks": 2,
        "cutoff": 4.0,
        "three_body_cutoff": 3.5,
        "aggregate": "neighbor",
        "zbl": True,
    },
    "nequip": {"model": "nequip", "hidden": "4x0e + 3x1o", "max_ell": 2, "n_layers": 2, **RADIAL},
    "mace": {
        "model": "mace",
        "channels": 4,
        "correlation": 2,
        "distance_transform": "agnesi",
        "normalization": "density",
        "zbl": True,
        **RADIAL,
    },
    "mattersim": {"model": "mattersim", "units": 8, "n_blocks": 2, "cutoff": 4.0, "three_body_cutoff": 3.5},
    "ensemble": {"model": "ensemble", "n_members": 2},
}

SLOW = ("nequip", "mace", "mattersim")


def potential_of(name: str) -> Potential:
    described = NETWORKS[name] | ({"network": NETWORKS["m3gnet"]} if name == "ensemble" else {})
    config = parse_config(described)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: (np.asarray(leaf) + rng.normal(0, 0.2, leaf.shape)).astype(np.float32), init_parameters(config)
    )
    scale = 1.0 if name == "ensemble" or "zbl" in described else 1.5
    return Potential(
        config, params, PotentialMetadata(reference_energies={"Na": -1.0, "Cl": -2.0, "Cu": -3.5}, scale=scale)
    )


@pytest.fixture(scope="module")
def potential() -> Potential:
    return potential_of("m3gnet")


def salt() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.3)
    atoms.rattle(0.1, seed=0)
    return atoms


def folded(potential: Potential, atoms: Atoms, multiples: tuple[int, int, int], q_points: list) -> np.ndarray:
    """The sums over the atoms of a supercell that the waves are commensurate with: exact whatever its size."""
    supercell, n = make_supercell(atoms, np.diag(multiples)), len(atoms)
    assert (supercell.numbers == np.tile(atoms.numbers, np.prod(multiples))).all()
    hessian = potential.hessian(supercell, atoms=range(n)).reshape(n, -1, n, 3, 3)  # [i, cell, j, a, b]
    scaled = atoms.cell.complete().scaled_positions(supercell.positions).reshape(-1, n, 3)
    from_center = scaled - scaled[0][:, None, None]
    phases = np.exp(2j * np.pi * np.einsum("icjx,qx->qicj", from_center, np.array(q_points)))
    found = np.einsum("qicj,icjab->qiajb", phases, hessian).reshape(-1, 3 * n, 3 * n)
    roots = np.repeat(np.sqrt(atoms.get_masses()), 3)
    return found / np.outer(roots, roots)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NETWORKS]
)
def test_one_cell_gives_what_a_commensurate_supercell_gives(name):
    potential, atoms = potential_of(name), salt()
    q_points = [[0.5, 1 / 3, 0.0], [0.0, -1 / 3, 0.0], [0.0, 0.0, 0.0]]
    expected = folded(potential, atoms, (2, 3, 1), q_points)
    found, largest = potential.dynamical_matrix(atoms, q_points), np.abs(expected).max()
    assert largest > 1e-4
    assert np.abs(expected[0].imag).max() > 1e-3 * largest
    np.testing.assert_allclose(found, expected, atol=1e-11 * largest)
    np.testing.assert_allclose(found, found.conj().swapaxes(1, 2), atol=1e-11 * largest)


def test_a_layer_has_waves_in_its_plane(potential):
    layer = fcc111("Cu", (1, 1, 2), vacuum=6.0)
    layer.rattle(0.1, seed=1)
    layer.pbc = True, True, False
    expected = folded(potential, layer, (3, 1, 1), [[1 / 3, 0, 0]])
    for cell in (layer.cell.array, [*layer.cell.array[:2], [0, 0, 0]]):
        layer.set_cell(cell)
        found = potential.dynamical_matrix(layer, [[1 / 3, 0, 0]])
        np.testing.assert_allclose(found, expected, atol=1e-11 * np.abs(expected).max())
    with pytest.raises(MlipError, match="q_points: run along a direction in which the structure is not periodic"):
        potential.dynamical_matrix(layer, [[1 / 3, 0, 0.5]])


def test_a_molecule_has_its_vibrations(potential):
    molecule = Atoms("NaCl", [[0, 0, 0], [2.3, 0.4, 0.2]])
    hessian = potential.hessian(molecule).swapaxes(1, 2).reshape(6, 6)
    (found,) = potential.dynamical_matrix(molecule, [[0, 0, 0]], masses=[1, 1])
    np.testing.assert_allclose(found, hessian, atol=1e-11 * np.abs(hessian).max())


def test_phonopy_has_the_same_matrices(potential):
    phonopy = pytest.importorskip("phonopy", reason="needs phonopy: pip install 'alexandria-mlip[phonons]'")
    from phonopy.structure.atoms import PhonopyAtoms

    atoms, q = salt(), [-1 / 3, 1 / 2, 0]
    cell = PhonopyAtoms(
        numbers=atoms.numbers,
        cell=atoms.cell.array,
        scaled_positions=atoms.get_scaled_positions(),
        masses=atoms.get_masses(),
    )
    phonon = phonopy.Phonopy(cell, np.diag([3, 2, 1]), primitive_matrix=np.eye(3), log_level=0)
    supercell = phonon.supercell
    repeated = Atoms(supercell.numbers, scaled_positions=supercell.scaled_positions, cell=supercell.cell, pbc=True)
    phonon.force_constants = potential.hessian(repeated)
    phonon.dynamical_matrix.run(q)
    expected = phonon.dynamical_matrix.dynamical_matrix
    found = potential.dynamical_matrix(atoms, [q])[0]
    np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())


def test_nothing_depends_on_blocks_or_on_the_cell_that_an_atom_is_given_in(potential, monkeypatch):
    atoms, q_points = salt(), [[0.13, 0.29, -0.41]]
    whole = potential.dynamical_matrix(atoms, q_points)
    tolerance = 1e-11 * np.abs(whole).max()
    monkeypatch.setattr(mlip.dynamical_matrix, "columns_together", lambda n_edges: 4)
    np.testing.assert_allclose(potential.dynamical_matrix(atoms, q_points), whole, atol=tolerance)
    atoms.positions[1] += [2, -1, 3] @ atoms.cell.array
    before = atoms.positions.copy()
    np.testing.assert_allclose(potential.dynamical_matrix(atoms, q_points), whole, atol=tolerance)
    assert (atoms.positions == before).all()


def test_masses_are_the_structures_own_unless_others_are_given(potential):
    atoms, q_points = salt(), [[0.25, 0, 0]]
    ordinary = potential.dynamical_matrix(atoms, q_points)
    heavy = potential.dynamical_matrix(atoms, q_points, masses=4 * atoms.get_masses())
    atoms.set_masses(4 * atoms.get_masses())
    np.testing.assert_allclose(heavy, ordinary / 4, rtol=1e-12)
    np.testing.assert_array_equal(potential.dynamical_matrix(atoms, q_points), heavy)
    for masses, told in (([1.0, 0.0], r"are \[1.0, 0.0\]"), (["heavy", "light"], "are no numbers")):
        with pytest.raises(MlipError, match=f"masses: {told}"):
            potential.dynamical_matrix(atoms, q_points, masses=masses)


@pytest.mark.parametrize(
    ("q_points", "told"),
    [([0, 0, 0.5], r"have the shape \(3,\)"), ("gamma", "are no numbers"), ([[0, 0, np.nan]], "are not all finite")],
)
def test_what_is_no_wave_vector_is_refused(potential, q_points, told):
    with pytest.raises(MlipError, match=f"q_points: {told}"):
        potential.dynamical_matrix(salt(), q_points)


def test_no_wave_vectors_have_no_matrices(potential):
    assert potential.dynamical_matrix(salt(), np.zeros((0, 3))).shape == (0, 6, 6)


def test_senders_in_a_wave_are_no_indices():
    indices = np.zeros(3, np.int32)
    waves = WaveEnds.of(indices, indices, np.int32(1), np.zeros(3), np.ones(3, bool))
    rows = jax.numpy.ones((3, 2))
    for misused in (
        lambda: rows[waves],
        lambda: rows.at[waves].get(),
        lambda: jax.numpy.take(rows, waves, axis=0),
        lambda: jax.ops.segment_sum(rows, waves, 3),
    ):
        with pytest.raises((TypeError, IndexError)):
            misused()
