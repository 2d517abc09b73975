"""The terms of a loss, whatever it is of.

Every term comes as sums, with a count of its labels, never as a mean: sums and counts are what adds up over devices,
parts of a batch and batches, so that a mean over N devices, or over a padded batch, is the mean over the labels. A
missing label is NaN and contributes exactly nothing to sum, count and gradient.
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
    """Penalty of each structure: the sum over its labels, in the unit of the loss."""
    absolute_error: Float[Array, ""]
    """Sum of |prediction - label|, in the unit of the quantity: eV/atom, eV/A, GPa, ..."""


Terms = dict[str, Term]
"""By the term's name."""
Counts = dict[str, Float[Array, ""]]
"""Labels that are known, by the term's name. Floats, as they are only ever divided by."""


class Sums(NamedTuple):
    """Sums of one term: scalars that add up over batches and devices."""

    penalty: Float[Array, ""]
    absolute_error: Float[Array, ""]
    count: Float[Array, ""]


def structure_losses(terms: Terms, counts: Counts, weights: Mapping[str, float | Array]) -> Float[Array, " g"]:
    """Contribution of each structure to the loss: the sum over the terms of weight * its penalty / count.

    Args:
        counts: of the whole batch, all devices together: the losses of all their structures add up to its loss.
        weights: of the terms that are fitted. A weight of 0 in this stage silences its term, whatever it holds.
    """

    def part(name: str, weight) -> Array:
        penalty = jnp.where(weight > 0, terms[name].penalty, 0.0)
        return weight * penalty / (counts[name] + (counts[name] == 0))

    return sum(part(name, weight) for name, weight in weights.items())


def totals(terms: Terms, counts: Counts) -> dict[str, Sums]:
    """Sums over the batch's structures."""
    return {name: Sums(term.penalty.sum(), term.absolute_error, counts[name]) for name, term in terms.items()}


def weighted_mean(sums: Mapping[str, Sums], weights: Mapping[str, float]) -> float:
    """The loss that summed terms amount to."""
    return sum(
        weight * sums[name].penalty / (sums[name].count + (sums[name].count == 0))
        for name, weight in weights.items()
        if weight > 0
    )


def add_terms(total: dict[str, Sums] | None, terms: dict[str, Sums]) -> dict[str, Sums]:
    """Sums of the loss terms over batches, on the host in float64."""
    terms = jax.tree.map(np.float64, terms)
    return terms if total is None else jax.tree.map(np.add, total, terms)
