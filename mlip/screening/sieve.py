"""The sieve of a round: a model of compositions that drops candidates before the property model sees structures."""

import numpy as np
from jaxtyping import Bool, Int

from mlip.graph.composition import ElementList, compositions_of_numbers, element_graph
from mlip.property_model import PropertyModel


class Sieve:
    """Selects compositions by their predicted distances to the hull.

    Args:
        model: a property model that reads compositions and predicts e_above_hull.
        below: distance below which a composition passes, eV/atom.
    """

    def __init__(self, model: PropertyModel, below: float):
        self._model, self._below = model, below

    def passes(
        self, numbers: Int[np.ndarray, "k sites"], atoms_of_site: Int[np.ndarray, " sites"]
    ) -> Bool[np.ndarray, " k"]:
        """Whether each candidate's composition passes. Compositions whose prediction is not finite pass.

        Args:
            numbers: atomic numbers, all different within a row.
            atoms_of_site: number of atoms of each column's element.
        """
        if not len(numbers):
            return np.zeros(0, bool)
        crystals = np.repeat(numbers, atoms_of_site, axis=1)
        found = compositions_of_numbers(crystals.ravel(), np.full(len(crystals), crystals.shape[1]))
        graphs = [
            element_graph(species[:n], fractions[:n].astype(np.float32))
            for n, species, fractions in zip(found.n_elements.tolist(), found.species, found.fractions, strict=True)
        ]
        return ~(self._model.predict_graphs(graphs) >= self._below)


def reads_compositions(model: PropertyModel) -> bool:
    return isinstance(model.config.inputs, ElementList)
