"""Inputs of composition models: the elements of a material and their fractions, without structure.

Order and rounding follow CrabNet (A. Y.-T. Wang et al., npj Comput. Mater. 7, 77, 2021): the most abundant element
comes first, equally abundant ones follow in order of appearance, and fractions are quotients of single-precision
numbers. Formulas are parsed more strictly (`mlip.data.formula`) than by the released code, which reads CuSO4.5H2O as
O4.5 and drops zero amounts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jraph
import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Bool, Float, Int

from mlip.data.formula import parse_formula
from mlip.errors import MlipError
from mlip.graph.inputs import check_numbers
from mlip.graph.stacked_structures import Structures

_HEAVIEST = len(chemical_symbols) - 1
_WIDTHS = (4, 8, 16)
_SUMMED_TOGETHER = 16
_CHUNK = 4096


class Composition(NamedTuple):
    """Distinct elements of a material, with the most abundant first."""

    species: Int[np.ndarray, " e"]
    """Atomic numbers."""
    fractions: Float[np.ndarray, " e"]
    """Fraction of each element, float32, with sum 1."""


class Compositions(NamedTuple):
    """Many compositions, one per row; empty slots hold element 0 and fraction 0."""

    species: Int[np.ndarray, "k w"]
    fractions: Float[np.ndarray, "k w"]

    def __getitem__(self, rows) -> "Compositions":  # selects compositions, not fields of the tuple
        return Compositions(self.species[rows], self.fractions[rows])

    @property
    def n_elements(self) -> Int[np.ndarray, " k"]:
        """Number of elements of each composition."""
        return np.count_nonzero(self.species, axis=1)


class CompositionBatch(NamedTuple):
    """Batch of compositions for the network; the last rows may be empty."""

    species: Int[np.ndarray, "k w"]
    fractions: Float[np.ndarray, "k w"]
    slots: Int[np.ndarray, " r"] | None = None
    """Indices of the elements in the flattened arrays; spare entries point past the end. With these, a network skips
    empty slots; without them it processes and masks every slot."""


def composition_of(material: str | object) -> Composition:
    """Composition of a formula, or of a structure (anything with atomic `numbers`).

    Raises:
        MlipError: the formula cannot be parsed (see `parse_formula`), or the structure has no atoms or unknown ones.
    """
    if isinstance(material, str):
        many = compositions_of_formulas([material])
    else:
        numbers = np.asarray(material.numbers)
        many = compositions_of_numbers(numbers, np.array([len(numbers)]))
    n = int(many.n_elements[0])
    return Composition(many.species[0, :n], many.fractions[0, :n])


def compositions_of_formulas(formulas: Sequence[str]) -> Compositions:
    """Compositions of chemical formulas.

    Raises:
        MlipError: names the first formula that cannot be read.
    """
    parsed = [parse_formula(formula) for formula in formulas]
    width = max(map(len, parsed), default=0)
    species, amounts = np.zeros((len(parsed), width), np.int32), np.zeros((len(parsed), width))
    for row, found in enumerate(parsed):
        species[row, : len(found)] = [atomic_numbers[symbol] for symbol in found]
        amounts[row, : len(found)] = list(found.values())
    return _most_abundant_first(species, amounts)


def compositions_of_amounts(
    numbers: Int[np.ndarray, " n"], amounts: Float[np.ndarray, " n"], n_elements: Int[np.ndarray, " k"]
) -> Compositions:
    """Compositions of many materials from concatenated distinct elements and their amounts."""
    shape = len(n_elements), int(np.max(n_elements, initial=0))
    padded = np.zeros(shape, np.int32), np.zeros(shape)
    is_filled = np.arange(shape[1]) < np.asarray(n_elements)[:, None]
    for array, values in zip(padded, (numbers, amounts), strict=True):
        array[is_filled] = values
    return _most_abundant_first(*padded)


def _most_abundant_first(species: Int[np.ndarray, "k w"], amounts: Float[np.ndarray, "k w"]) -> Compositions:
    order = np.argsort(-amounts, axis=1, kind="stable")
    species, amounts = (np.take_along_axis(array, order, axis=1) for array in (species, amounts))
    rounded = amounts.astype(np.float32)
    return Compositions(species, rounded / _sums(rounded)[:, None])


def _sums(amounts: Float[np.ndarray, "k w"]) -> Float[np.ndarray, " k"]:
    """Sums of rows, with the rounding of NumPy's sum over one row of sixteen numbers."""
    if amounts.shape[1] > _SUMMED_TOGETHER:
        return amounts.sum(1)
    slots = np.zeros((len(amounts), _SUMMED_TOGETHER), np.float32)
    slots[:, : amounts.shape[1]] = amounts
    while slots.shape[1] > 8:
        slots = slots[:, :8] + slots[:, 8:]
    while slots.shape[1] > 1:
        slots = slots[:, ::2] + slots[:, 1::2]
    return slots[:, 0]


def compositions_of_numbers(numbers: Int[np.ndarray, " n"], n_atoms: Int[np.ndarray, " k"]) -> Compositions:
    """Compositions of many structures from concatenated atomic numbers.

    Raises:
        MlipError: a structure has no atoms or an invalid atomic number; names its index.
    """
    numbers, n_atoms = np.asarray(numbers), np.asarray(n_atoms)
    ends = np.cumsum(n_atoms)
    _check_numbers(numbers, n_atoms, ends)
    parts = []
    for start in range(0, len(n_atoms), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        first = int(ends[start] - n_atoms[start])
        parts.append(_counted(numbers[first : ends[chunk][-1]], n_atoms[chunk]))
    width = max((part.species.shape[1] for part in parts), default=0)
    grown = [[np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in part] for part in parts]
    if not grown:
        return Compositions(np.zeros((0, 0), np.int32), np.zeros((0, 0), np.float32))
    return Compositions(*(np.concatenate(arrays) for arrays in zip(*grown, strict=True)))


def _check_numbers(numbers, n_atoms, ends) -> None:
    if (n_atoms < 1).any():
        raise MlipError("has no atoms", where=f"structure {int(np.argmax(n_atoms < 1))}")
    is_unknown = (numbers < 1) | (numbers > _HEAVIEST)
    if is_unknown.any():
        atom = int(np.argmax(is_unknown))
        place = int(np.searchsorted(ends, atom, side="right"))
        raise MlipError(f"atomic number {numbers[atom]} is no element's", where=f"structure {place}")


def _counted(numbers, n_atoms) -> Compositions:
    """Compositions of a chunk of structures, small enough that a table of structures and elements fits into the
    cache."""
    k, n_kinds = len(n_atoms), _HEAVIEST + 1
    keys = np.repeat(np.arange(k) * n_kinds, n_atoms) + numbers
    counts = np.bincount(keys, minlength=k * n_kinds)
    first = np.empty(k * n_kinds, np.int64)
    first[keys[::-1]] = np.arange(len(keys) - 1, -1, -1)  # the last assignment to equal keys wins: the first atom
    found = np.flatnonzero(counts)
    owner, species = np.divmod(found, n_kinds)
    order = np.lexsort((first[found], -counts[found], owner))
    owner, species, counts = owner[order], species[order], counts[found][order]
    n_elements = np.bincount(owner, minlength=k)
    place = np.arange(len(owner)) - (np.cumsum(n_elements) - n_elements)[owner]
    shape = k, int(n_elements.max())
    padded = Compositions(np.zeros(shape, np.int32), np.zeros(shape, np.float32))
    padded.species[owner, place] = species
    padded.fractions[owner, place] = counts.astype(np.float32) / n_atoms.astype(np.float32)[owner]
    return padded


def pad_compositions(compositions: Compositions, n_compositions: int | None = None) -> CompositionBatch:
    """Pad compositions to one of few shapes: the width is 4, 8, 16, 32, ..., and the number of slots is rounded up.

    Args:
        n_compositions: number of rows of the batch, of which the last may be empty; by default no row is empty.
    """
    k = len(compositions.species) if n_compositions is None else n_compositions
    widest = int(compositions.n_elements.max(initial=1))
    width = next((w for w in _WIDTHS if w >= widest), -(-widest // _WIDTHS[-1]) * _WIDTHS[-1])
    species, fractions = np.zeros((k, width), np.int32), np.zeros((k, width), np.float32)
    kept = min(width, compositions.species.shape[1])
    species[: len(compositions.species), :kept] = compositions.species[:, :kept]
    fractions[: len(compositions.species), :kept] = compositions.fractions[:, :kept]
    filled = np.flatnonzero(species)
    grain = max(16, 2 ** int(np.log2(max(k, 1))) // 8)
    room = max(-(-len(filled) // grain), 1) * grain
    slots = np.full(min(room, k * width), k * width, np.int32)
    slots[: len(filled)] = filled
    return CompositionBatch(species, fractions, slots)


@dataclass(frozen=True)
class ElementList:
    """Composition of a material as a graph without edges, with a node for each element and the most abundant first.

    nodes: `species` (n,) int32; `fractions` (n,) float32 of the atoms.
    """

    max_elements: int = 12
    """Largest number of elements in a composition."""

    def describe(self) -> str:
        """Short description, e.g. "the composition, of up to 12 elements"."""
        return f"the composition, of up to {self.max_elements} elements"

    def graphs(self, structures: Structures, dtype: type = np.float32) -> list[jraph.GraphsTuple | MlipError]:
        """Graph of each structure, or an error that says why there is none."""
        results: list[jraph.GraphsTuple | MlipError | None] = [
            self._why_not(frame.numbers) for frame in structures.frames()
        ]
        sound = np.array([fault is None for fault in results], bool)
        are_structures = structures.are_structures
        for are_chosen, compositions_of in (
            (sound & are_structures, _of_structures),
            (sound & ~are_structures, _of_amounts),
        ):
            found = compositions_of(structures, are_chosen)
            for place, n, species, fractions in zip(
                np.flatnonzero(are_chosen).tolist(),
                found.n_elements.tolist(),
                found.species,
                found.fractions,
                strict=True,
            ):
                results[place] = element_graph(species[:n], fractions[:n].astype(dtype))
        return results

    def _why_not(self, numbers: Int[np.ndarray, " n"]) -> MlipError | None:
        try:
            check_numbers(numbers)
        except MlipError as error:
            return error
        n_elements = len(np.unique(numbers))
        if n_elements > self.max_elements:
            return MlipError(f"the material has {n_elements} elements; {self.max_elements} are the most")
        return None

    def example(self) -> jraph.GraphsTuple:
        """Padded batch with a compound of two elements and a padding graph."""
        graph = element_graph(np.array([1, 2, 0], np.int32), np.array([0.5, 0.5, 0.0], np.float32))
        return graph._replace(n_node=np.array([2, 1], np.int32), n_edge=np.zeros(2, np.int32))


def _of_structures(structures: Structures, are_chosen: Bool[np.ndarray, " k"]) -> Compositions:
    numbers = structures.numbers[np.repeat(are_chosen, structures.sizes)]
    return compositions_of_numbers(numbers, structures.sizes[are_chosen])


def _of_amounts(structures: Structures, are_chosen: Bool[np.ndarray, " k"]) -> Compositions:
    if not are_chosen.any():
        return compositions_of_amounts(np.zeros(0, np.int32), np.zeros(0), np.zeros(0, np.int64))
    sites = np.repeat(are_chosen, structures.sizes)
    return compositions_of_amounts(structures.numbers[sites], structures.amounts[sites], structures.sizes[are_chosen])


def element_graph(species: Int[np.ndarray, " n"], fractions: Float[np.ndarray, " n"]) -> jraph.GraphsTuple:
    """Graph of one composition, without padding."""
    nothing = np.zeros(0, np.int32)
    return jraph.GraphsTuple(
        nodes={"species": species.astype(np.int32), "fractions": fractions},
        edges={},
        receivers=nothing,
        senders=nothing,
        globals={},
        n_node=np.array([len(species)], np.int32),
        n_edge=np.zeros(1, np.int32),
    )


class MergedRows(NamedTuple):
    """Rows of a table of formulas and targets, with each formula once, in alphabetical order."""

    formulas: list[str]
    targets: Float[np.ndarray, " k"]
    """Mean of the targets of each formula."""
    n_merged: int
    """Number of rows merged into another one."""
    n_contradicting: int
    """Number of formulas whose rows had different targets."""
    n_pure: int
    """Number of dropped rows of pure elements."""


def merge_formulas(formulas: Sequence[str], targets: Float[np.ndarray, " n"], drop_pure: bool = True) -> MergedRows:
    """Merge rows for training as in CrabNet: rows with identical formula strings become one with their mean target, and
    pure elements are dropped.

    Raises:
        MlipError: a formula cannot be read.
    """
    targets = np.asarray(targets, np.float64)
    names, owner, counts = np.unique(np.asarray(formulas, str), return_inverse=True, return_counts=True)
    is_pure = np.array([len(parse_formula(str(name))) == 1 for name in names], bool)
    means = np.bincount(owner, targets, minlength=len(names)) / counts
    largest, smallest = np.full(len(names), -np.inf), np.full(len(names), np.inf)
    np.maximum.at(largest, owner, targets)
    np.minimum.at(smallest, owner, targets)
    is_kept = ~is_pure if drop_pure else np.ones(len(names), bool)
    return MergedRows(
        formulas=names[is_kept].tolist(),
        targets=means[is_kept],
        n_merged=int((counts - 1)[is_kept].sum()),
        n_contradicting=int((largest > smallest)[is_kept].sum()),
        n_pure=int(counts[~is_kept].sum()),
    )
