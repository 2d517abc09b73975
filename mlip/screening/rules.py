"""Charge neutrality and Pauling's test of `smact` (D. W. Davies et al., Chem 1, 617, 2016), vectorized over candidates.

A composition is valid if some choice of one oxidation state for each element is neutral, and if in one of these choices
the cations are less electronegative than the anions. States and results are those of `smact.screening.smact_validity`,
which takes a millisecond for one composition.
"""

import itertools

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool, Float, Int

from mlip.errors import MlipError
from mlip.screening.screening_recipe import RulesRecipe


class Rules:
    """Chemical rules that candidates must obey.

    Args:
        elements: atomic numbers that may occur.

    Raises:
        MlipError: `smact` is not installed.
    """

    def __init__(self, recipe: RulesRecipe, elements: Int[np.ndarray, " n"]):
        self._recipe = recipe
        if not recipe.charge_neutral:
            return
        states, electronegativities, self._is_metal = _tables(elements)
        self._electronegativities = electronegativities
        most = max(map(len, states))
        self._states = np.zeros((len(states), most), np.int64)
        self._is_state = np.zeros((len(states), most), bool)
        for z, of_element in enumerate(states):
            self._states[z, : len(of_element)] = of_element
            self._is_state[z, : len(of_element)] = True

    def allow(self, numbers: Int[np.ndarray, "k sites"], counts: Int[np.ndarray, " sites"]) -> Bool[np.ndarray, " k"]:
        """Whether the rules allow candidates with these elements.

        Args:
            numbers: atomic numbers, all different within a row.
            counts: number of atoms of each column's element.
        """
        if not self._recipe.charge_neutral or numbers.shape[1] == 1:
            return np.ones(len(numbers), bool)
        allowed = np.zeros(len(numbers), bool)
        if self._recipe.alloys:
            allowed = self._is_metal[numbers].all(1)
        rest = np.flatnonzero(~allowed)
        allowed[rest] = self._is_balanced(numbers[rest], counts)
        return allowed

    def _is_balanced(self, numbers: Int[np.ndarray, "k sites"], counts: Int[np.ndarray, " sites"]):
        states, is_state = self._states[numbers], self._is_state[numbers]
        electronegativities = self._electronegativities[numbers]
        valid = np.zeros(len(numbers), bool)
        for choice in itertools.product(range(states.shape[2]), repeat=states.shape[1]):
            sites = range(len(choice))
            rest = np.flatnonzero(~valid & is_state[:, sites, choice].all(1))
            if not len(rest):
                continue
            charges = states[rest][:, sites, choice]
            neutral = charges @ counts == 0
            if self._recipe.pauling:
                neutral &= _cations_give(charges, electronegativities[rest])
            valid[rest] = neutral
        return valid


def _cations_give(charges: Int[np.ndarray, "k s"], electronegativities: Float[np.ndarray, "k s"]):
    """Whether all cations are less electronegative than all anions; False if an electronegativity is unknown."""
    highest = np.where(charges > 0, electronegativities, -np.inf).max(1)
    lowest = np.where(charges < 0, electronegativities, np.inf).min(1)
    return (highest < lowest) & np.isfinite(electronegativities).all(1)


def _tables(elements: Int[np.ndarray, " n"]) -> tuple[list[list[int]], Float[np.ndarray, " z"], Bool[np.ndarray, " z"]]:
    """Oxidation states, electronegativities (NaN if unknown) and whether an element is a metal, by atomic number."""
    try:
        from smact import Element, metals
        from smact.screening import ICSD24FilterConfig
        from smact.utils.oxidation import ICSD24OxStatesFilter
    except ImportError:
        raise MlipError(
            "smact is not installed", where="rules", fix="pip install 'alexandria-mlip[screening]', or leave rules out"
        ) from None
    settings = ICSD24FilterConfig()  # the settings of smact_validity
    known = ICSD24OxStatesFilter().filter(settings.consensus, settings.include_zero, settings.commonality)
    of_symbol = {row.element: [int(state) for state in str(row.oxidation_state).split()] for row in known.itertuples()}
    symbols = chemical_symbols[: max(elements) + 1]
    chosen = set(elements.tolist())
    electronegativities = [Element(s).pauling_eneg if z in chosen else None for z, s in enumerate(symbols)]
    return (
        [of_symbol.get(symbol, []) for symbol in symbols],
        np.array([np.nan if value is None else value for value in electronegativities], float),
        np.isin(symbols, metals),
    )
