"""MACE's products of an atom's density with itself (eqs. 10 and 11 of arXiv:2206.07697), as polynomials.

Generalized Clebsch-Gordan coefficients couple `degree` copies of the density A, whose components i = (l, m) run over l
= 0 .. max_ell, to the order L. Because all copies are the same A, a coupling is a homogeneous polynomial in A_i and
fully given by its coefficients: 816 monomials of degree three instead of 16^3 entries. Most couplings of the published
models are linearly dependent as polynomials: of 23, 51 and 65 for L = 0, 1, 2 only 8, 12 and 14 are independent. The
weights correspond one to one to theirs; the sums run over the independent couplings.

Only the monomials that occur are computed, each from one of a lower degree; selection rules leave few.
"""

from functools import cache
from typing import NamedTuple

import e3nn_jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int
from scipy.special import comb

_FLIPPED = {(1, 2, 2), (1, 3, 3)}  # signs differ between e3nn-jax and e3nn 0.4, with which weights are trained


def wigner_3j(l1: int, l2: int, l3: int) -> Float[np.ndarray, "m1 m2 m3"]:
    """Real 3j symbols of norm one with e3nn's signs."""
    sign = -1.0 if tuple(sorted((l1, l2, l3))) in _FLIPPED else 1.0
    return sign * e3nn_jax.clebsch_gordan(l1, l2, l3)


@cache
def monomials(n_variables: int, degree: int) -> Int[np.ndarray, "q degree"]:
    """Factors of every monomial, ascending; sorted by the largest factor, then by the next, and so on."""
    if degree == 1:
        return np.arange(n_variables)[:, None]
    lower = monomials(n_variables, degree - 1)
    return np.concatenate(
        [
            np.pad(lower[: _n_monomials(j + 1, degree - 1)], ((0, 0), (0, 1)), constant_values=j)
            for j in range(n_variables)
        ]
    )


def _n_monomials(n_variables: int, degree: int) -> int:
    return comb(n_variables + degree - 1, degree, exact=True)


def _place(factors: Int[np.ndarray, "q degree"]) -> Int[np.ndarray, " q"]:
    """Indices of monomials in the order of `monomials`."""
    k = np.arange(factors.shape[1])
    return np.rint(comb(np.sort(factors, axis=1) + k, k + 1)).astype(int).sum(axis=1)


class _Coupling(NamedTuple):
    """Copies of A coupled to one irrep (order, parity), as polynomials."""

    order: int
    parity: int
    polynomials: Float[np.ndarray, "m q"]


@cache
def _couplings(
    max_ell: int, degree: int, orders: tuple[int, ...] | None = None, is_natural: bool = False
) -> list[_Coupling]:
    """All couplings of `degree` copies, coupled one after another, in e3nn's order.

    Args:
        orders: keep only these orders, with parity (-1)^order; None keeps all.
        is_natural: allow only intermediate couplings with parity (-1)^order.
    """
    n_variables = (max_ell + 1) ** 2
    if degree == 1:
        rows = np.split(np.eye(n_variables), [(order + 1) ** 2 for order in range(max_ell)])
        found = [_Coupling(order, (-1) ** order, polynomials) for order, polynomials in enumerate(rows)]
        return [coupling for coupling in found if orders is None or coupling.order in orders]
    lower = monomials(n_variables, degree - 1)
    times = np.stack(
        [_place(np.pad(lower, ((0, 0), (0, 1)), constant_values=i)) for i in range(n_variables)]
    )  # (i, q): index of A_i times each monomial
    found = []
    for left in _couplings(max_ell, degree - 1, tuple(range(degree * max_ell)) if is_natural else None, is_natural):
        for right in range(max_ell + 1):
            parity = left.parity * (-1) ** right
            for order in range(abs(left.order - right), left.order + right + 1):
                if orders is None or (order in orders and parity == (-1) ** order):
                    symbol = np.sqrt(2 * order + 1) * wigner_3j(order, left.order, right)
                    polynomials = np.zeros((2 * order + 1, _n_monomials(n_variables, degree)))
                    for m in range(2 * right + 1):
                        polynomials[:, times[right**2 + m]] += symbol[:, :, m] @ left.polynomials
                    found.append(_Coupling(order, parity, polynomials))
    return sorted(found, key=lambda coupling: (coupling.order, coupling.parity))  # sorted() is stable


@cache
def coupling_polynomials(max_ell: int, degree: int, order: int) -> Float[np.ndarray, "k m q"]:
    """Couplings of `degree` copies of A to `order` with parity (-1)^order, as in mace-torch: all of them, except that
    degree four omits intermediate couplings of the other parity; the span is the same."""
    return np.stack([coupling.polynomials for coupling in _couplings(max_ell, degree, (order,), degree == 4)])


def polynomials_of_tensor(tensor: Float[np.ndarray, "*m_and_factors k"], degree: int) -> Float[np.ndarray, "k m q"]:
    """Polynomials of generalized Clebsch-Gordan coefficients, which have `degree` axes of (l, m) before the axis of
    couplings."""
    n_variables, n_couplings = tensor.shape[-2], tensor.shape[-1]
    dense = tensor.reshape(-1, n_variables**degree, n_couplings)
    factors = np.stack(np.unravel_index(np.arange(n_variables**degree), (n_variables,) * degree), axis=1)
    polynomials = np.zeros((len(dense), _n_monomials(n_variables, degree), n_couplings))
    np.add.at(polynomials, (slice(None), _place(factors)), dense)
    return polynomials.transpose(2, 0, 1)


@cache
def independent_polynomials(
    max_ell: int, degree: int, order: int
) -> tuple[Float[np.ndarray, "r m q"], Float[np.ndarray, "k r"]]:
    """The first linearly independent couplings, and every coupling as a linear combination of them."""
    polynomials = coupling_polynomials(max_ell, degree, order)
    flat = polynomials.reshape(len(polynomials), -1)
    norms = np.linalg.norm(flat, axis=1)
    kept, basis = [], np.zeros((0, flat.shape[1]))
    for k, row in enumerate(flat):
        residual = row - basis.T @ (basis @ row)
        residual -= basis.T @ (basis @ residual)  # repeated to reduce rounding errors
        if np.linalg.norm(residual) > 1e-8 * max(norms[k], 1.0):
            kept.append(k)
            basis = np.vstack([basis, residual / np.linalg.norm(residual)])
    combinations = np.linalg.lstsq(flat[kept].T, flat.T, rcond=None)[0].T
    combinations[np.abs(combinations) < 1e-12] = 0.0
    return polynomials[kept], combinations


class _Products(NamedTuple):
    """Construction of the monomials of one degree, and the polynomials made from them."""

    lower: Int[np.ndarray, " q"]
    """Index of the product of all but the last factor among the monomials of the next lower degree."""
    last: Int[np.ndarray, " q"]
    """Index of the last factor."""
    rows: Float[np.ndarray, "r q"]
    """Independent polynomials of all orders, stacked: (order, coupling, m)."""


@cache
def _needed_products(max_ell: int, correlation: int, orders: tuple[int, ...]) -> list[_Products]:
    """Monomials of each degree that occur in a polynomial or in a needed monomial of higher degree.

    Selection rules leave 355 of the 816 monomials of degree three for orders 0 and 1, and 77 for order 0 alone.
    """
    plan: list[_Products] = []
    parents = np.zeros(0, int)
    for degree in range(correlation, 0, -1):
        bases = [independent_polynomials(max_ell, degree, order)[0] for order in orders]
        rows = np.concatenate([polynomials.reshape(-1, polynomials.shape[-1]) for polynomials in bases])
        needed = np.union1d(np.flatnonzero(np.abs(rows).max(axis=0) > 1e-12), parents)
        if plan:
            plan[-1] = plan[-1]._replace(lower=np.searchsorted(needed, parents).astype(np.int32))
        factors = monomials((max_ell + 1) ** 2, degree)[needed]
        parents = _place(factors[:, :-1])
        plan.append(_Products(parents, factors[:, -1].astype(np.int32), rows[:, needed]))
    return plan[::-1]


class SymmetricContraction(nn.Module):
    """A -> B: for each order L, B_LM = sum over couplings k of weight[element, k] polynomial_kM(A), for each channel.

    The parameters `order{L}_degree{d}` are (elements, couplings, channels), as in mace-torch.
    """

    max_ell: int
    orders: tuple[int, ...]
    correlation: int
    n_elements: int

    @nn.compact
    def __call__(self, density: Float[Array, "i n c"], elements: Int[Array, " n"]) -> list[Float[Array, "n m c"]]:
        _, n_atoms, channels = density.shape
        total = [jnp.zeros((2 * order + 1, n_atoms, channels), density.dtype) for order in self.orders]
        products = None
        for degree, plan in enumerate(_needed_products(self.max_ell, self.correlation, self.orders), start=1):
            products = density[plan.last] if products is None else products[plan.lower] * density[plan.last]
            values = jnp.asarray(plan.rows, density.dtype) @ products.reshape(len(plan.last), -1)
            start = 0
            for place, order in enumerate(self.orders):
                _, combinations = independent_polynomials(self.max_ell, degree, order)
                n_couplings, n_independent = combinations.shape
                weights = self.param(
                    f"order{order}_degree{degree}",
                    nn.initializers.normal(1.0 / n_couplings),
                    (self.n_elements, n_couplings, channels),
                )
                weights = jnp.einsum("kr,nkc->rnc", jnp.asarray(combinations, density.dtype), weights[elements])
                stop = start + n_independent * (2 * order + 1)
                terms = values[start:stop].reshape(n_independent, 2 * order + 1, n_atoms, channels)
                total[place] += jnp.sum(weights[:, None] * terms, axis=0)
                start = stop
        return [jnp.swapaxes(components, 0, 1) for components in total]
