"""Writes the structures that the quickstart's surrogate paths start from: crystals, layers and chains.

    python make_structures.py OUT_FOLDER

Always the same ones: each kind has a seed of its own. The next step, labeling, is in README.md.
"""

import sys
from pathlib import Path

import numpy as np
from ase.io import write
from chains import build_chains
from crystals import build_crystals
from layers import build_layers

N_LAYERS, N_CHAINS = 130, 70


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {
        "3d": build_crystals(np.random.default_rng(3)),
        "2d": build_layers(N_LAYERS, np.random.default_rng(2)),
        "1d": build_chains(N_CHAINS, np.random.default_rng(1)),
    }
    for kind, structures in kinds.items():
        named = []
        for index, atoms in enumerate(structures):
            atoms.info = {"material_id": f"sur{kind}-{index:06d}"}
            named.append(atoms)
        write(folder / f"structures_{kind}.extxyz", named)
        print(f"{folder / f'structures_{kind}.extxyz'}: {len(named)} structures")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
