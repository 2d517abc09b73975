"""The structures that the default potential learns from (datasets/default)."""

import sys
from pathlib import Path

import ase.build
import numpy as np
import pytest
from ase import Atoms

from mlip.data.records import Frame, Trajectory
from mlip.data.store import Store
from mlip.data.writer import StoreWriter
from mlip.models.m3gnet import M3GNetConfig
from mlip.models.zbl import zbl_energies
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata

FOLDER = Path(__file__).resolve().parents[2] / "datasets" / "default"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The scripts import one another, as they do when they are run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for path in FOLDER.glob("*.py"):
        sys.modules.pop(path.stem, None)


def test_a_layer_across_the_cells_boundary_gets_its_vacuum_on_one_side():
    from parents import VACUUM, with_vacuum

    layer = Atoms(
        "MoS2", cell=[3, 3, 20], pbc=True, scaled_positions=[(0, 0, 0.98), (0.3, 0.3, 0.05), (0.3, 0.3, 0.91)]
    )
    free = with_vacuum(layer, 2)
    assert free.cell.lengths()[2] == pytest.approx(0.14 * 20 + VACUUM)
    np.testing.assert_allclose(free.get_all_distances(mic=True), layer.get_all_distances(mic=True), atol=1e-9)
    np.testing.assert_allclose(np.ptp(free.positions[:, 2]), 0.14 * 20)


def test_frames_keep_the_vacuum_and_strain_the_periodic_directions_only():
    from parents import Parent, expanded, far

    slab = ase.build.fcc111("Cu", size=(1, 1, 3), vacuum=7.5, periodic=True)
    before = slab.copy()
    for way in (far, expanded):
        frame = way(Parent("slab", slab, "slab"), np.random.default_rng(0))
        np.testing.assert_allclose(frame.cell.array[2], slab.cell.array[2])
        assert np.abs(frame.cell.array[:2] - slab.cell.array[:2]).max() > 0.01
    np.testing.assert_array_equal(slab.positions, before.positions)  # the parent is as it was
    molecule = Parent("H2O", ase.build.molecule("H2O"), "molecule")
    assert not far(molecule, np.random.default_rng(0)).cell.any()


def test_atoms_in_one_another_are_seen_across_the_boundary_too():
    from parents import is_sparse

    assert is_sparse(ase.build.bulk("Cu"))
    near = Atoms("CuO", positions=[[0, 0, 0.1], [0, 0, 9.5]], cell=[10, 10, 10], pbc=True)
    assert not is_sparse(near)
    near.pbc = False
    assert is_sparse(near)


def test_substitution_keeps_kinds_of_elements_and_is_of_the_elements_volume():
    import built_structures as built

    crystals = [ase.build.bulk(s, "fcc", a=a) for s, a in (("Cu", 3.6), ("Ag", 4.1), ("Au", 4.1), ("Al", 4.05))] * 5
    volumes = built.AtomicVolumes(crystals)
    assert volumes.of(crystals[0]) == pytest.approx(crystals[0].get_volume(), rel=1e-6)
    salt = ase.build.bulk("NaCl", "rocksalt", a=5.6)
    elements = [3, 11, 19, 9, 17, 35, 8]
    for parent in built.alike([salt], elements, volumes, 20, np.random.default_rng(0)):
        cation, anion = parent.atoms.numbers
        assert cation in (3, 11, 19)
        assert anion in (9, 17, 35)
        ratio = volumes.of(parent.atoms) / volumes.of(salt)
        assert parent.atoms.get_volume() / salt.get_volume() == pytest.approx(ratio, rel=0.051)


def test_a_structure_of_a_test_set_is_known_whatever_its_size_and_cell():
    from held_out import HeldOut

    tested = ase.build.bulk("ZnS", "zincblende", a=5.4)
    held_out = HeldOut([("mptrj-random-1k", "mp-10695-0-2", tested)])
    assert held_out.has_formula(tested)
    larger = tested.repeat((2, 1, 1))
    larger.set_cell(larger.cell * 1.04, scale_atoms=True)
    assert held_out.matches(larger)
    assert held_out.has_id("mp-10695")
    assert held_out.has_id("mp-10695-3-0")
    assert not held_out.has_id("mp-1069")
    assert not held_out.matches(ase.build.bulk("ZnS", "rocksalt", a=5.1))
    assert not held_out.has_formula(ase.build.bulk("ZnSe", "zincblende", a=5.7))
    assert dict(held_out.overlap([larger, ase.build.bulk("ZnS", "rocksalt", a=5.1)])) == {"mptrj-random-1k": 1}


def test_published_structures_are_read_from_the_pack(shared):
    from real_structures import SAMPLES, real_parents, sample_parents

    parents = [next(real_parents(shared / "data")), *sample_parents(shared / "data")]
    assert {parent.id.split("-")[0] for parent in parents[1:]} == set(SAMPLES)
    assert all(parent.atoms.get_volume() / len(parent.atoms) > 4 for parent in parents)


def test_frames_of_absurd_labels_are_left_out_and_counted(tmp_path):
    from label import label

    config = M3GNetConfig(units=4, n_blocks=1, zbl=True)
    teacher = Potential(config, init_parameters(config), PotentialMetadata(reference_energies={"Cu": -3.0}))
    frames = [_frame(ase.build.bulk("Cu", a=a)) for a in (3.6, 1.0)]  # in the second the nuclei repel
    with StoreWriter(tmp_path / "structures.h5") as writer:
        writer.add(Trajectory("Cu", frames, "PBE", 3), "train")
    counts = label(teacher, tmp_path / "structures.h5", tmp_path / "labeled.h5")
    assert counts["frames"] == 1
    assert sum(counts.values()) == 2
    with Store(tmp_path / "labeled.h5") as store:
        expected = teacher.predict([ase.build.bulk("Cu", a=3.6)])[0]
        assert store.frame(0).energy == pytest.approx(expected["energy"], rel=1e-6)
        np.testing.assert_allclose(store.frame(0).stress, expected["stress"], atol=1e-7)


def _frame(atoms: Atoms) -> Frame:
    return Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc)


def test_squeezed_dimers_repel_from_the_teachers_wall_inward():
    from squeezed import _POWER, frame, inner_wall, repulsion

    assert inner_wall(np.array([9.0, 4.0, 1.0, 0.0, 0.5])) == 0  # rises all the way in
    assert inner_wall(np.array([1.0, 4.0, 1.0, 0.0, 0.5])) == 1  # falls into a hole below the second point
    assert inner_wall(np.array([0.0, 1.0, 2.0])) == 0
    distances = np.array([0.5, 1.0, 1.6])
    step, numbers, ends = 1e-3, np.array([29, 8]), np.array([1, 0])

    def energy(d: float) -> float:
        return float(zbl_energies(np.array([d, d], np.float32), numbers, ends, ends[::-1], _POWER).sum())

    expected = [-(energy(d + step) - energy(d - step)) / (2 * step) for d in distances]
    np.testing.assert_allclose(repulsion((29, 8), distances), expected, rtol=1e-2)
    squeezed = frame((29, 8), 1.2, force=5.0)
    np.testing.assert_array_equal(squeezed.forces, [[-5, 0, 0], [5, 0, 0]])  # apart
    assert np.isnan(squeezed.energy)
