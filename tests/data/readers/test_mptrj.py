"""MPtrj's json: the frames of a material by calculation and step, in the store's units."""

import numpy as np
import pytest

from mlip.data import Skipped, Store
from mlip.data.build import build
from mlip.data.readers import alexandria
from mlip.data.readers.pymatgen_json import NO_FORCES


@pytest.fixture
def make_frame(structure):
    """A frame as MPtrj has it, cell scaled by `scale`."""

    def make(energy=-27.0, scale=1.0, **changes):
        scaled = structure.copy()
        scaled.scale_lattice(structure.volume * scale**3)
        frame = {
            "structure": scaled.as_dict(),
            "uncorrected_total_energy": energy,
            "corrected_total_energy": energy - 2.456,
            "energy_per_atom": (energy - 2.456) / 8,
            "force": np.full((8, 3), 0.5).tolist(),
            "stress": [[10.0, 1.0, 2.0], [1.0, 20.0, 3.0], [2.0, 3.0, 30.0]],
            "magmom": [0.25] * 8,
            "bandgap": 5.0,
            "mp_id": "mp-22862",
        }
        return frame | changes

    return make


def test_frames_come_by_calculation_and_step_in_the_stores_units(write_paths, make_frame, tmp_path):
    frames = {"mp-1-10-2": make_frame(-27.3), "mp-1-2-0": make_frame(-27.0), "mp-1-10-0": make_frame(-27.2, scale=0.99)}
    path = write_paths({"mp-22862": frames}, "MPtrj_2022.9_full.json")
    build([path], tmp_path / "store.h5")
    with Store(tmp_path / "store.h5") as store:
        material = store.material(0)
        assert (material.id, material.functional, material.dimensionality) == ("mp-22862", "PBE", 3)
        assert material.properties["mp_correction"] == pytest.approx(-2.456)
        found = [store.frame(k) for k in range(3)]
    assert [(f.calculation, f.ionic_step, f.energy) for f in found] == [(2, 0, -27.0), (10, 0, -27.2), (10, 2, -27.3)]
    assert found[0].stress == pytest.approx(np.array([10, 20, 30, 3, 2, 1]) * -0.1 / 160.21766208)
    assert found[0].forces == pytest.approx(0.5)
    assert found[0].magmoms == pytest.approx(0.25)


def test_a_frame_without_forces_is_dropped_and_one_without_magnetic_moments_kept(write_paths, make_frame):
    frames = {"mp-1-0-0": make_frame(force=None), "mp-1-0-1": make_frame(magmom=None, stress=None)}
    (path,) = alexandria.read(write_paths({"mp-1": frames}), functional="PBE")
    assert path.dropped == {NO_FORCES: 1}
    assert path.frames[0].magmoms is None
    assert path.frames[0].stress is None


def test_faults_skip_the_material(write_paths, make_frame):
    other = make_frame()
    other["structure"]["sites"][0]["species"][0]["element"] = "K"
    faults = {
        "frame without a number": {"mp-1": make_frame()},
        "no usable step": {"mp-1-0-0": make_frame(uncorrected_total_energy=None)},
        "composition changes along the path": {"mp-1-0-0": make_frame(), "mp-1-0-1": other},
    }
    found = list(alexandria.read(write_paths(faults), functional="PBE"))
    assert all(isinstance(one, Skipped) and one.reason == one.material_id for one in found)
