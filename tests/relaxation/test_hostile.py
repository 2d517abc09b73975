"""Structures that no one should relax: each gets its record and its reason, and none harms another."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hostile import hostile_structures

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
    "huge_vacuum": {"converged", "max_steps", "collapsed"},
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
    assert double.converged
