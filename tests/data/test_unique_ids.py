"""Ids are unique in a store, for each functional."""

import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlip.data import Store
from mlip.data.build import BuildSettings, build
from mlip.data.readers.sources import source_stems
from mlip.errors import MlipError


def copper(energy=-3.7, **info):
    atoms = bulk("Cu")
    atoms.info |= info
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=[[0, 0, 0]])
    return atoms


def ids(store):
    with Store(store) as opened:
        return [material.id for material in opened.materials()]


@pytest.mark.parametrize("part_bytes", [1, 1 << 25])
@pytest.mark.parametrize("out", ["s.h5", "shards"])
def test_an_id_that_two_sources_have_refuses_the_store_with_both_named(tmp_path, part_bytes, out):
    for name, material_ids in (("one", "xyz"), ("two", "vwx"), ("three", "y")):
        write(tmp_path / f"{name}.extxyz", [copper(material_id=each) for each in material_ids])
    sources = [tmp_path / f"{name}.extxyz" for name in ("one", "two", "three")]
    with pytest.raises(MlipError) as refused:
        build(sources, tmp_path / out, BuildSettings(functional="PBE"), part_bytes=part_bytes)
    message = str(refused.value)
    assert "the id 'x' (PBE) occurs in one.extxyz and again in two.extxyz, as 1 further ids do" in message
    assert not (tmp_path / out).exists()
    build(sources[1:], tmp_path / out, BuildSettings(functional="PBE"), part_bytes=part_bytes)
    assert ids(tmp_path / out) == ["v", "w", "x", "y"]


def test_one_id_with_two_functionals_is_two_materials(tmp_path):
    write(tmp_path / "pbe.extxyz", copper(material_id="x"))
    write(tmp_path / "pbesol.extxyz", copper(material_id="x"))
    build([tmp_path / "pbe.extxyz", tmp_path / "pbesol.extxyz"], tmp_path / "s.h5")
    assert ids(tmp_path / "s.h5") == ["x", "x"]


def test_files_that_differ_in_their_ending_only_have_ids_of_their_own(tmp_path):
    for name in ("run.extxyz", "run.xyz", "other.xyz"):
        write(tmp_path / name, copper(), format="extxyz")
    build([tmp_path], tmp_path / "s.h5", BuildSettings(functional="PBE"))
    assert ids(tmp_path / "s.h5") == ["other", "run.extxyz", "run.xyz"]
    assert source_stems(["OUTCAR.a", "OUTCAR.b", "md.traj"]) == {
        "OUTCAR.a": "OUTCAR.a",
        "OUTCAR.b": "OUTCAR.b",
        "md.traj": "md",
    }
