"""Frames of a store as graphs with training labels, many at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import jraph
import numpy as np
from jaxtyping import Float, Int

from mlip.data.records import Frame
from mlip.data.store import Store
from mlip.errors import MlipError
from mlip.graph.inputs import ModelInputs
from mlip.graph.stacked_structures import STRUCTURE_COLUMNS, Structures


class LabelArrays(NamedTuple):
    """Labels of many frames."""

    of_atoms: dict[str, np.ndarray]
    """Labels for `graph.nodes`, one row per atom."""
    of_frames: dict[str, np.ndarray]
    """Labels for `graph.globals`, one row per frame."""
    faults: dict[int, MlipError] = {}  # noqa: RUF012 (never written to)
    """Reasons why frames cannot be used for training, by index."""


class Labels(Protocol):
    """Computes the labels of frames for training. Picklable."""

    columns: tuple[str, ...]
    """Columns of the store from which the labels are computed."""

    def __call__(self, columns: Mapping[str, np.ndarray], indices: Int[np.ndarray, " k"]) -> LabelArrays: ...


@dataclass(frozen=True)
class LabeledGraphs:
    """Converts store indices to labeled graphs with their index in `globals["frame"]`. Each worker process has a
    copy."""

    store: Store
    inputs: ModelInputs
    labels: Labels
    dtype: type = np.float32

    def __call__(self, indices: Int[np.ndarray, " k"]) -> list[jraph.GraphsTuple]:
        """Graphs of the frames, in order.

        Raises:
            MlipError: a frame has no graph or cannot be used for training; names the material.
        """
        columns = self.store.gather((*STRUCTURE_COLUMNS, *self.labels.columns), indices)
        return _labeled(columns, np.asarray(indices), self.inputs, self.labels, self.dtype, self._name)

    def _name(self, index: int) -> str:
        frame, material = self.store.frame(index), self.store.material(self.store.material_of(index))
        return f"{material.id}: calculation {frame.calculation}, step {frame.ionic_step} (frame {index} of the store)"


def labeled_graphs(
    frames: Sequence[Frame], inputs: ModelInputs, labels: Labels, dtype: type = np.float32
) -> list[jraph.GraphsTuple]:
    """Labeled graphs of frames that are not in a store.

    Raises:
        MlipError: a frame has no graph or cannot be used for training; names its index.
    """
    return _labeled(_columns_of(frames), np.arange(len(frames)), inputs, labels, dtype, "frame {}".format)


def _columns_of(frames: Sequence[Frame]) -> dict[str, np.ndarray]:
    """Columns of the frames in the format of `Store.gather`, with one material per frame."""
    structures = Structures.of(frames)

    def of_atoms(name: str) -> Float[np.ndarray, "a 3"]:
        found = [(getattr(one, name), len(one)) for one in frames]
        return np.concatenate([np.zeros((0, 3)), *(np.full((n, 3), np.nan) if v is None else v for v, n in found)])

    return {
        "size": structures.sizes,
        "number": structures.numbers,
        "position": structures.positions,
        "cell": structures.cells,
        "pbc": structures.pbc,
        "amount": np.full(len(structures.numbers), np.nan) if structures.amounts is None else structures.amounts,
        "energy": np.array([one.energy for one in frames], np.float64),
        "material": np.arange(len(frames)),
        "force": of_atoms("forces"),
        "direction": of_atoms("direction"),
        "curvature": of_atoms("curvature"),
        "stress": np.array([np.full(6, np.nan) if one.stress is None else one.stress for one in frames]).reshape(-1, 6),
    }


def _labeled(
    columns: Mapping[str, np.ndarray],
    indices: Int[np.ndarray, " k"],
    inputs: ModelInputs,
    labels: Labels,
    dtype: type,
    name: Callable[[int], str],
) -> list[jraph.GraphsTuple]:
    structures = Structures.of_columns(columns)
    label_arrays = labels(columns, indices)
    of_frames = label_arrays.of_frames | {"frame": indices.astype(np.int32)}
    starts, sizes = structures.first_atoms.tolist(), structures.sizes.tolist()
    graphs = []
    for k, graph in enumerate(inputs.graphs(structures, dtype)):
        fault = graph if isinstance(graph, MlipError) else label_arrays.faults.get(k)
        if fault is not None:
            raise MlipError(fault.what, where=name(int(indices[k])), fix=fault.fix)
        atoms = slice(starts[k], starts[k] + sizes[k])
        graphs.append(
            graph._replace(
                nodes=graph.nodes | {key: values[atoms] for key, values in label_arrays.of_atoms.items()},
                globals=graph.globals | {key: values[k : k + 1] for key, values in of_frames.items()},
            )
        )
    return graphs


@dataclass(frozen=True)
class EnergyLabels:
    """Energies minus reference energies, forces and stresses; NaN for missing labels.

    Graphs get the globals `energy` (1,) eV and `stress` (1, 6) eV/A^3 and the node labels `forces` (n, 3) eV/A. If
    materials have them, `head` (1,) and `factors` (1, 3) on the weights of energy, forces and stress are added to the
    globals.
    """

    reference_energies: Float[np.ndarray, "*h 119"]
    """Reference energies by atomic number, eV, float64; with one row per head if materials have heads."""
    head_of_material: Int[np.ndarray, " m"] | None = None
    factors_of_material: Float[np.ndarray, "m 3"] | None = None
    columns: tuple[str, ...] = field(
        default=("frames/energy", "frames/material", "frames/stress", "atoms/force"), init=False
    )

    def __call__(self, columns: Mapping[str, np.ndarray], indices: Int[np.ndarray, " k"]) -> LabelArrays:
        heads = None if self.head_of_material is None else self.head_of_material[columns["material"]]
        references = self._reference_energies(columns, heads)
        of_frames = {
            "energy": (columns["energy"] - references).astype(np.float32),
            "stress": columns["stress"].astype(np.float32),
        }
        if heads is not None:
            of_frames["head"] = heads
        if self.factors_of_material is not None:
            of_frames["factors"] = self.factors_of_material[columns["material"]].astype(np.float32)
        lacking = np.flatnonzero(np.isnan(references) & ~np.isnan(columns["energy"])).tolist()
        return LabelArrays(
            {"forces": columns["force"].astype(np.float32)},
            of_frames,
            {k: self._lacks_reference(columns, heads, k) for k in lacking},
        )

    def _reference_energies(self, columns: Mapping[str, np.ndarray], heads) -> Float[np.ndarray, " k"]:
        """Sum of the reference energies over the atoms of each frame, eV."""
        numbers, sizes = np.minimum(columns["number"], 118), columns["size"]
        of_atoms = self.reference_energies[numbers if heads is None else (np.repeat(heads, sizes), numbers)]
        sums = np.zeros(len(sizes))
        has_atoms = sizes > 0
        if len(numbers):
            sums[has_atoms] = np.add.reduceat(of_atoms, (np.cumsum(sizes) - sizes)[has_atoms])
        return sums

    def _lacks_reference(self, columns: Mapping[str, np.ndarray], heads, k: int) -> MlipError:
        start = int(columns["size"][:k].sum())
        numbers = columns["number"][start : start + columns["size"][k]]
        known = self.reference_energies if heads is None else self.reference_energies[heads[k]]
        unknown = sorted({int(z) for z in numbers if np.isnan(known[min(z, 118)])})
        return MlipError(
            f"no reference energy for atomic numbers {unknown}",
            fix="fit the reference energies on data that contain these elements",
        )


@dataclass(frozen=True)
class CurvatureLabels(EnergyLabels):
    """Energies, forces and stresses, and products of the Hessian with directions.

    Graphs also get the node labels `direction` (n, 3), zero if unknown, and `curvature` (n, 3) eV/A^2.
    """

    columns: tuple[str, ...] = field(
        default=(
            "frames/energy",
            "frames/material",
            "frames/stress",
            "atoms/force",
            "atoms/direction",
            "atoms/curvature",
        ),
        init=False,
    )

    def __call__(self, columns: Mapping[str, np.ndarray], indices: Int[np.ndarray, " k"]) -> LabelArrays:
        arrays = super().__call__(columns, indices)
        curvature, direction = columns["curvature"], columns["direction"]
        curvature = np.where(np.isnan(direction), np.nan, curvature)
        of_atoms = {"direction": np.nan_to_num(direction), "curvature": curvature}
        return arrays._replace(of_atoms=arrays.of_atoms | {k: v.astype(np.float32) for k, v in of_atoms.items()})
