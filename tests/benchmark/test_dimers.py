"""The scan of dimers sees what the curves are, and judges them by the rule that it states."""

import json
from dataclasses import dataclass
from functools import cached_property

import ase
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from pydantic import BaseModel, ConfigDict

from mlip.benchmark.dimer_report import (
    describe_scan,
    dimer_figure,
    dimer_table,
    element_table,
    holes_line,
    write_records,
)
from mlip.benchmark.dimers import DimerScan, scan_dimers
from mlip.errors import MlipError
from mlip.graph.radius_graph import RadiusGraph
from mlip.models.m3gnet import M3GNetConfig
from mlip.models.mace import MACEConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata

NAMES = ["O-O", "O-Ni", "O-Cu", "Ni-Ni", "Ni-Cu", "Cu-Cu"]


class PairConfig(BaseModel):
    model_config = ConfigDict(frozen=True)
    model: str = "pair"
    cutoff: float = 4.0
    hole: float = 0.0
    """eV, of a Gaussian pit at 0.7 A between Cu and O."""
    known_numbers: tuple[int, ...] = tuple(range(1, 95))

    @property
    def inputs(self) -> RadiusGraph:
        return RadiusGraph(self.cutoff)


def pair_energy(distance, hole=0.0):
    """eV; zero, with two derivatives, at 4 A."""
    return (30 / distance - hole * jnp.exp(-0.5 * ((distance - 0.7) / 0.1) ** 2)) * (
        1 - jnp.minimum(distance / 4, 1)
    ) ** 3


class Pair(nn.Module):
    """Repulsion, of all elements alike but for the hole."""

    config: PairConfig

    @nn.compact
    def __call__(self, graph):
        species, vectors = graph.nodes["species"], graph.edges["vectors"]
        charges = species[graph.senders] * species[graph.receivers]
        energies = pair_energy(jnp.linalg.norm(vectors, axis=1), jnp.where(charges == 29 * 8, self.config.hole, 0.0))
        return 0.5 * jax.ops.segment_sum(energies, graph.receivers, len(species))


@dataclass(frozen=True, eq=False)
class PairPotential(Potential):
    @cached_property
    def model(self) -> nn.Module:
        return Pair(self.config)


def pair_potential(symbols=("Cu", "O", "Ni"), **config) -> Potential:
    return PairPotential(PairConfig(**config), {}, PotentialMetadata(reference_energies=dict.fromkeys(symbols, -3.0)))


def test_the_curves_are_those_of_the_pair_potential():
    scan = scan_dimers(pair_potential(), dtype="float64")
    assert scan.names == NAMES
    assert scan.distances[0] == pytest.approx(0.2)
    assert scan.distances[-1] == pytest.approx(4.0)
    np.testing.assert_allclose(scan.energies, np.tile(pair_energy(scan.distances), (6, 1)), atol=1e-4)  # of 150 eV
    forces = -jax.vmap(jax.grad(pair_energy))(scan.distances)
    np.testing.assert_allclose(scan.forces, np.tile(forces, (6, 1)), rtol=1e-5, atol=1e-4)


def test_repulsion_everywhere_passes():
    scan = scan_dimers(pair_potential())
    assert scan.passes.all()
    assert np.isnan(scan.fails_at).all()
    np.testing.assert_array_equal(scan.holes, 0)
    assert scan.worst(3) == []
    assert "6 of 6 pairs of 3 elements pass (100.0 %; 3 of 3 with themselves)" in describe_scan(scan)


def test_a_hole_is_found_with_its_place_and_depth():
    scan = scan_dimers(pair_potential(hole=20.0))
    assert [name for name, passes in zip(scan.names, scan.passes, strict=True) if not passes] == ["O-Cu"]
    (place,) = scan.worst(3)
    curve = np.asarray(pair_energy(fine := np.linspace(0.2, scan.limits[place], 5000), 20.0))
    rise = (np.maximum.accumulate(curve[::-1])[::-1] - curve).max()
    assert scan.holes[place] == pytest.approx(rise, rel=0.1)  # the scan's points are 0.04 A apart there
    last = fine[1:][np.diff(curve) > 0].max()
    assert scan.fails_at[place] == pytest.approx(last, abs=0.05)


def test_a_pair_collapses_if_a_hole_is_deeper_than_its_bond():
    assert not scan_dimers(pair_potential(hole=20.0)).collapses.any()  # 13 eV above the atoms apart
    assert scan_dimers(pair_potential(hole=60.0)).collapses.tolist() == [name == "O-Cu" for name in NAMES]


def test_attraction_beyond_the_short_range_is_a_bond_and_no_hole():
    """Cu-O must repel below 0.99 A; a pit there would be a hole, one at 1.7 A is what atoms do."""
    scan = scan_dimers(pair_potential(hole=20.0), ["Cu", "O"])
    assert scan.limits[1] == pytest.approx(0.5 * (1.32 + 0.66))
    moved = type(scan)(scan.numbers, scan.distances * 1.7 / 0.7, scan.energies, scan.forces)
    assert moved.passes.all()


def curves(*energies_of) -> DimerScan:
    """Cu-O dimers, whose covalent radii are 1.98 A together, with these energies of the distance."""
    distances = np.geomspace(0.2, 4.0, 64)
    energies = np.array([jax.vmap(energy)(distances) for energy in energies_of])
    forces = np.array([-jax.vmap(jax.grad(energy))(distances) for energy in energies_of])
    return DimerScan(np.tile([8, 29], (len(energies_of), 1)), distances, energies - energies[:, -1:], forces)


def morse(distance, bond=1.8, depth=3.0):
    return depth * (1 - jnp.exp(-1.2 * (distance - bond))) ** 2


def pit(distance, at, depth):
    return morse(distance) - depth * jnp.exp(-0.5 * ((distance - at) / 0.08) ** 2)


def test_the_way_to_the_bond_ends_at_the_bond_or_at_the_sum_of_the_radii():
    scan = curves(morse, lambda d: morse(d, bond=2.6), lambda d: 1 / d)
    assert scan.first_bonds[0] == pytest.approx(1.8, abs=0.06)
    assert scan.first_bonds[1:] == pytest.approx([1.98, 1.98])
    assert scan.is_without_hole.all()
    np.testing.assert_array_equal(scan.holes_on_the_way, 0)


def test_a_hole_on_the_way_to_the_bond_is_found_beyond_the_short_range_and_not_below_half_an_angstrom():
    """Pits at 1.25 A, at 0.7 A (also too far in for any bond), and at 0.28 A."""
    scan = curves(lambda d: pit(d, 1.25, 2.4), lambda d: pit(d, 0.7, 60.0), lambda d: pit(d, 0.28, 100.0))
    assert scan.is_without_hole.tolist() == [False, False, True]
    assert scan.passes.tolist() == [True, False, False]
    fine = np.linspace(0.5, 1.8, 3000)
    for place, (at, depth) in enumerate(((1.25, 2.4), (0.7, 60.0))):
        curve = np.asarray(pit(fine, at, depth))
        rise = (np.maximum.accumulate(curve[::-1])[::-1] - curve).max()
        assert scan.holes_on_the_way[place] == pytest.approx(rise, rel=0.15)
        last = fine[1:][np.diff(curve) > 0].max()
        assert scan.hole_on_the_way_at[place] == pytest.approx(last, abs=0.08)
    assert "no hole from 0.5 Å to the first bond: 33.3 % of 3 pairs" in holes_line(scan)


def test_a_short_bond_is_no_hole():
    """As those of V2 or Cr2 are, at 0.6 of the sum of their radii."""
    assert curves(lambda d: morse(d, bond=1.2)).is_without_hole.all()


def test_a_curve_without_finite_energies_has_a_hole():
    scan = curves(morse)
    broken = DimerScan(scan.numbers, scan.distances, np.full_like(scan.energies, np.nan), scan.forces)
    assert not broken.is_without_hole.any()


def test_elements_tell_how_many_of_their_pairs_have_holes():
    scan = scan_dimers(pair_potential(hole=20.0))
    assert [(one["element"], one["pairs"], one["with_hole"]) for one in scan.by_element()] == [
        ("O", 3, 1),
        ("Ni", 3, 0),
        ("Cu", 3, 1),
    ]
    assert {one["element"]: one.get("with") for one in scan.by_element()} == {"O": "Cu", "Ni": None, "Cu": "O"}
    assert [row[0] for row in element_table(scan, "pair", n_worst=10).rows] == ["O", "Cu"]
    assert len(element_table(scan, "pair").rows) == 3
    assert scan.summary()["share_without_hole_to_bond"] == pytest.approx(5 / 6)


def test_a_curve_that_is_not_finite_fails():
    scan = scan_dimers(pair_potential())
    energies, forces = scan.energies.copy(), scan.forces.copy()
    energies[0, 0] = np.inf  # squeezed
    forces[1, -5] = np.nan  # far out
    scan = type(scan)(scan.numbers, scan.distances, energies, forces)
    assert scan.is_finite.tolist() == [False, False, True, True, True, True]
    assert scan.passes.tolist() == scan.is_finite.tolist()
    assert np.isinf(scan.holes[0])
    assert scan.holes[1] == 0
    assert scan.summary()["pairs_not_finite"] == 2


def test_a_flat_curve_does_not_keep_atoms_apart():
    scan = scan_dimers(pair_potential())
    flat = type(scan)(scan.numbers, scan.distances, np.zeros_like(scan.energies), np.zeros_like(scan.forces))
    assert not flat.passes.any()


@pytest.mark.parametrize(
    "config",
    [
        M3GNetConfig(units=4, n_blocks=1),
        MACEConfig(elements=(8, 29), channels=2, max_l=0, max_ell=1, correlation=1, n_layers=1, cutoff=5.0, zbl=True),
    ],
    ids=["m3gnet", "mace"],
)
def test_every_model_gives_what_it_predicts_for_a_dimer(config):
    metadata = PotentialMetadata(reference_energies={"Cu": -3.0, "O": -4.0}, scale=0.7, shift=0.1)
    potential = Potential(config, init_parameters(config), metadata)
    scan = scan_dimers(potential)
    at = [3, 40, -1]
    dimers = [ase.Atoms("OCu", [[0, 0, 0], [0, 0, scan.distances[k]]]) for k in at]
    energies, forces = zip(*((r["energy"], r["forces"]) for r in potential.predict(dimers)), strict=True)
    expected = np.array(energies) - energies[-1]
    np.testing.assert_allclose(scan.energies[1, at], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scan.forces[1, at], [f[1, 2] for f in forces], rtol=1e-4, atol=1e-5)


def test_a_potential_of_one_element_has_one_pair(tmp_path):
    scan = scan_dimers(pair_potential(["Cu"]))
    assert scan.names == ["Cu-Cu"]
    dimer_figure(scan, "copper").savefig(tmp_path / "dimers.png")
    assert dimer_table(scan, "copper").rows == ()


def test_elements_that_the_potential_does_not_know_are_named():
    with pytest.raises(MlipError, match="does not know Fe"):
        scan_dimers(pair_potential(), ["Cu", "Fe"])
    with pytest.raises(MlipError, match="no element is called 'Kupfer'"):
        scan_dimers(pair_potential(), ["Kupfer"])


def test_a_cutoff_that_no_dimer_fits_into_is_refused():
    with pytest.raises(MlipError, match="is not longer than the shortest dimer"):
        scan_dimers(pair_potential(cutoff=0.1))


def test_records_are_json_and_hold_the_curves(tmp_path):
    scan = scan_dimers(pair_potential(hole=20.0))
    scan.energies[0, 3] = np.nan
    write_records(scan, tmp_path / "curves.jsonl")
    header, *records = map(json.loads, (tmp_path / "curves.jsonl").read_text().splitlines())
    assert header["pairs_passing"] == 4
    assert [record["pair"] for record in records] == NAMES
    assert records[0]["energies"][3] is None
    assert len(records[0]["forces"]) == len(header["distances"])
    assert records[2]["hole"] > 1
    dimer_figure(scan, "pair").savefig(tmp_path / "dimers.png")
