"""Of each composition the material of the lowest formation energy, over all sources of a build."""

import dataclasses

import numpy as np
import pytest

from mlip.data import Store
from mlip.data.build import BuildSettings, build
from mlip.data.check import find_problems
from mlip.data.formula import composition_key
from mlip.errors import MlipError

SETTINGS = BuildSettings(fractions=(0.7, 0.15, 0.15), split_by="composition", lowest="e_form")


@pytest.fixture
def tables(tmp_path):
    """Polymorphs in two sources; one lacks its formation energy."""
    rows = {
        "first.csv": "id,formula,e_form,gap\na,TiO2,-3.0,1\nb,Ti2O4,-3.2,2\nc,MgO,-3.1,7\nd,CaO,,5\n",
        "second.csv": "id,formula,e_form,gap\ne,O2Ti,-3.1,3\nf,MgO,-3.1,8\ng,Al0.5Ga0.5As,-0.5,1.9\n",
    }
    for name, text in rows.items():
        (tmp_path / name).write_text(text)
    return [tmp_path / name for name in rows]


def test_the_lowest_of_all_sources_is_kept_of_equals_the_first(tables, tmp_path):
    report = build(tables, tmp_path / "store.h5", SETTINGS, part_bytes=1)
    with Store(tmp_path / "store.h5") as store:
        kept = {m.id: m.properties["gap"] for m in store.materials()}
    assert kept == {"b": 2.0, "c": 7.0, "g": 1.9}
    assert (report.materials_read, report.not_lowest_materials) == (7, 4)
    assert sum(report.materials_kept.values()) == sum(report.frames_kept.values()) == 3
    assert not list(find_problems(tmp_path / "store.h5"))


def test_bytes_of_what_is_kept_are_those_of_the_material_alone(shared, tmp_path):
    """Real entries: what is kept is what the store of all has, frame by frame."""
    entries = shared / "data/alexandria/fixture_entries_pbe.json.bz2"
    everything = dataclasses.replace(SETTINGS, lowest=None)
    build([entries], tmp_path / "all.h5", everything)
    report = build([entries], tmp_path / "lowest.h5", SETTINGS)
    with Store(tmp_path / "all.h5") as every, Store(tmp_path / "lowest.h5") as lowest:
        best: dict[str, tuple[float, str]] = {}
        for m in every.materials():
            one = m.properties["e_form"], m.id
            key = composition_key(every.relaxed_frame(m))
            best[key] = min(best.get(key, one), one, key=lambda pair: pair[0])
        assert {m.id for m in lowest.materials()} == {name for _, name in best.values()}
        assert report.not_lowest_materials == every.n_materials - lowest.n_materials
        whole = {m.id: m for m in every.materials()}
        for m in lowest.materials():
            assert (m.split, m.properties) == (whole[m.id].split, whole[m.id].properties)
            one, other = lowest.relaxed_frame(m), every.relaxed_frame(whole[m.id])
            np.testing.assert_array_equal(one.positions, other.positions)
            np.testing.assert_array_equal(one.numbers, other.numbers)
            assert one.energy == other.energy
    assert not list(find_problems(tmp_path / "lowest.h5"))


def test_a_property_that_nobody_has_is_told(tables, tmp_path):
    with pytest.raises(MlipError, match="no material has the property 'e_from'"):
        build(tables, tmp_path / "store.h5", dataclasses.replace(SETTINGS, lowest="e_from"))
    with pytest.raises(MlipError, match="--lowest makes one file"):
        build(tables, tmp_path / "folder", SETTINGS)
