"""The goldens of ALIGNN: the original's graphs as batches of ours, and its weights by name."""

import json
import zlib
from pathlib import Path

import jraph
import numpy as np

from mlip.graph.batching import BondPairs, Shape, graph_sizes, pad_batch

NAMES = ("NaCl", "Si", "SrTiO3", "Fe", "MoS2_monolayer", "LiFePO4")


def structures(folder: Path) -> dict[str, dict]:
    return json.loads((folder / "structures.json").read_text())


def element_vectors(folder: Path) -> dict[str, list[float]]:
    """Symbol -> vector, of the elements of the goldens' structures."""
    arrays = np.load(folder / "graphs_knearest12.npz")
    found: dict[str, list[float]] = {}
    for name, structure in structures(folder).items():
        for symbol, vector in zip(structure["species"], arrays[f"{name}/atom_features"], strict=True):
            found[symbol] = vector.tolist()
    return found


def weights_of_rule(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Arrays as the goldens' README makes those of the full size: each from a hash of its name."""
    return {name: _drawn(name, tuple(shape)) for name, shape in shapes.items()}


def _drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    last = name.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    low, high = {"bias": (-0.1, 0.1), "running_mean": (-0.1, 0.1), "running_var": (0.5, 1.5)}.get(last, (0.5, 1.5))
    if last == "weight" and len(shape) >= 2:
        high = float(np.sqrt(3 / np.prod(shape[1:])))
        low = -high
    return np.random.RandomState(zlib.crc32(name.encode())).uniform(low, high, shape).astype(np.float32)


class GoldenBatch:
    """The six crystals with the original's own bonds and pairs, sorted as ours are, in one padded batch."""

    def __init__(self, folder: Path, dtype: type = np.float64, vectors: bool = False):
        arrays = np.load(folder / "graphs_knearest12.npz")
        from ase.data import atomic_numbers

        graphs, self.edges, self.pairs = [], [], []
        first_edge = first_pair = 0
        for name, structure in structures(folder).items():
            get = lambda key, name=name: arrays[f"{name}/{key}"]  # noqa: E731
            order = np.argsort(get("edge_dst"), kind="stable")
            place = np.argsort(order)
            pair_senders, pair_receivers = place[get("lg_src")], place[get("lg_dst")]
            pair_order = np.argsort(pair_receivers, kind="stable")
            numbers = np.array([atomic_numbers[symbol] for symbol in structure["species"]], np.int32)
            edges = {
                "lengths": np.linalg.norm(get("edge_r"), axis=1)[order].astype(dtype),
                "multiplicity": np.ones(len(order), dtype),
            }
            if vectors:  # ours point from the receiver to the sender
                edges["vectors"] = -get("edge_r")[order].astype(dtype)
            pairs = BondPairs(
                {
                    "cosines": get("lg_cos")[pair_order].astype(dtype),
                    "multiplicity": np.ones(len(pair_order), dtype),
                },
                pair_senders[pair_order].astype(np.int32),
                pair_receivers[pair_order].astype(np.int32),
                np.array([len(pair_order)], np.int32),
            )
            graphs.append(
                jraph.GraphsTuple(
                    nodes={"species": numbers, "multiplicity": np.ones(len(numbers), dtype)},
                    edges=edges,
                    senders=get("edge_src")[order].astype(np.int32),
                    receivers=get("edge_dst")[order].astype(np.int32),
                    globals={"pairs": pairs},
                    n_node=np.array([len(numbers)], np.int32),
                    n_edge=np.array([len(order)], np.int32),
                )
            )
            self.edges.append(first_edge + place)
            self.pairs.append(first_pair + np.argsort(pair_order))
            first_edge, first_pair = first_edge + len(order), first_pair + len(pair_order)
        self.edges, self.pairs = np.concatenate(self.edges), np.concatenate(self.pairs)
        """Rows of the original's edges and pairs, in its order."""
        n_node, n_edge, n_pair = graph_sizes(graphs).sum(0).tolist()
        self.n_atoms, self.n_crystals = n_node, len(graphs)
        self.graph = pad_batch(graphs, Shape(n_node + 3, n_edge + 5, len(graphs) + 2, n_pair + 7))
