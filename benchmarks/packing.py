"""How much of a training batch is padding: structures dealt to equal batches (mlip's loader), first-fit, and one
worst-case shape, on the sizes of real crystals.

    python benchmarks/packing.py [--data alexandria-random-1k.extxyz.gz] [--out benchmarks/results/packing.json]

Each epoch shuffles the crystals. Dealing and the worst case have the same number of structures in each batch; first-fit
fills budgets of atoms and edges (those of an average batch) in the order of the shuffle, as many structures as fit.
What counts is what a compiled program sees: slots of its arrays that hold nothing.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from ase.io import iread
from jaxtyping import Int

from mlip.data import Frame
from mlip.graph.batching import ShapeLadder, deal, graph_sizes
from mlip.graph.radius_graph import crystal_graph
from mlip.graph.window import WINDOW

CUTOFF = 5.0
EPOCHS = 20

Sizes = Int[np.ndarray, "k 2"]
"""Atoms and edges of structures."""


def sizes_of(data: Path) -> Sizes:
    frames = (Frame(a.numbers.astype(np.int16), a.positions, a.cell.array, a.pbc) for a in iread(data, index=":"))
    return graph_sizes([crystal_graph(frame, CUTOFF) for frame in frames])


def dealt(sizes: Sizes, batch_size: int) -> tuple[list[float], int]:
    """As the loader does: within windows, each batch in the smallest of a few shapes."""
    n_batches = max(1, min(WINDOW, len(sizes)) // batch_size)
    ladder = ShapeLadder.from_sizes(sizes, n_batches * batch_size, n_batches)
    loads, shapes = [], []
    for window in windows(sizes, n_batches * batch_size):
        for batch in deal(window, n_batches):
            n_node, n_edge = window[batch].sum(0).tolist()
            loads.append((n_node, n_edge))
            shapes.append(ladder.smallest(n_node + 1, n_edge, batch_size + 1)[:2])
    return padded(loads, shapes), len(set(shapes))


def first_fit(sizes: Sizes, batch_size: int) -> tuple[list[float], int]:
    """Every structure into the first open batch with room."""
    budget = np.ceil(sizes.mean(0) * batch_size)
    loads = []
    for window in windows(sizes, WINDOW):
        bins = np.zeros((0, 2))
        for size in window:
            room = np.flatnonzero((bins + size <= budget).all(1))
            if len(room):
                bins[room[0]] += size
            else:
                bins = np.vstack([bins, size])
        loads += bins.tolist()
    return padded(loads, [budget] * len(loads)), 1


def worst_case(sizes: Sizes, batch_size: int) -> tuple[list[float], int]:
    """Room for a batch of the largest structures."""
    loads = [window.sum(0) for window in windows(sizes, batch_size)]
    return padded(loads, [sizes.max(0) * batch_size] * len(loads)), 1


def windows(sizes: Sizes, length: int) -> list[Sizes]:
    """Of an endless shuffle of the structures, whole windows only."""
    rng = np.random.default_rng(0)
    order = np.concatenate([rng.permutation(len(sizes)) for _ in range(EPOCHS)])
    return [sizes[order[start : start + length]] for start in range(0, len(order) - length + 1, length)]


def padded(loads: list, shapes: list) -> list[float]:
    """Empty shares of all atom and edge slots."""
    return (1 - np.sum(loads, axis=0) / np.sum(shapes, axis=0)).round(4).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="any file of crystals that ase.io reads")
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[16, 32, 128])
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    options = parser.parse_args()
    sizes = sizes_of(options.data)
    report = {"crystals": options.data.name, "cutoff": CUTOFF, "mean_atoms_and_edges": sizes.mean(0).round(1).tolist()}
    for batch_size in options.batch_sizes:
        report[f"batches of {batch_size}"] = {
            name: dict(zip(("padded_atoms", "padded_edges"), shares, strict=True)) | {"shapes": n_shapes}
            for name, (shares, n_shapes) in (
                ("dealt", dealt(sizes, batch_size)),
                ("first-fit", first_fit(sizes, batch_size)),
                ("worst case", worst_case(sizes, batch_size)),
            )
        }
    print(json.dumps(report, indent=2))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
