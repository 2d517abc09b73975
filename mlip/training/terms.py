"""Terms of a loss, for any kind of target.

Every term is stored as sums and a count of labels, never as a mean. These add up over devices, parts of a batch and
batches, so that a mean over N devices, or over a padded batch, is the mean over the labels. A missing label is NaN and
contributes nothing to sum, count and gradient.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Term(NamedTuple):
    """One term of the loss over a batch."""

    penalty: Float[Array, " g"]
    """Penalty of each structure, summed over its labels, in the unit of the loss."""
    absolute_error: Float[Array, ""]
    """Sum of |prediction - label|, in the unit of the quantity: eV/atom, eV/A, GPa, ..."""


Terms = dict[str, Term]
"""Terms by name."""
Counts = dict[str, Float[Array, ""]]
"""Number of known labels by the term's name; floats, because they only serve as divisors."""


class Sums(NamedTuple):
    """Sums of one term: scalars that add up over batches and devices."""

    penalty: Float[Array, ""]
    absolute_error: Float[Array, ""]
    count: Float[Array, ""]


def structure_losses(terms: Terms, counts: Counts, weights: Mapping[str, float | Array]) -> Float[Array, " g"]:
    """Contribution of each structure to the loss: the sum over the terms of weight * penalty / count.

    Args:
        counts: counts of the whole batch over all devices, so that the losses of all structures sum to that of the
            batch.
        weights: weights of the fitted terms. A weight of 0 removes the term, even if its penalty is not finite.
    """

    def part(name: str, weight) -> Array:
        penalty = jnp.where(weight > 0, terms[name].penalty, 0.0)
        return weight * penalty / (counts[name] + (counts[name] == 0))

    return sum(part(name, weight) for name, weight in weights.items())


def totals(terms: Terms, counts: Counts) -> dict[str, Sums]:
    """Sums of the terms over the batch's structures."""
    return {name: Sums(term.penalty.sum(), term.absolute_error, counts[name]) for name, term in terms.items()}


def weighted_mean(sums: Mapping[str, Sums], weights: Mapping[str, float]) -> float:
    """Loss for summed terms."""
    return sum(
        weight * sums[name].penalty / (sums[name].count + (sums[name].count == 0))
        for name, weight in weights.items()
        if weight > 0
    )


def add_terms(total: dict[str, Sums] | None, terms: dict[str, Sums]) -> dict[str, Sums]:
    """Running sums of the loss terms over batches, on the host in float64."""
    terms = jax.tree.map(np.float64, terms)
    return terms if total is None else jax.tree.map(np.add, total, terms)
