"""`--functional` fills what data leave unsaid, and never relabels what they state."""

import gzip
import json
from pathlib import Path

import ase
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

from mlip.data import Skipped, Store
from mlip.data.build import BuildSettings, build
from mlip.data.readers.naming import CONTRADICTION
from mlip.data.readers.sources import read_source
from mlip.errors import MlipError


def copper(material_id, **info):
    atoms = bulk("Cu")
    atoms.info |= {"material_id": material_id} | info
    atoms.calc = SinglePointCalculator(atoms, energy=-3.7, forces=[[0, 0, 0]])
    return atoms


def functionals(path, given):
    items = list(read_source(path, functional=given))
    return [item.reason if isinstance(item, Skipped) else item.functional for item in items]


def contradiction(given, stated):
    return f"{CONTRADICTION} {given}: {stated}"


@pytest.mark.parametrize("key", ["functional", "xc_functional"])
@pytest.mark.parametrize(
    ("stated", "given", "found"),
    [
        ("PBEsol", "PBE", contradiction("PBE", "PBEsol")),
        ("PBE+U", "PBE", contradiction("PBE", "PBE+U")),
        ("pbe", "PBE", "pbe"),
        ("R2SCAN", "r2-SCAN", "R2SCAN"),
        ("unknown", "PBE", "PBE"),
        ("None", "PBE", "PBE"),
        ("PBEsol", None, "PBEsol"),
    ],
)
def test_what_a_frame_states_is_kept_and_contradicted_by_nobody(tmp_path, key, stated, given, found):
    write(tmp_path / "x.extxyz", copper("m", **{key: stated}))
    assert functionals(tmp_path / "x.extxyz", given) == [found]


def test_rows_of_a_database_state_theirs_too(tmp_path):
    with connect(tmp_path / "x.db") as database:
        database.write(copper("a"), material_id="a", functional="PBEsol")
        database.write(copper("b"), data={"sid": "b", "functional": "SCAN"})
        database.write(copper("c"), material_id="c")
    assert functionals(tmp_path / "x.db", "PBE") == [
        contradiction("PBE", "PBEsol"),
        contradiction("PBE", "SCAN"),
        "PBE",
    ]


@pytest.mark.parametrize(
    ("name", "given", "is_refused"),
    [
        ("alexandria_ps_000.json", "PBE", True),
        ("pbesol_2d/alexandria_2d_000.json", "PBE", True),
        ("alexandria_scan_000.json", "R2SCAN", True),
        ("pbe_0000.json", "PBE", False),
        ("pbe_0000.json", "PBE+U", False),  # no name has a word for it
        ("pbe_0000.json", "PBE-D3", False),
        ("pbe_0000.json", "PBEsol", True),
        ("surrogate.json", "PBE", True),
        ("surrogate.json", "surrogate MACE", False),
        ("runs.json", "PBE", False),
    ],
)
def test_names_of_files_are_contradicted_by_nobody(write_paths, make_run, make_step, tmp_path, name, given, is_refused):
    file = write_paths({"agm000000001": [make_run(make_step())]})
    target = tmp_path / name
    target.parent.mkdir(exist_ok=True)
    (item,) = read_source(file.rename(target), functional=given)
    assert isinstance(item, Skipped) == is_refused
    if is_refused:
        assert item.reason.startswith(f"{CONTRADICTION} {given}: ")
        assert item.material_id == "agm000000001"
    else:
        assert item.functional == given


@pytest.mark.parametrize(
    ("run_type", "given", "found"),
    [
        ("GGA", "PBE", "PBE"),
        ("GGA+U", "PBE", "PBE"),  # ALEXANDRIA's PBE has Hubbard corrections where these are due
        ("R2SCAN", "PBE", contradiction("PBE", "R2SCAN")),
        ("R2SCAN", "r2SCAN", "R2SCAN"),
        ("PBEsol", None, "PBEsol"),
        (None, "PBE", "PBE"),
        ({"no": "text"}, "PBE", "PBE"),
    ],
)
def test_the_run_type_of_an_entry_states_its_functional(write_paths, structure, run_type, given, found):
    entry = {"structure": structure.as_dict(), "energy": -27.0, "data": {}, "parameters": {"run_type": run_type}}
    name = "runs.json" if given else "pbe_0000.json"
    assert functionals(write_paths({"entries": [entry]}, name), given) == [found]


def test_a_page_of_an_optimade_server_states_its_functional(shared, tmp_path):
    page = shared / "data" / "alexandria" / "fixture_optimade_structures_page.json.gz"
    (tmp_path / "p.optimade.json").write_bytes(gzip.decompress(page.read_bytes()))
    assert set(functionals(tmp_path / "p.optimade.json", "PBE")) == {"PBE"}
    assert set(functionals(tmp_path / "p.optimade.json", "PBEsol")) == {contradiction("PBEsol", "PBE")}


def test_a_run_of_vasp_states_its_functional():
    run = Path(ase.__file__).parent / "test" / "testdata" / "vasp" / "vasprun_dfpt.xml"
    if not run.exists():
        pytest.skip("needs the VASP runs of ASE's tests, which this ASE comes without")
    assert functionals(run, "PBEsol") == [contradiction("PBEsol", "PBE")]
    assert functionals(run, "PBE") == ["PBE"]


def test_a_build_that_would_relabel_is_refused_and_counts_both(tmp_path):
    stated = {"a": "PBEsol", "b": "PBEsol", "c": "PBE+U", "d": "PBE", "e": None}
    frames = [copper(name, **({"functional": value} if value else {})) for name, value in stated.items()]
    write(tmp_path / "x.extxyz", frames)
    with pytest.raises(MlipError) as refused:
        build([tmp_path / "x.extxyz"], tmp_path / "s.h5", BuildSettings(functional="PBE"))
    message = str(refused.value)
    assert "--functional PBE contradicts 3 materials: 1 of PBE+U, 2 of PBEsol" in message
    assert "the other 2 state PBE or nothing" in message
    assert "x.extxyz: a" in message
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    write(tmp_path / "x.extxyz", frames[3:])
    build([tmp_path / "x.extxyz"], tmp_path / "s.h5", BuildSettings(functional="PBE"))
    with Store(tmp_path / "s.h5") as store:
        assert [material.functional for material in store.materials()] == ["PBE", "PBE"]
        assert json.dumps(store.metadata)
