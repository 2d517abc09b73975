"""Structures that no one should relax: each gets its record and its reason, and none harms another."""

import json
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from flax import linen as nn
from hostile import hostile_structures
from morse import Morse, MorsePotential, morse_potential

import mlip
from mlip.errors import MlipError
from mlip.relaxation import relaxations

EXPECTED = {
    "overlapping": {"collapsed", "error"},
    "coincident": {"error"},
    "collapsed_cell": {"error", "collapsed"},
    "wrong_elements": {"error"},
    "no_atoms": {"error"},
    "skewed": {"converged"},
    "huge_vacuum": {"converged", "max_steps", "collapsed", "isolated"},
}
"""Of other kinds any end may come."""


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("n_structures", "symmetry"),
    [
        (153, False),
        pytest.param(2_000, False, marks=pytest.mark.slow),
        pytest.param(2_000, True, marks=pytest.mark.slow),
    ],
)
def test_every_hostile_structure_has_one_record_and_no_nan_leaves_it(potential, crystals, n_structures, symmetry):
    kinds, hostile = zip(*hostile_structures(n_structures), strict=True)
    good = list(crystals.values())
    structures = [*good, *hostile, *good]
    options = {"steps": 100, "symmetry": symmetry, "dtype": "float64"}
    results = {}
    for index, result in relaxations(structures, potential, **options):
        assert index not in results
        results[index] = result
    assert sorted(results) == list(range(len(structures)))

    for index, kind in enumerate(kinds, start=len(good)):
        result = results[index]
        record = json.loads(json.dumps(result.as_record(), allow_nan=False))
        assert result.reason in EXPECTED.get(kind, {result.reason}), kind
        if result.reason not in ("error", "non_finite"):
            assert np.isfinite([result.energy, result.fmax]).all(), kind
            assert None not in np.ravel(record["positions"] + record["cell"]), kind
    for index, alone in enumerate(mlip.relax(good, potential, progress=False, **options)):
        for company in (results[index], results[len(good) + len(hostile) + index]):
            assert (company.reason, company.n_steps) == (alone.reason, alone.n_steps)
            np.testing.assert_allclose(company.atoms.positions, alone.atoms.positions, atol=1e-9)


def test_the_thresholds_of_the_guards_are_options(potential):
    pair = Atoms("Cu2", [[0, 0, 0], [0.45, 0, 0]], cell=[8, 8, 8], pbc=True)
    stretched = bulk("Cu", a=4.0)
    for atoms, reason, options in (
        (pair, "collapsed", {}),
        (pair, "converged", {"min_distance": 0.3}),
        (stretched, "converged", {}),
        (stretched, "exploded", {"max_strain": 0.02}),
    ):
        (result,) = mlip.relax([atoms], potential, progress=False, **options)
        assert result.reason == reason
    with pytest.raises(MlipError, match=r"^max_strain: is 3"):
        mlip.relax([pair], potential, max_strain=3)
    with pytest.raises(MlipError, match=r"^min_distance: is -1"):
        mlip.relax([pair], potential, min_distance=-1)


def test_a_crystal_a_micrometre_from_the_origin_relaxes_in_float32_as_it_does_at_home(crystals, potential):
    home = crystals["perovskite"]
    away = home.copy()
    away.positions += [1e4, -1e4, 2e4] + np.arange(-2, 3)[:, None] @ home.cell.array[:1]  # and unwrapped
    near, far = mlip.relax([home, away], potential, progress=False)
    assert far.n_steps == near.n_steps
    assert far.energy == pytest.approx(near.energy, abs=1e-5)
    apart = (far.atoms.positions - far.atoms.positions[0]) - (near.atoms.positions - near.atoms.positions[0])
    images = apart @ np.linalg.inv(far.atoms.cell.array)
    np.testing.assert_allclose(images, np.round(images), atol=1e-5)


def test_atoms_too_far_apart_for_the_precision_are_told_so(potential):
    pair = Atoms("Cu2", [[0, 0, 0], [1e5, 0, 0]])
    single, double = (mlip.relax([pair], potential, dtype=d, progress=False)[0] for d in ("float32", "float64"))
    assert single.reason == "error"
    assert "float32 does not resolve bonds" in single.message
    assert double.reason == "isolated"  # resolved, and out of each other's reach


def saturating() -> MorsePotential:
    """A potential that is flat from 1.6 A down, as a published M3GNet is from 1 A: no force, no stress, low energy."""

    class Saturating(Morse):
        @nn.compact
        def __call__(self, graph):
            vectors, receivers = graph.edges["vectors"], graph.receivers
            distances = jnp.maximum(jnp.sqrt(jnp.sum(vectors * vectors, axis=-1)), 1.6)
            depth = jnp.where(distances < 5.0, (distances - 5.0) ** 3, 0.0)
            return jax.ops.segment_sum(0.01 * depth, receivers, len(graph.nodes["species"]), indices_are_sorted=True)

    class SaturatingPotential(MorsePotential):
        @cached_property
        def model(self):
            return Saturating(self.config)

    plain = morse_potential()
    return SaturatingPotential(plain.config, plain.params, plain.metadata)


def test_atoms_in_one_another_are_collapsed_where_the_potential_feels_nothing():
    structures = [
        bulk("Si", a=1.0),
        bulk("Fe", a=1.0),
        bulk("Cu", a=0.4 * 2 * 1.32 * 2**0.5),  # fcc at 0.4 of the bond length: no pair is too close, the cell too full
        Atoms("Cs2", [[0, 0, 0], [1.5, 0, 0]], cell=[30] * 3, pbc=True),  # 0.31 of the radii, and no force at all
    ]
    results = mlip.relax(structures, saturating(), progress=False)
    assert [result.reason for result in results] == ["collapsed"] * 4
    assert [result.n_steps for result in results] == [0] * 4
    words = ("0.20 of the sum", "fill the cell", "fill the cell", "the potential saturates")
    for result, said in zip(results, words, strict=True):
        assert result.message.startswith("starts collapsed: ")
        assert said in result.message


def test_a_crystal_that_collapses_on_its_way_says_so_without_having_begun_so():
    (result,) = mlip.relax([bulk("Cu")], saturating(), progress=False, max_strain=2.0)
    assert result.reason == "collapsed"
    assert result.n_steps > 0
    assert "starts" not in result.message


def test_the_closest_and_the_densest_frames_of_dft_have_not_collapsed(potential):
    """The extremes of 10,800 real frames: K-K of 1.295 A in K3Li3Sb9O24, and fcc Pu that fills its cell 2.11 times; and
    H2, whose atoms touch without being in one another."""
    potassium = Atoms("K2", [[0, 0, 0], [1.295, 0, 0]], cell=[9] * 3, pbc=True)
    plutonium = bulk("Pu", "fcc", a=(4 * 4 / 3 * np.pi * 1.87**3 / 2.11) ** (1 / 3))
    hydrogen = Atoms("H2", [[0, 0, 0], [0.67, 0, 0]], cell=[6] * 3, pbc=True)
    for result in mlip.relax([potassium, plutonium, hydrogen], potential, steps=0, progress=False):
        assert result.reason == "max_steps"


def test_atoms_at_the_very_edge_of_the_reach_are_isolated_not_collapsed():
    pair = Atoms("Cu2", [[0, 0, 0], [4.9999999, 0, 0]])
    (result,) = mlip.relax([pair], saturating(), progress=False)
    assert result.reason == "isolated"
    assert result.message == "no atom feels a force from so far"
