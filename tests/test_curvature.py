"""Hessians are the derivatives of forces, of every kind of network and for every periodicity."""

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111

from mlip.errors import MlipError
from mlip.models import parse_config
from mlip.network import init_parameters
from mlip.potential import Head, Potential, PotentialMetadata

NETWORKS = {
    "nequip": {
        "model": "nequip",
        "cutoff": 4.0,
        "elements": (11, 17, 29),
        "hidden": "4x0e + 3x1o",
        "max_ell": 2,
        "n_layers": 2,
        "radial_hidden": (6,),
        "mean_neighbors": 12.0,
    },
    "m3gnet": {"model": "m3gnet", "units": 8, "n_blocks": 2, "cutoff": 4.0, "three_body_cutoff": 3.5},
    "mace": {
        "model": "mace",
        "cutoff": 4.0,
        "elements": (11, 17, 29),
        "channels": 4,
        "radial_hidden": (6,),
        "mean_neighbors": 12.0,
        "correlation": 2,
    },
}
STEP = 1e-4  # A


@pytest.fixture(scope="module", params=["nequip", "m3gnet", pytest.param("mace", marks=pytest.mark.slow)])
def potential(request) -> Potential:
    config = parse_config(NETWORKS[request.param])
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: (np.asarray(leaf) + rng.normal(0, 0.2, leaf.shape)).astype(np.float32), init_parameters(config)
    )
    energies = {"Na": -1.0, "Cl": -2.0, "Cu": -3.5}
    return Potential(config, params, PotentialMetadata(reference_energies=energies, scale=1.5))


def structures() -> list[Atoms]:
    salt = bulk("NaCl", "rocksalt", a=5.3)
    salt.rattle(0.1, seed=0)
    layer = fcc111("Cu", (1, 1, 2), vacuum=6.0)
    layer.rattle(0.1, seed=1)
    chain = Atoms("NaCl", [[0, 0, 0], [2.5, 0.3, 0]], cell=[5, 0, 0], pbc=[True, False, False])
    return [salt, layer, chain, Atoms("NaCl", [[0, 0, 0], [2.3, 0.4, 0.2]])]


def by_finite_differences(potential: Potential, atoms: Atoms) -> np.ndarray:
    moved = []
    for i in range(len(atoms)):
        for a in range(3):
            for sign in (1, -1):
                other = atoms.copy()
                other.positions[i, a] += sign * STEP
                moved.append(other)
    forces = np.stack([one["forces"] for one in potential.predict(moved, dtype="float64")])
    rows = -(forces[::2] - forces[1::2]) / (2 * STEP)
    return rows.reshape(len(atoms), 3, len(atoms), 3).swapaxes(1, 2)


def test_hessians_are_the_slopes_of_forces_for_every_periodicity(potential):
    for atoms in structures():
        found, name = potential.hessian(atoms), str(atoms.symbols)
        expected = by_finite_differences(potential, atoms)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), err_msg=name)
        np.testing.assert_allclose(found, found.transpose(1, 0, 3, 2), atol=1e-10 * np.abs(found).max())
        # Atoms that move together feel nothing.
        np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-10 * np.abs(found).max())


def test_blocks_change_nothing_and_neither_does_the_structure(potential):
    atoms = structures()[0]
    before = atoms.positions.copy()
    whole, by_four = potential.hessian(atoms), potential.hessian(atoms, block=4)
    np.testing.assert_allclose(by_four, whole, atol=1e-12 * np.abs(whole).max())
    assert (atoms.positions == before).all()


def test_rows_of_some_atoms_are_those_of_all(potential):
    atoms = structures()[0]
    whole = potential.hessian(atoms)
    np.testing.assert_allclose(potential.hessian(atoms, atoms=[1]), whole[1:], atol=1e-12 * np.abs(whole).max())
    np.testing.assert_allclose(potential.hessian(atoms, atoms=[1, 0]), whole[::-1], atol=1e-12 * np.abs(whole).max())
    for places in ([], [2], [-1]):
        with pytest.raises(MlipError, match="atoms: are"):
            potential.hessian(atoms, atoms=places)


def test_single_precision_is_what_rounding_leaves(potential):
    atoms = structures()[0]
    exact, rounded = potential.hessian(atoms), potential.hessian(atoms, dtype="float32")
    np.testing.assert_allclose(rounded, exact, atol=1e-3 * np.abs(exact).max())


def test_an_atom_without_neighbors_feels_nothing(potential):
    assert (potential.hessian(Atoms("Cu")) == 0).all()
    assert np.abs(potential.hessian(bulk("Cu"))).max() < 1e-10  # its images move with it


def test_what_has_no_hessian_is_refused(potential):
    with pytest.raises(MlipError, match="a Hessian is of one structure, and 2 are given"):
        potential.hessian(structures()[:2])
    with pytest.raises(MlipError, match="does not know He"):
        potential.hessian(Atoms("He"))
    with pytest.raises(MlipError, match="coincide"):
        potential.hessian(Atoms("Cu2"))


def test_of_several_heads_one_is_to_be_chosen():
    config = parse_config(NETWORKS["mace"] | {"heads": ("PBE", "r2SCAN")})
    heads = {name: Head(reference_energies={"Cu": -3.5}) for name in config.heads}
    potential = Potential(config, init_parameters(config), PotentialMetadata.of_heads(heads))
    with pytest.raises(MlipError, match="several heads"):
        potential.hessian(bulk("Cu"))
    assert potential.of_head("PBE").hessian(bulk("Cu")).shape == (1, 1, 3, 3)
