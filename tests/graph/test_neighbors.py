"""The neighbor list is every pair within the cutoff, whatever the cell: a definition, ASE and a brute force agree."""

import itertools
import threading

import ase.neighborlist
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule, mx2
from ase.io import read

from mlip.errors import MlipError
from mlip.graph.neighbors import complete_cell, neighbor_list

ALL_PBC = list(itertools.product([True, False], repeat=3))


def as_rows(receivers, senders, shifts) -> list[tuple[int, ...]]:
    return [tuple(row) for row in np.column_stack([receivers, senders, shifts]).tolist()]


def all_images_one_by_one(positions, cell, pbc, cutoff) -> list[tuple[int, ...]]:
    """The definition: every image that could be near enough is looked at."""
    pbc = np.asarray(pbc, dtype=bool)
    periodic = np.flatnonzero(pbc)
    lattice = np.asarray(cell, dtype=float)[periodic]
    reach = np.zeros(3, int)
    if len(periodic):
        to_fractional = np.linalg.pinv(lattice)
        spread = np.ptp(positions @ to_fractional, axis=0)
        reach[periodic] = np.ceil(cutoff * np.linalg.norm(to_fractional, axis=0) + spread)
    found = []
    for shift in itertools.product(*(range(-r, r + 1) for r in reach)):
        vectors = positions[None] + np.array(shift)[periodic] @ lattice - positions[:, None]
        near = np.linalg.norm(vectors, axis=-1) < cutoff
        if not any(shift):
            np.fill_diagonal(near, False)
        found += [(int(i), int(j), *shift) for i, j in np.argwhere(near)]
    return sorted(found)


def random_cell(rng, kind: str) -> np.ndarray:
    cell = np.diag(rng.uniform(2.5, 8, 3)) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if kind == "skewed":
        shear = np.eye(3)
        shear[[1, 2, 2], [0, 0, 1]] = rng.integers(-4, 5, 3)
        cell = shear @ cell
    if (np.linalg.det(cell) < 0) != (kind == "left-handed"):
        cell[0] *= -1
    return cell


@pytest.mark.parametrize("kind", ["right-handed", "left-handed", "skewed"])
@pytest.mark.parametrize("pbc", ALL_PBC)
@pytest.mark.parametrize("place", ["inside", "outside"])
def test_it_finds_what_a_search_over_all_images_finds(kind, pbc, place):
    rng = np.random.default_rng(abs(hash((kind, pbc))) % 1000)
    for n_atoms in (1, 2, 7):
        cell = random_cell(rng, kind)
        positions = rng.random((n_atoms, 3)) @ cell
        if place == "outside":
            positions += rng.integers(-5, 6, (n_atoms, 3)) @ cell + rng.normal(size=3) * 10
        expected = all_images_one_by_one(positions, cell, pbc, 5.0)
        assert as_rows(*neighbor_list(positions, cell, np.array(pbc), 5.0)) == expected
        without_open_rows = cell * np.array(pbc)[:, None]
        assert as_rows(*neighbor_list(positions, without_open_rows, np.array(pbc), 5.0)) == expected


def real_structures() -> list[Atoms]:
    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0)
    wire = bulk("Au", cubic=True)
    wire.pbc = (False, False, True)
    quartz_like = bulk("SiO", "wurtzite", a=3.1, c=5.0)
    layer = mx2("MoS2", vacuum=None)
    sheet = graphene(vacuum=None)
    return [
        bulk("NaCl", "rocksalt", a=5.64),
        bulk("Cs", "bcc", a=6.05),
        bulk("Si", cubic=True) * (1, 2, 1),
        quartz_like,
        slab,
        wire,
        layer,
        sheet,
        molecule("C6H6"),
    ]


@pytest.mark.parametrize("atoms", real_structures(), ids=lambda atoms: f"{atoms.get_chemical_formula()}{atoms.pbc}")
def test_it_agrees_with_ase_on_crystals_slabs_wires_and_molecules(atoms):
    atoms.rattle(0.02, seed=1)
    atoms.positions += [11.0, -7.0, 3.0]
    expected = sorted(as_rows(*ase.neighborlist.neighbor_list("ijS", atoms, 5.0)))
    assert as_rows(*neighbor_list(atoms.positions, atoms.cell[:], atoms.pbc, 5.0)) == expected


def test_it_agrees_with_ase_on_dft_crystals_under_every_pbc(shared):
    crystals = read(shared / "data" / "benchmarks" / "alexandria-random-1k.extxyz.gz", index="::40")
    for number, atoms in enumerate(crystals):
        atoms.pbc = ALL_PBC[number % len(ALL_PBC)]
        atoms.rattle(0.01, seed=number)  # ties with the cutoff are decided by the last bit
        expected = sorted(as_rows(*ase.neighborlist.neighbor_list("ijS", atoms, 5.0)))
        assert as_rows(*neighbor_list(atoms.positions, atoms.cell[:], atoms.pbc, 5.0)) == expected


def test_every_edge_has_its_reverse_even_at_the_very_cutoff():
    atoms = bulk("NaCl", "rocksalt", a=5.0) * (2, 1, 1)  # half of all shells lie at multiples of 2.5 A
    atoms.positions += [0.1, 0.2, 0.7]
    rows = as_rows(*neighbor_list(atoms.positions, atoms.cell[:], atoms.pbc, 5.0))
    assert set(rows) == {(j, i, -a, -b, -c) for i, j, a, b, c in rows}


def test_shifts_are_right_for_positions_far_outside_the_cell():
    atoms = bulk("Fe", cubic=True)
    moves = np.array([[3, -7, 0], [-2, 11, 40]])
    inside = neighbor_list(atoms.positions, atoms.cell[:], atoms.pbc, 4.0)
    receivers, senders, shifts = neighbor_list(atoms.positions + moves @ atoms.cell, atoms.cell[:], atoms.pbc, 4.0)
    moved_back = as_rows(receivers, senders, shifts + moves[senders] - moves[receivers])
    assert sorted(moved_back) == as_rows(*inside)


def test_edges_are_sorted_by_receiver_then_sender_then_shift():
    atoms = bulk("Si", cubic=True)
    neighbors = neighbor_list(atoms.positions, atoms.cell[:], atoms.pbc, 6.0)
    rows = as_rows(*neighbors)
    assert rows == sorted(rows)
    assert all(column.dtype == np.int32 for column in neighbors)


def test_all_images_in_a_cell_much_smaller_than_the_cutoff():
    """Lattice points inside a sphere, less the center: 4/3 pi 12^3 for a simple cubic cell of 0.5 A, 6 A."""
    receivers, _, shifts = neighbor_list(np.zeros((1, 3)), np.eye(3) * 0.5, np.ones(3, bool), 6.0)
    grid = np.arange(-12, 13)
    n_inside = (np.add.outer(np.add.outer(grid**2, grid**2), grid**2) < 12**2).sum()
    assert len(receivers) == n_inside - 1
    assert len(np.unique(shifts, axis=0)) == len(shifts)


def test_one_atom_without_neighbors_and_no_atoms_at_all():
    for n_atoms in (0, 1):
        receivers, senders, shifts = neighbor_list(np.zeros((n_atoms, 3)), np.eye(3) * 9, np.ones(3, bool), 5.0)
        assert len(receivers) == len(senders) == 0
        assert shifts.shape == (0, 3)
        assert shifts.dtype == np.int32


def test_atoms_at_one_place_are_a_pair_of_distance_zero():
    cell = np.diag([4.1, 4.2, 4.3])
    positions = np.array([[0.1, 0.2, 0.3], [4.2, 0.2, 0.3]])  # the second is the first's image
    rows = as_rows(*neighbor_list(positions, cell, np.ones(3, bool), 3.0))
    assert rows == [(0, 1, -1, 0, 0), (1, 0, 1, 0, 0)]


@pytest.mark.parametrize("lengths", [(4, 1e4, 1e4), (4, 1e6, 4), (1e12, 1e2, 1e7), (4, 2e3, 2e3), (4, 4, 1e4)])
@pytest.mark.parametrize("pbc", [(True, True, True), (False, False, False), (True, False, True)])
def test_kilometers_of_vacuum_neither_crash_nor_cost_time(lengths, pbc):
    rng = np.random.default_rng(0)
    cell = np.diag(lengths).astype(float)
    positions = rng.random((8, 3)) @ cell
    expected = all_images_one_by_one(positions, cell, pbc, 5.0)
    assert as_rows(*neighbor_list(positions, cell, np.array(pbc), 5.0)) == expected


def test_a_molecule_flown_apart_has_the_neighbors_of_its_parts():
    water = molecule("H2O").positions
    far = np.vstack([water, water + np.array([1e5, -3e5, 2e4])])
    alone = as_rows(*neighbor_list(water, np.zeros((3, 3)), np.zeros(3, bool), 5.0))
    both = as_rows(*neighbor_list(far, np.zeros((3, 3)), np.zeros(3, bool), 5.0))
    assert both == alone + [(i + 3, j + 3, *shift) for i, j, *shift in alone]


def test_rows_of_open_directions_are_not_read():
    sheet = graphene(vacuum=None)
    pbc = np.array([True, True, False])
    expected = as_rows(*neighbor_list(sheet.positions, sheet.cell[:], pbc, 5.0))
    for row in ([np.nan] * 3, sheet.cell[0], [1.0, 2.0, 3.0]):
        cell = sheet.cell[:].copy()
        cell[2] = row
        assert as_rows(*neighbor_list(sheet.positions, cell, pbc, 5.0)) == expected


def test_threads_do_not_share_buffers():
    crystals = [bulk("NaCl", "rocksalt", a=5.0 + 0.1 * k) * (1, 1, 1 + k) for k in range(4)]
    expected = [as_rows(*neighbor_list(a.positions, a.cell[:], a.pbc, 5.0)) for a in crystals]
    wrong = []

    def search(k):
        atoms = crystals[k]
        for _ in range(50):
            if as_rows(*neighbor_list(atoms.positions, atoms.cell[:], atoms.pbc, 5.0)) != expected[k]:
                wrong.append(k)

    threads = [threading.Thread(target=search, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("positions", "cell", "message"),
    [
        ([[0, 0, np.nan]], np.eye(3) * 5, "not finite"),
        ([[0, 0, 0]], np.diag([5, np.inf, 5]), "not finite"),
        ([[0, 0, 0]], [[1, 0, 0], [2, 0, 0], [0, 0, 3]], "linearly dependent"),
        ([[0, 0, 0]], np.zeros((3, 3)), "linearly dependent"),
        ([[0, 0, 0]], np.eye(3) * 1e-3, "collapsed"),
    ],
)
def test_nonsense_is_refused_in_a_line(positions, cell, message):
    with pytest.raises(MlipError, match=message):
        neighbor_list(np.array(positions, float), np.array(cell, float), np.ones(3, bool), 5.0)


@pytest.mark.parametrize("pbc", ALL_PBC)
def test_a_complete_cell_has_unit_normals_along_open_directions(pbc):
    pbc = np.array(pbc)
    cell = random_cell(np.random.default_rng(3), "skewed")
    complete = complete_cell(cell * pbc[:, None], pbc)
    gram = complete @ complete.T
    expected = np.where(np.outer(pbc, pbc), cell @ cell.T, np.eye(3))
    np.testing.assert_allclose(gram, expected, atol=1e-12 * np.abs(gram).max())


def test_atoms_a_million_angstrom_along_a_periodic_direction_have_the_neighbors_of_their_images():
    """vesin ends the process here."""
    cell = np.array([[0.0, 0, 0], [4.946138413308754, 0, 0], [1.8899165390669586, 2.7608104829176403, 0]])
    pbc = np.array([False, True, True])
    home = np.array([[0.0, 0, 0], [1.0, 1.0, -2.6]])
    away = home + np.array([[0, 0, 0], [0, 100_000, -200_000]]) @ cell
    near, far = (neighbor_list(positions, cell, pbc, 5.15) for positions in (home, away))
    assert len(far.senders) == len(near.senders) > 0
