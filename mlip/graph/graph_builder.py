"""Frames of a store as graphs with the labels that a potential learns, many at a time."""

from dataclasses import dataclass
from typing import Protocol

import jraph
import numpy as np
from jaxtyping import Float, Int

from mlip.data.records import Frame
from mlip.data.store import Store
from mlip.errors import MlipError
from mlip.graph.crystal import crystal_graph
from mlip.graph.near import FARTHEST, near_origin
from mlip.graph.neighbors import Neighbors
from mlip.graph.small_crystals import Structures, small_crystal_neighbors

_COLUMNS = (
    "frames/cell",
    "frames/energy",
    "frames/material",
    "frames/pbc",
    "frames/stress",
    "atoms/force",
    "atoms/number",
    "atoms/position",
)


class BuildsGraphs(Protocol):
    """Store indices -> labelled graphs, each with `globals["frame"]` its index. Picklable: worker processes have one
    each."""

    store: Store

    def __call__(self, indices: Int[np.ndarray, " k"]) -> list[jraph.GraphsTuple]: ...


@dataclass(frozen=True)
class GraphBuilder:
    """Graphs for potentials: `crystal_graph`, labelled with energy, forces and stress.

    Energies are less the reference energies; `globals["head"]` and `globals["factors"]` (on the weights of energy,
    forces and stress) are there where materials have them.
    """

    store: Store
    cutoff: float
    """A."""
    reference_energies: Float[np.ndarray, "*h 119"]
    """eV by atomic number, float64; with a row a head, if materials have heads."""
    dtype: type = np.float32
    head_of_material: Int[np.ndarray, " m"] | None = None
    factors_of_material: Float[np.ndarray, "m 3"] | None = None

    def __call__(self, indices: Int[np.ndarray, " k"]) -> list[jraph.GraphsTuple]:
        """The frames' graphs, in their order.

        Raises:
            MlipError: what `crystal_graph` raises, with the material's id.
        """
        columns = self.store.gather(_COLUMNS, indices)
        pbc = columns["pbc"].astype(bool)
        structures = Structures(columns["size"], columns["position"], columns["cell"], pbc)
        heads = None if self.head_of_material is None else self.head_of_material[columns["material"]]
        reference_energies = self._reference_energies(columns, heads)
        # What is not right with a frame, `crystal_graph` says.
        is_odd = np.isnan(reference_energies) & ~np.isnan(columns["energy"])
        is_far = np.abs(columns["position"]).max(axis=1, initial=0) > FARTHEST
        is_odd[np.repeat(np.arange(len(indices)), columns["size"])[is_far | ~_is_element(columns["number"])]] = True

        nodes = {
            "species": columns["number"].astype(np.int32),
            "positions": columns["position"].astype(self.dtype),
            "forces": columns["force"].astype(np.float32),
        }
        globals_ = {
            "cell": columns["cell"].astype(self.dtype),
            "frame": indices.astype(np.int32),
            "energy": (columns["energy"] - reference_energies).astype(np.float32),
            "stress": columns["stress"].astype(np.float32),
        }
        if heads is not None:
            globals_["head"] = heads
        if self.factors_of_material is not None:
            globals_["factors"] = self.factors_of_material[columns["material"]].astype(self.dtype)

        ends = np.cumsum(columns["size"])
        graphs = []
        for k, neighbors in enumerate(small_crystal_neighbors(structures, self.cutoff)):
            of_frame = {key: values[k : k + 1] for key, values in globals_.items()}
            if neighbors is None or is_odd[k]:
                graphs.append(self._by_itself(int(indices[k]), of_frame))
                continue
            atoms = slice(ends[k] - columns["size"][k], ends[k])
            graphs.append(_graph({key: values[atoms] for key, values in nodes.items()}, neighbors, of_frame))
        return graphs

    def _reference_energies(self, columns: dict[str, np.ndarray], heads) -> Float[np.ndarray, " k"]:
        """eV, of each frame: the sum over its atoms."""
        numbers, sizes = np.minimum(columns["number"], 118), columns["size"]
        of_atoms = self.reference_energies[numbers if heads is None else (np.repeat(heads, sizes), numbers)]
        sums = np.zeros(len(sizes))
        has_atoms = sizes > 0
        if len(numbers):
            sums[has_atoms] = np.add.reduceat(of_atoms, (np.cumsum(sizes) - sizes)[has_atoms])
        return sums

    def _by_itself(self, index: int, globals_: dict[str, np.ndarray]) -> jraph.GraphsTuple:
        """The graph of a frame that is no small crystal, or not in order."""
        frame, references = self.store.frame(index), self.reference_energies
        if "head" in globals_:
            references = references[globals_["head"][0]]
        try:
            graph = crystal_graph(
                near_origin(frame), self.cutoff, dtype=self.dtype, reference_energies=references, index=index
            )
        except MlipError as error:
            raise MlipError(error.what, where=self._name(index, frame), fix=error.fix) from None
        return graph._replace(globals=globals_ | graph.globals)

    def _name(self, index: int, frame: Frame) -> str:
        material = self.store.material(self.store.material_of(index)).id
        return f"{material}: calculation {frame.calculation}, step {frame.ionic_step} (frame {index} of the store)"


def _is_element(numbers: Int[np.ndarray, " a"]) -> np.ndarray:
    return (numbers >= 1) & (numbers <= 118)


def _graph(nodes: dict[str, np.ndarray], neighbors: Neighbors, globals_: dict[str, np.ndarray]) -> jraph.GraphsTuple:
    return jraph.GraphsTuple(
        nodes=nodes,
        edges={"shifts": neighbors.shifts},
        receivers=neighbors.receivers,
        senders=neighbors.senders,
        globals=globals_,
        n_node=np.array([len(nodes["species"])], np.int32),
        n_edge=np.array([len(neighbors.senders)], np.int32),
    )
