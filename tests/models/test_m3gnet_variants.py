"""The networks that the paper and the field use beyond the published one, reached by configuration alone."""

import ase.build
import jax
import numpy as np
import pytest
from scipy.special import eval_legendre

from mlip.graph.radius_graph import crystal_graph
from mlip.models import parse_config
from mlip.models.m3gnet import (
    AngularBasis,
    M3GNetConfig,
    matgl_config,
    smoothstep_cutoff,
    three_body_basis,
)
from mlip.models.zbl import zbl_energies
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.runtime import precision_scope
from mlip.units import tensor_from_voigt

VARIANTS = {
    "paper, 256 units": M3GNetConfig(units=256),
    "128 units, one block, plain basis": M3GNetConfig(units=128, n_blocks=1, bond_basis="bessel"),
    "MatterSim's dimensions": M3GNetConfig(units=256, n_blocks=4, max_l=4, max_n=4),
    "with the repulsion of nuclei": M3GNetConfig(units=32, n_blocks=1, zbl=True),
    "matgl, smooth": matgl_config(),
    "matgl before 3, plain": matgl_config(smooth=False, max_l=2, max_n=4, n_blocks=2, aggregate="neighbor"),
}


@pytest.fixture(scope="module")
def crystal():
    crystal = ase.build.bulk("NaCl", "rocksalt", a=4.4)  # dense: random networks see little at 2.8 A
    crystal.rattle(0.1, seed=1)
    return crystal


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_forces_and_stress_of_every_variant_equal_finite_differences(config, crystal):
    assert parse_config(config.model_dump()) == config
    metadata = PotentialMetadata(reference_energies={"Na": -1.0, "Cl": -2.0}, scale=1000.0)
    potential = Potential(config, init_parameters(config, seed=2), metadata)
    step, generator = 1e-4, np.random.default_rng(0)
    direction, strain = generator.normal(size=(2, 3)), generator.normal(size=(3, 3))
    strain += strain.T

    def moved(size):
        other = crystal.copy()
        other.positions += size * direction
        return other

    def strained(size):
        other = crystal.copy()
        other.set_cell(crystal.cell.array @ (np.eye(3) + size * strain), scale_atoms=True)
        return other

    structures = [crystal, moved(step), moved(-step), strained(step), strained(-step)]
    here, *others = potential.predict(structures, dtype="float64")
    forward, backward, stretched, squeezed = (other["energy"] for other in others)
    slope = -np.sum(here["forces"] * direction)
    work = np.sum(tensor_from_voigt(here["stress"]) * strain) * crystal.get_volume()
    # The third derivative leaves an error of order step^2.
    assert abs(slope) > 1e-3
    assert (forward - backward) / (2 * step) == pytest.approx(slope, rel=1e-5, abs=1e-8)
    assert (stretched - squeezed) / (2 * step) == pytest.approx(work, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("basis", ["bessel", "smooth"])
def test_densities_equal_the_sum_over_triplets(basis, crystal):
    """Equation 4 as it is written, for four radial functions of four angular orders."""
    config = M3GNetConfig(max_l=4, max_n=4, three_body_basis=basis)
    graph = crystal_graph(crystal, config.cutoff, dtype=np.float64)
    positions, cell = graph.nodes["positions"], graph.globals["cell"][0]
    vectors = positions[graph.senders] + graph.edges["shifts"] @ cell - positions[graph.receivers]
    distances = np.linalg.norm(vectors, axis=1)
    gates = np.random.default_rng(1).uniform(size=(len(crystal), 16))
    with precision_scope("float64"):
        angular = AngularBasis.of_bonds(config, jax.numpy.asarray(vectors), jax.numpy.asarray(distances))
        radial = np.asarray(three_body_basis(config, jax.numpy.asarray(distances)))
        cutoff = np.asarray(smoothstep_cutoff(jax.numpy.asarray(distances), config.three_body_cutoff))

    order = np.repeat(np.arange(4), 2 * np.arange(4) + 1)
    columns = (order[:, None] * 4 + np.arange(4)).ravel()
    own = np.asarray(angular.weights) * gates[graph.senders][:, columns]
    density = np.zeros((len(crystal), 64))
    np.add.at(density, graph.receivers, own)
    summed = np.zeros((len(vectors), 16))
    np.add.at(summed.T, columns, ((density[graph.receivers] - own) * np.asarray(angular.harmonics)).T)

    expected = np.zeros_like(summed)
    unit = vectors / distances[:, None]
    for ij in range(len(vectors)):
        for ik in np.flatnonzero(graph.receivers == graph.receivers[ij]):
            if ik != ij:
                legendre = np.array([eval_legendre(l, unit[ij] @ unit[ik]) for l in range(4)])  # noqa: E741
                y_l0 = np.sqrt((2 * np.arange(4) + 1) / (4 * np.pi)) * legendre
                terms = radial[ik] * y_l0[:, None] * cutoff[ij] * cutoff[ik]
                expected[ij] += terms.ravel() * gates[graph.senders[ik]]
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(summed, expected, atol=1e-13)


def test_the_repulsion_of_nuclei_is_added_as_energies_and_keeps_atoms_apart():
    bare, repelled = (M3GNetConfig(units=4, n_blocks=1, zbl=zbl) for zbl in (False, True))
    metadata = PotentialMetadata(reference_energies={"Cu": -3.0, "O": -4.0})
    params = init_parameters(bare)
    dimers = [ase.Atoms("CuO", [[0, 0, 0], [0, 0, d]]) for d in (0.3, 0.8, 2.5)]
    without, added = (Potential(c, params, metadata).predict(dimers, dtype="float64") for c in (bare, repelled))
    differences = np.array([b["energy"] - a["energy"] for a, b in zip(without, added, strict=True)])
    pair = [
        zbl_energies(np.full(2, d, np.float32), np.array([29, 8]), np.array([1, 0]), np.array([0, 1]), power=6).sum()
        for d in (0.3, 0.8, 2.5)
    ]
    np.testing.assert_allclose(differences, pair, rtol=1e-5)
    assert differences[2] == 0
    assert added[0]["forces"][1, 2] > 100
