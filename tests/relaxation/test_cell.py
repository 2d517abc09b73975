"""The exponential of the cell's strain, its derivative, and which strain components may relax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from mlip.errors import MlipError
from mlip.relaxation.cell import (
    _adjoint_frechet,
    aligned_frame,
    checked_choice,
    closed_mask,
    expm,
    inverse_transpose,
    span_mask,
)
from mlip.runtime import precision_scope


@pytest.mark.parametrize("size", [0.0, 1e-9, 0.01, 0.3, 1.0, 3.0])
def test_expm_equals_scipys_up_to_the_strain_guard(size):
    matrices = np.random.default_rng(0).normal(size=(20, 3, 3))
    matrices *= size / np.linalg.norm(matrices, axis=(1, 2), keepdims=True)
    with precision_scope("float64"):
        ours = np.asarray(expm(jnp.asarray(matrices)))
    np.testing.assert_allclose(ours, [scipy.linalg.expm(m) for m in matrices], rtol=1e-13, atol=1e-14)


def test_the_adjoint_frechet_derivative_is_the_reverse_derivative_of_expm():
    rng = np.random.default_rng(1)
    with precision_scope("float64"):
        matrices, cotangents = jnp.asarray(rng.normal(size=(2, 5, 3, 3)))
        _, pull_back = jax.vjp(expm, 0.3 * matrices)
        ours = np.asarray(_adjoint_frechet(0.3 * matrices, cotangents))
        np.testing.assert_allclose(ours, pull_back(cotangents)[0], rtol=1e-12)


def test_inverse_transpose_of_a_left_handed_matrix():
    matrices = np.random.default_rng(2).normal(size=(6, 3, 3))
    assert (np.linalg.det(matrices) < 0).any()
    with precision_scope("float64"):
        ours = np.asarray(inverse_transpose(jnp.asarray(matrices)))
    np.testing.assert_allclose(ours, np.linalg.inv(matrices).transpose(0, 2, 1), rtol=1e-10)


@pytest.mark.parametrize("mask", [(0, 0, 0, 0, 0, 1), (1, 1, 1, 1, 0, 1), np.triu(np.ones((3, 3)))])
def test_a_mask_that_the_logarithm_would_leave_is_refused(mask):
    with pytest.raises(MlipError, match="shear"):
        closed_mask(mask)


def test_masks_of_other_shapes_and_unknown_words_are_refused():
    with pytest.raises(MlipError, match=r"shape \(4,\)"):
        checked_choice(np.ones(4), "cell")
    with pytest.raises(MlipError, match="unknown choice 'isotropic'"):
        checked_choice("isotropic", "cell")


def test_a_layer_in_the_usual_setting_keeps_its_axes_and_a_tilted_one_is_turned_into_them():
    plane = np.array([True, True, False])
    cell = np.array([[3.0, 0, 0], [-1.5, 2.6, 0], [0, 0, 20.0]])
    assert (aligned_frame(cell, plane) == np.eye(3)).all()
    np.testing.assert_array_equal(span_mask(cell, plane), np.diag([1, 1, 0]) + np.eye(3)[[1, 0, 2]] * [1, 1, 0])

    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    frame = aligned_frame(cell @ rotation, plane)
    turned = cell @ rotation @ frame
    np.testing.assert_allclose(turned[:2, 2], 0, atol=1e-12)
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)


def test_a_chain_along_any_axis_relaxes_along_it_alone():
    for axis in range(3):
        directions = np.arange(3) == axis
        assert span_mask(np.diag([4.0, 15.0, 16.0]), directions).sum() == 1
        assert span_mask(np.diag([4.0, 15.0, 16.0]), directions)[axis, axis]
