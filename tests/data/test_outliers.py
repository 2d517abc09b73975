"""The paper's outlier rules: what each removes, and the counts."""

import numpy as np
import pytest

from mlip.data import Frame, Trajectory
from mlip.data.outliers import (
    RULE_SETS,
    atom_without_neighbor_within,
    remove_outliers,
    remove_path_outliers,
    rules_named,
)
from mlip.errors import MlipError

KBAR = 0.1 / 160.21766208  # eV/A^3


def broken(frame: Frame, rule_set: str) -> list[str]:
    return [rule.name for rule in RULE_SETS[rule_set] if rule.is_outlier([frame])[0]]


def atoms_at(positions, cell=(30.0, 30.0, 30.0), pbc=(True, True, True)) -> Frame:
    positions = np.array(positions, dtype=float)
    cell = np.diag(cell) if np.ndim(cell) == 1 else np.array(cell, dtype=float)
    return Frame(np.full(len(positions), 6, np.int16), positions, cell, np.array(pbc), energy=-1.0)


def test_an_ordinary_crystal_breaks_no_rule(make_frame):
    assert broken(make_frame(), "2d") == []
    assert broken(make_frame(), "pbesol") == []


@pytest.mark.parametrize(("n", "removed"), [(20, False), (21, True)])
def test_the_2d_set_has_twenty_sites_at_most(make_frame, n, removed):
    assert ("more than 20 sites" in broken(make_frame(numbers=[6] * n), "2d")) is removed


@pytest.mark.parametrize(
    ("energy", "rule"),
    [
        (0.02, "energy > 0 eV/atom"),
        (0.0, None),
        (-39.9, None),
        (-40.1, "energy < -20 eV/atom"),  # of the cell, two atoms
    ],
)
def test_energies_of_the_2d_set_are_per_atom(make_frame, energy, rule):
    assert broken(make_frame(energy=energy), "2d") == ([rule] if rule else [])


def test_the_largest_force_component_decides(make_frame):
    forces = np.zeros((2, 3))
    forces[1, 2] = -20.1
    assert broken(make_frame(forces=forces, force=None), "2d") == ["force component > 20 eV/A"]
    assert broken(make_frame(forces=forces * 0.99, force=None), "2d") == []  # |F| of 3 x 19.9 would be 34
    assert broken(make_frame(force=19.9), "2d") == []
    assert broken(make_frame(force=-50.1), "pbesol") == ["force component > 50 eV/A"]


def test_stress_limits_are_in_kilobar(make_frame):
    assert broken(make_frame(stress=-501 * KBAR), "2d") == ["stress component > 500 kbar"]
    assert broken(make_frame(stress=499 * KBAR), "2d") == []
    assert broken(make_frame(stress=799 * KBAR), "pbesol") == []
    assert broken(make_frame(stress=801 * KBAR), "pbesol") == ["stress component > 800 kbar"]


def test_pbesol_rules_know_no_lower_energy_no_sites_and_no_neighbors(make_frame):
    assert broken(make_frame(energy=-4000.0, numbers=[6] * 40, a=90.0), "pbesol") == []


def test_missing_labels_break_no_rule(make_frame):
    frame = make_frame(energy=float("nan"), force=None, stress=None)
    assert broken(frame, "2d") == []
    assert broken(make_frame(stress=np.nan, force=np.nan), "2d") == []


@pytest.mark.parametrize(
    ("frame", "is_lonely"),
    [
        (atoms_at([[0, 0, 0], [5.9, 0, 0]]), False),
        (atoms_at([[0, 0, 0], [6.1, 0, 0]]), True),
        (atoms_at([[0, 0, 0], [3, 0, 0], [12, 0, 0]]), True),  # two bonded atoms do not excuse the third
        (atoms_at([[1, 0, 0], [29, 0, 0]]), False),  # neighbors across the boundary
        (atoms_at([[1, 0, 0], [29, 0, 0]], pbc=(False, True, True)), True),  # but not across an open one
        (atoms_at([[0, 0, 0]]), True),
        (atoms_at([[0, 0, 0]], cell=(5.9, 30, 30)), False),  # its own image
        (atoms_at([[0, 0, 0]], cell=(5.9, 30, 30), pbc=(False, True, True)), True),
        (atoms_at([[0, 0, 0]], cell=[[8, 0, 0], [7, 3, 0], [0, 0, 30]]), False),  # image along a - b: 3.2 A
        (atoms_at([[0, 0, 0], [3, 0, 0]], cell=(0, 0, 0), pbc=(False, False, False)), False),
        (atoms_at([[0, 0, 0], [1e6, 0, 0]], cell=(0, 0, 0), pbc=(False, False, False)), True),
        (atoms_at([[0, 0, 0], [62, 0, 0]]), False),  # outside the cell: 2 A from an image
    ],
)
def test_an_atom_without_neighbor_is_found_under_periodicity(frame, is_lonely):
    assert atom_without_neighbor_within(6.0).is_outlier([frame]).tolist() == [is_lonely]


def test_counts_go_to_the_first_broken_rule_and_add_up(make_frame):
    frames = [make_frame(), make_frame(energy=9.0, force=99.0), make_frame(force=99.0), make_frame(force=99.0)]
    kept, removed = remove_outliers(Trajectory("m", frames, "PBE", 2), RULE_SETS["2d"])
    assert kept.frames == frames[:1]
    assert removed == {"energy > 0 eV/atom": 1, "force component > 20 eV/A": 2}


def test_the_rule_set_none_removes_nothing(make_frame):
    frames = [make_frame(energy=1e6, force=1e6)]
    kept, removed = remove_outliers(Trajectory("m", frames, "PBE", 3), rules_named("none"))
    assert kept.frames == frames
    assert not removed


def test_an_unknown_rule_set_names_the_known_ones():
    with pytest.raises(MlipError, match="2d, pbesol, path, none"):
        rules_named("3d")


def path_of(make_frame, *runs) -> Trajectory:
    """Runs of energies, eV/atom."""
    frames = [
        make_frame(2 * energy, calculation=calculation, ionic_step=step)
        for calculation, energies in enumerate(runs)
        for step, energy in enumerate(energies)
    ]
    return Trajectory("agm000000001", frames, "PBE", 3)


@pytest.mark.parametrize(
    ("runs", "kept", "removed"),
    [
        ([[-3.0, -3.5, -3.9]], ["0.0", "0.1", "0.2"], []),
        ([[-2.8, -3.5, -3.9]], ["0.1", "0.2"], ["step > 1 eV/atom above the path's end"]),
        ([[-3.5, -3.9], [-3.91, -3.92]], ["0.0", "0.1", "1.0", "1.1"], []),
        ([[-3.5, -3.9], [-4.0, -4.1]], ["1.0", "1.1"], ["run before an energy jump > 0.05 eV/atom at a restart"]),
        ([[-3.5], [-3.9, -4.0], [-4.01], [-3.8]], ["3.0"], ["run before an energy jump > 0.05 eV/atom at a restart"]),
        ([[-3.5, 9.0]], ["0.0", "0.1"], []),  # nothing is above the end; rules of frames see to it
        ([[float("nan"), -3.9], [float("nan")]], ["0.0", "0.1", "1.0"], []),
    ],
)
def test_steps_that_other_settings_or_lost_electrons_made_are_removed(make_frame, runs, kept, removed):
    path, counts = remove_path_outliers(path_of(make_frame, *runs), rules_named("2d,path"))
    assert [f"{frame.calculation}.{frame.ionic_step}" for frame in path.frames] == kept
    assert list(counts) == removed
    assert sum(counts.values()) == sum(map(len, runs)) - len(kept)


def test_rules_of_paths_come_before_those_of_frames_and_each_once(make_frame):
    path = path_of(make_frame, [-2.8, -3.9, 0.1, -3.9])
    assert remove_path_outliers(path, rules_named("pbesol"))[1] == {}
    assert remove_outliers(path, rules_named("pbesol,path"))[1] == {"energy > 0 eV/atom": 1}
