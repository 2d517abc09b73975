"""Textbook crystals as files and as prototypes."""

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk

from mlip.graph.shells import ShellGraph
from mlip.screening.prototypes import ScreeningPrototype, read_prototypes
from mlip.screening.screening_recipe import PrototypesRecipe

GRAPH = ShellGraph()
FACE_CENTERED = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])


def crystals() -> dict[str, Atoms]:
    half = Atoms("LiAlSi", scaled_positions=[[0, 0, 0], [0.25] * 3, [0.5] * 3], cell=3.0 * FACE_CENTERED, pbc=True)
    full = Atoms(
        "Cu2MnAl",
        scaled_positions=[[0.25] * 3, [0.75] * 3, [0, 0, 0], [0.5] * 3],
        cell=3.0 * FACE_CENTERED,
        pbc=True,
    )
    oxygens = [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    perovskite = Atoms("SrTiO3", scaled_positions=[[0, 0, 0], [0.5] * 3, *oxygens], cell=3.9 * np.eye(3), pbc=True)
    return {
        "rocksalt": bulk("NaCl", "rocksalt", a=5.6),
        "cesiumchloride": bulk("CsCl", "cesiumchloride", a=4.1),
        "zincblende": bulk("ZnS", "zincblende", a=5.4, cubic=True),
        "fluorite": bulk("CaF2", "fluorite", a=5.5),
        "half_heusler": half,
        "heusler": full,
        "perovskite": perovskite,
    }


def write_folder(folder: Path, *names: str) -> Path:
    """CIF files of these crystals."""
    folder.mkdir(exist_ok=True)
    for name in names:
        ase.io.write(folder / f"{name}.cif", crystals()[name])
    return folder


def prototypes_in(source: Path, **options) -> list[ScreeningPrototype]:
    recipe = PrototypesRecipe(source=source, sites=options.pop("sites", (2, 3)), **options)
    return list(read_prototypes(recipe, GRAPH).prototypes)
