"""MatterSim's network without triplets against its equations with them, written out in NumPy. (Against its authors'
code: tests/convert/test_convert_mattersim.py, where that is installed.)"""

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from scipy import special

from mlip.graph.radius_graph import crystal_graph
from mlip.models import parse_config
from mlip.models.mattersim import MatterSimConfig, bond_basis, spherical_basis
from mlip.models.radial import smooth_bessel_basis, spherical_bessel_basis
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.runtime import precision_scope
from mlip.units import tensor_from_voigt

SCALES = tuple(1.0 + 0.01 * z for z in range(31))
SMALL = MatterSimConfig(units=5, n_blocks=2, max_atomic_number=30, element_scales=SCALES)
E0 = {"Cu": -3.5, "Na": -1.0, "Cl": -2.0, "Si": -5.0}


@pytest.fixture(scope="module")
def potential() -> Potential:
    params = init_parameters(SMALL, seed=1)
    rng = np.random.default_rng(0)  # of no zeros, and larger than what training starts from
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), params)
    return Potential(SMALL, params, PotentialMetadata(reference_energies=E0, scale=2.0))


def crystals() -> list[Atoms]:
    salt, silicon = bulk("NaCl", "rocksalt", a=5.3), bulk("Si", "diamond", a=5.4)
    left_handed = bulk("Cu", cubic=True)
    left_handed.set_cell(left_handed.cell.array[[1, 0, 2]])
    silicon.set_cell(silicon.cell.array @ np.array([[1, 0.4, 0.3], [0, 1, 0.5], [0, 0, 1]]), scale_atoms=True)
    for seed, atoms in enumerate((salt, silicon, left_handed)):
        atoms.rattle(0.1, seed=seed)
    layer = fcc111("Cu", (1, 1, 2), vacuum=6.0)
    return [salt, silicon, left_handed, layer, bulk("Cu"), bulk("Na", "bcc", a=12.0), Atoms("Cu")]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def swish(x):
    return x * sigmoid(x)


def dense(layer, x):
    return x @ layer["kernel"] + layer.get("bias", 0)


def gated(message, x):
    """Core and gate, each of two layers; ours has their first ones side by side."""
    core, gate = np.split(x @ message["kernel"] + message["bias"], 2, axis=1)
    return swish(dense(message["core"], swish(core))) * sigmoid(dense(message["gate"], swish(gate)))


def cut(r):
    x = r / SMALL.three_body_cutoff
    return np.where(x < 1, 1 - 6 * x**5 + 15 * x**4 - 10 * x**3, 0)


def sums_over_triplets(center, vectors, lengths) -> np.ndarray:
    """For each bond ij the sum over all other bonds ik of its center."""
    with precision_scope("float64"):
        radial = np.asarray(spherical_basis(SMALL, jax.numpy.asarray(lengths)))  # checked by itself below
    sums = np.zeros((len(lengths), 4, 4))
    for ij in range(len(lengths)):
        for ik in np.flatnonzero(center == center[ij]):
            if ik == ij:
                continue
            cosine = vectors[ij] @ vectors[ik] / (lengths[ij] * lengths[ik])
            y_l0 = np.sqrt((2 * np.arange(4) + 1) / (4 * np.pi)) * special.eval_legendre(np.arange(4), cosine)
            sums[ij] += radial[ik] * y_l0[:, None] * cut(lengths[ij]) * cut(lengths[ik])
    return sums.reshape(len(lengths), 16)


def energies_by_the_equations(params, atoms: Atoms) -> np.ndarray:
    """Node energies, without the potential's scale and reference energies."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    graph = crystal_graph(atoms, SMALL.cutoff, dtype=np.float64)
    neighbor, center = np.asarray(graph.senders), np.asarray(graph.receivers)
    positions = graph.nodes["positions"]
    vectors = positions[neighbor] + graph.edges["shifts"] @ graph.globals["cell"][0] - positions[center]
    lengths = np.linalg.norm(vectors, axis=1)
    with precision_scope("float64"):
        basis = np.asarray(bond_basis(SMALL, jax.numpy.asarray(lengths)))
    sums = sums_over_triplets(center, vectors, lengths)
    v = params["embedding"]["embedding"][atoms.numbers]
    e = swish(dense(params["bond_embedding"], basis))
    for block in range(SMALL.n_blocks):
        three_body, layers = params[f"three_body_{block}"], params[f"convolution_{block}"]
        messages = sums * sigmoid(dense(three_body["center_gate"], v))[center]
        core, gate = np.split(messages @ three_body["core_and_gate"]["kernel"], 2, axis=1)
        e = e + swish(core) * sigmoid(gate)
        ends = [v[center], v[neighbor]]
        e = e + gated(layers["bond_message"], np.hstack([*ends, e])) * dense(layers["bond_weight"], basis)
        of_bonds = gated(layers["atom_message"], np.hstack([*ends, e])) * swish(dense(layers["atom_weight"], basis))
        v = v + np.stack([of_bonds[center == i].sum(axis=0) for i in range(len(atoms))])
    core = gate = v
    for k in range(2):
        core, gate = (swish(dense(params["readout"][f"{name}_{k}"], x)) for name, x in (("core", core), ("gate", gate)))
    readout = params["readout"]
    energies = (dense(readout["core_2"], core) * sigmoid(dense(readout["gate_2"], gate)))[:, 0]
    return energies * np.array(SCALES)[atoms.numbers]


def test_energies_are_those_of_the_sums_over_triplets(potential):
    found = potential.predict(crystals(), dtype="float64")
    references = potential.reference_energies_by_z
    spread = []
    for atoms, ours in zip(crystals(), found, strict=True):
        expected = 2.0 * energies_by_the_equations(potential.params, atoms) + references[atoms.numbers]
        np.testing.assert_allclose(ours["energies"], expected, atol=1e-10, err_msg=str(atoms.symbols))
        spread += (ours["energies"] - references[atoms.numbers]).tolist()
    assert np.std(spread) > 0.05


def test_forces_and_stress_equal_finite_differences(potential):
    crystal, step = crystals()[0], 1e-4
    rng = np.random.default_rng(0)
    direction, strain = rng.normal(size=(2, 3)), rng.normal(size=(3, 3))
    strain += strain.T

    def changed(size, along_strain):
        other = crystal.copy()
        if along_strain:
            other.set_cell(crystal.cell.array @ (np.eye(3) + size * strain), scale_atoms=True)
        else:
            other.positions += size * direction
        return other

    moves = [changed(size, along) for along in (False, True) for size in (step, -step)]
    here, *others = potential.predict([crystal, *moves], dtype="float64")
    forward, backward, stretched, squeezed = (other["energy"] for other in others)
    slope = -np.sum(here["forces"] * direction)
    work = np.sum(tensor_from_voigt(here["stress"]) * strain) * crystal.get_volume()
    assert (forward - backward) / (2 * step) == pytest.approx(slope, rel=1e-5, abs=1e-8)
    assert (stretched - squeezed) / (2 * step) == pytest.approx(work, rel=1e-5, abs=1e-8)


def test_the_bases_are_the_exact_ones_with_constants_rounded_to_float32():
    lengths = np.linspace(1.0, 4.9, 50)
    with precision_scope("float64"):
        r = jax.numpy.asarray(lengths)
        smooth, exact_smooth = bond_basis(SMALL, r), smooth_bessel_basis(r, 4, 5.0)
        spherical, exact_spherical = spherical_basis(SMALL, r), spherical_bessel_basis(r, 4, 4, 5.0)
        np.testing.assert_allclose(smooth, exact_smooth, atol=1e-6)
        np.testing.assert_allclose(spherical, exact_spherical, atol=1e-5)  # differences of terms up to 1/x^4 = 625
        assert np.abs(np.asarray(smooth - exact_smooth)).max() > 0


@pytest.mark.parametrize(("units", "n_blocks", "size"), [(128, 3, 890_034), (256, 4, 4_548_930)])
def test_the_published_models_have_so_many_parameters(units, n_blocks, size):
    config = MatterSimConfig(units=units, n_blocks=n_blocks)
    shapes = jax.eval_shape(lambda: init_parameters(config))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == size


def test_a_config_survives_json_and_refuses_what_makes_no_sense():
    assert parse_config(SMALL.model_dump(mode="json")) == SMALL
    with pytest.raises(ValueError, match="longer than cutoff"):
        MatterSimConfig(cutoff=3.0)
    with pytest.raises(ValueError, match="2 element_scales for 95 numbers"):
        MatterSimConfig(element_scales=(1.0, 2.0))
