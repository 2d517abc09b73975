"""Writer of trajectories in ALEXANDRIA's layout of relaxation paths, material by material.

    {id: [{"kpoints", "PREC", "ENMAX", "ENAUG", "steps": [{"structure", "energy", "forces", "stress"}]}]}

Energies are eV per cell, forces eV/A, stresses 3x3 matrices in kB with VASP's sign (compression positive). The four
keys that describe a plane-wave run are null, because a trajectory does not have them. Structures are pymatgen's
Structure dicts with fractional coordinates only; numbers are rounded to the decimals below.
"""

import bz2
import json
import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from ase.geometry import complete_cell

from mlip.data.records import Frame, Trajectory
from mlip.files.whole_file import whole_file
from mlip.units import stress_to_vasp

LATTICE_DECIMALS = 5  # A
FRACTION_DECIMALS = 6  # fraction of a lattice vector: 2e-5 A along 20 A
ENERGY_DECIMALS = 6  # eV
FORCE_DECIMALS = 5  # eV/A
STRESS_DECIMALS = 3  # kB


class PathWriter:
    """Writer of one .json or .json.bz2 file, material by material: memory holds one material.

    Use it as a context manager. The file appears under its name if the block ends without an error; an exception or a
    kill leaves whatever was there before.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._whole = whole_file(self.path)
        self._ids: set[str] = set()

    def __enter__(self) -> "PathWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        opener = bz2.open if self.path.suffix == ".bz2" else open
        self._stream = opener(self._whole.__enter__(), "wt", encoding="utf-8")
        self._stream.write("{")
        return self

    def __exit__(self, exception_type, exception, traceback) -> None:
        if exception_type is None:
            self._stream.write("}")
        self._stream.close()
        self._whole.__exit__(exception_type, exception, traceback)

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, trajectory: Trajectory) -> None:
        """Append a material. Raises ValueError for an id that was added before: JSON readers would keep one of the
        two."""
        self.add_calculations(trajectory.material_id, calculations_as_dicts(trajectory.frames))

    def add_calculations(self, material_id: str, calculations: list[dict]) -> None:
        """Append a material that is already in the layout."""
        if material_id in self._ids:
            raise ValueError(f"{self.path}: material '{material_id}' is added twice")
        separator = ",\n" if self._ids else "\n"
        self._ids.add(material_id)
        self._stream.write(f"{separator}{json.dumps(material_id)}: {compact_json(calculations)}")


def compact_json(value) -> str:
    return json.dumps(value, separators=(",", ":"))


def calculations_as_dicts(frames: Sequence[Frame]) -> list[dict]:
    """Frames of one material as ALEXANDRIA's list of calculations, one for each group of consecutive frames with the
    same `calculation`."""
    return [
        {
            "kpoints": None,
            "PREC": None,
            "ENMAX": None,
            "ENAUG": None,
            "steps": [_step_as_dict(frame) for frame in steps],
        }
        for _, steps in groupby(frames, key=lambda frame: frame.calculation)
    ]


def _step_as_dict(frame: Frame) -> dict:
    stress = None if frame.stress is None else stress_to_vasp(frame.stress)
    return {
        "structure": _structure_as_dict(frame),
        "energy": None if math.isnan(frame.energy) else round(float(frame.energy), ENERGY_DECIMALS),
        "forces": None if frame.forces is None else _rounded(frame.forces, FORCE_DECIMALS),
        "stress": None if stress is None else _rounded(stress, STRESS_DECIMALS),
    }


def _structure_as_dict(frame: Frame) -> dict:
    """Structure dict with the keys that `pymatgen.core.Structure.from_dict` needs, and ALEXANDRIA's short ones.

    Lattice vectors that the frame lacks become unit vectors.
    """
    cell = complete_cell(frame.cell)
    fractions = np.linalg.solve(cell.T, frame.positions.T).T
    return {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "charge": 0,
        "lattice": {"matrix": _rounded(cell, LATTICE_DECIMALS), "pbc": [bool(p) for p in frame.pbc]},
        "sites": [
            {"species": [{"element": chemical_symbols[number], "occu": 1}], "abc": abc}
            for number, abc in zip(frame.numbers, _rounded(fractions, FRACTION_DECIMALS), strict=True)
        ],
    }


def _rounded(array: np.ndarray, decimals: int) -> list:
    return (np.round(np.asarray(array, dtype=np.float64), decimals) + 0.0).tolist()  # + 0.0: no "-0.0"
