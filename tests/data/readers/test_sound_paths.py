"""Paths without a fault, decoded to declared types: the general reader's numbers; all other paths are left to it."""

import json
from dataclasses import fields

import numpy as np
import pytest

from mlip.data.readers.alexandria import RESTART, from_member, trajectory_from_runs
from mlip.data.readers.json_stream import raw_members
from mlip.data.readers.sound_paths import sound_path
from mlip.data.records import Frame
from mlip.data.stacked import StackedFrames


def read(runs):
    return sound_path(json.dumps(runs).encode(), "m", "PBE", 3)


def read_generally(runs):
    return trajectory_from_runs("m", json.loads(json.dumps(runs)), "PBE", 3)


def assert_same(path, other) -> None:
    """To the last bit."""
    assert (path.material_id, path.functional, path.dimensionality) == (
        other.material_id,
        other.functional,
        other.dimensionality,
    )
    assert path.dropped == other.dropped
    assert len(path.frames) == len(other.frames)
    for a, b in zip(path.frames, other.frames, strict=True):
        for field in fields(Frame):
            mine, others = getattr(a, field.name), getattr(b, field.name)
            assert (mine is None) == (others is None), field.name
            assert np.array_equal(mine, others), field.name
            assert getattr(mine, "dtype", type(mine)) == getattr(others, "dtype", type(others)), field.name


@pytest.fixture
def runs(make_run, make_step, structure):
    """Two runs with random numbers of 17 digits; the second starts where the first ends, but for lattice vectors."""
    rng = np.random.default_rng(0)

    def step(fractions, scale):
        made = make_step(-27.0 - rng.random(), scale, forces=rng.normal(size=(8, 3)).tolist())
        made["stress"] = rng.normal(size=(3, 3)).tolist()
        for site, abc in zip(made["structure"]["sites"], fractions.tolist(), strict=True):
            site["abc"] = abc
            site["properties"] = {"magmom": rng.normal(), "charge": 1.0}
        return made

    fractions = [structure.frac_coords + 0.01 * rng.random((8, 3)) for _ in range(4)]
    return [
        make_run(step(fractions[0], 1.0), step(fractions[1], 1.01)),
        make_run(step(fractions[1] + [0, 1, -2], 1.01), step(fractions[2], 1.02)),
        make_run(),
        make_run(step(fractions[3], 1.02)),
    ]


def test_a_sound_path_has_the_numbers_of_the_general_reader(runs):
    path = read(runs)
    assert isinstance(path.frames, StackedFrames)
    assert path.dropped == {RESTART: 1}
    assert [frame.name for frame in path.frames] == ["run 0 step 0", "run 1 step 0", "run 1 step 1", "run 3 step 0"]
    assert_same(path, read_generally(runs))


def test_real_paths_have_the_numbers_of_the_general_reader(shared):
    n_sound = 0
    for file in sorted((shared / "data" / "alexandria").glob("fixture_geo_opt_paths_*.json.bz2")):
        for member in raw_members(file):
            path = sound_path(member.text, member.key, "PBE", 3)
            if path is not None:
                n_sound += 1
                assert_same(path, trajectory_from_runs(member.key, json.loads(member.text), "PBE", 3))
    assert n_sound >= 15


def test_frames_are_chosen_by_index_slice_and_mask(runs):
    frames = read(runs).frames
    assert [frame.name for frame in frames[1:]] == ["run 1 step 0", "run 1 step 1", "run 3 step 0"]
    assert [frame.name for frame in frames[np.array([True, False, False, True])]] == ["run 0 step 0", "run 3 step 0"]
    assert frames[-1].name == "run 3 step 0"


def change(*keys_and_value):
    """A change of one value within the second step."""
    *keys, last, value = keys_and_value

    def apply(step):
        for key in keys:
            step = step[key]
        step[last] = value

    return apply


SITE = ("structure", "sites", 3)


@pytest.mark.parametrize(
    "dirty",
    [
        change("energy", None),
        change("energy", float("nan")),
        change("energy", "-27.0"),
        change("forces", [[0.0] * 3] * 7),
        change("forces", [[0.0] * 3] * 6 + [[0.0] * 2, [0.0] * 4]),  # as many numbers as there should be
        change("forces", 2, 1, None),
        change("forces", 2, 1, float("nan")),
        change("forces", 2, 1, 10**400),
        change("stress", None),
        change("stress", [[1.0] * 3] * 2),
        change("structure", "lattice", "matrix", [[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 3.0]]),
        change("structure", "lattice", "pbc", [True, True, False]),
        change("structure", "lattice", "pbc", [1, 1, 1]),
        change("structure", "sites", []),
        change(*SITE, "abc", [0.1, 0.2]),
        change(*SITE, "species", [{"element": "K", "occu": 1}]),
        change(*SITE, "species", [{"element": "Na", "occu": 0.5}]),
        change(*SITE, "label", "Natrium, é"),
        change(*SITE, "properties", None),  # the moment of one site of one step is not known
        change(*SITE, "properties", {"magmom": [0.0, 0.0, 1.0]}),
    ],
)
def test_whatever_is_odd_is_left_to_the_general_reader(runs, dirty):
    dirty(runs[0]["steps"][1])
    text = json.dumps(runs, ensure_ascii=False).encode()
    assert sound_path(text, "m", "PBE", 3) is None


def test_moments_that_no_site_has_are_not_known_and_no_reason_to_look_closer(runs):
    for step in (step for run in runs for step in run["steps"]):
        for site in step["structure"]["sites"]:
            site["properties"] = {}
    path = read(runs)
    assert path.frames[0].magmoms is None
    assert_same(path, read_generally(runs))


@pytest.mark.parametrize("text", [b"[]", b'[{"steps": []}]', b"{}", b"3", b"[" * 100_000 + b"]" * 100_000, b"[{"])
def test_what_is_no_path_is_left_to_the_general_reader(text):
    assert sound_path(text, "m", "PBE", 3) is None


def test_the_reader_of_files_takes_the_fast_way_where_it_can(runs, write_paths):
    (member,) = raw_members(file := write_paths({"agm2000000001": runs}))
    path = from_member(member, file, None, None)
    assert isinstance(path.frames, StackedFrames)
    assert (path.material_id, path.functional, path.dimensionality) == ("agm2000000001", "PBE", 2)
