"""Small materials for the data room's tests."""

import bz2
import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from mlip.data import Frame, Trajectory


@pytest.fixture
def make_frame():
    def make(energy=-8.0, numbers=(11, 17), force=0.01, stress=0.001, a=4.0, **fields):
        n = len(numbers)
        fractions = np.arange(n)[:, None] / n * np.ones(3)
        values = {
            "positions": fractions * a,
            "cell": np.eye(3) * a,
            "energy": energy,
            "forces": None if force is None else np.full((n, 3), force),
            "stress": None if stress is None else np.full(6, stress),
        }
        return Frame(
            numbers=np.array(numbers, dtype=np.int16),
            pbc=np.ones(3, dtype=bool),
            **values | fields,
        )

    return make


@pytest.fixture
def make_trajectory(make_frame):
    def make(material_id="agm000000001", energies=(-8.0, -8.1, -8.15), properties=None, **fields):
        frames = [make_frame(energy, ionic_step=k, **fields) for k, energy in enumerate(energies)]
        return Trajectory(material_id, frames, "PBE", 3, properties or {})

    return make


@pytest.fixture
def structure():
    """Rock salt, cubic cell."""
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    fractions = np.concatenate([corners, corners + 0.5])
    return Structure(Lattice.cubic(5.64), ["Na"] * 4 + ["Cl"] * 4, fractions)


@pytest.fixture
def make_step(structure):
    """A step of a relaxation path as pymatgen writes it, cell scaled by `scale`."""

    def make(energy=-27.0, scale=1.0, **changes):
        scaled = structure.copy()
        scaled.scale_lattice(structure.volume * scale**3)
        step = {
            "structure": scaled.as_dict(),
            "energy": energy,
            "forces": np.zeros((len(structure), 3)).tolist(),
            "stress": (np.eye(3) * 16.0).tolist(),
        }
        return step | changes

    return make


@pytest.fixture
def make_run():
    def make(*steps):
        return {"kpoints": [4, 4, 4], "PREC": "high", "ENMAX": 520.0, "ENAUG": 644.9, "steps": list(steps)}

    return make


@pytest.fixture
def write_paths(tmp_path):
    """Write {id: runs} as ALEXANDRIA does, with bare NaN where a number is not one."""

    def write(materials, name="pbe_0000.json.bz2"):
        path = tmp_path / name
        opener = bz2.open if name.endswith(".bz2") else open
        with opener(path, "wt") as stream:
            json.dump(materials, stream)
        return path

    return write
