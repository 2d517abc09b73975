"""The bundled surrogate paths are what their README says."""

from collections import Counter

import numpy as np
import pytest

from mlip.data import Trajectory
from mlip.data.readers import alexandria

FILES = {kind: f"surrogate_paths_{kind}d.json.bz2" for kind in (3, 2, 1)}


@pytest.fixture(scope="module")
def paths(quickstart_data) -> dict[int, list[Trajectory]]:
    return {kind: list(alexandria.read(quickstart_data / name)) for kind, name in FILES.items()}


def test_they_are_many_and_small(paths, quickstart_data):
    assert len(paths[3]) >= 600
    assert len(paths[2]) >= 100
    assert len(paths[1]) >= 50
    assert sum((quickstart_data / name).stat().st_size for name in FILES.values()) <= 8 * 1024**2


def test_their_names_and_ids_tell_surrogate_and_dimensionality(paths):
    ids = [path.material_id for kind in paths for path in paths[kind]]
    assert len(set(ids)) == len(ids)
    for kind in paths:
        assert {path.dimensionality for path in paths[kind]} == {kind}
        assert {path.functional for path in paths[kind]} == {"surrogate"}
        assert all(path.material_id.startswith(f"sur{kind}d-") for path in paths[kind])


def test_sixty_elements_are_there_most_of_them_in_several_materials(paths):
    materials = Counter(Z for kind in paths for path in paths[kind] for Z in set(path.frames[0].numbers.tolist()))
    assert len(materials) >= 60
    assert sum(n >= 7 for n in materials.values()) >= 56  # the metals, and the anions of the grid


def test_paths_go_downhill_and_end_relaxed(paths):
    for kind in paths:
        for path in paths[kind]:
            first, last = path.frames[0], path.frames[-1]
            assert last.energy < first.energy + 1e-3, path.material_id
            # ASE's filter measures forces in the undeformed cell; numbers in the file are rounded.
            deformation = np.linalg.solve(first.cell, last.cell).T
            assert np.linalg.norm(last.forces @ deformation, axis=1).max() < 0.0505, path.material_id


def test_layers_and_chains_keep_their_vacuum(paths):
    for kind in (2, 1):
        for path in paths[kind]:
            first, last = path.frames[0], path.frames[-1]
            np.testing.assert_array_equal(first.cell[kind:], last.cell[kind:])
            for axis in range(kind, 3):
                assert first.cell[axis, axis] - np.ptp(first.positions[:, axis]) == pytest.approx(15.0, abs=1e-3)
                assert last.cell[axis, axis] - np.ptp(last.positions[:, axis]) > 12.0, path.material_id
