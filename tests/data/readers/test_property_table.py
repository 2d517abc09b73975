"""Tables of formulas and properties as sources of a store: what is a material, and what is told of the others."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest
from typer.testing import CliRunner

from mlip.cli import data as data_commands
from mlip.data import Store
from mlip.data.build import BuildSettings, build
from mlip.data.check import find_problems
from mlip.data.formula import composition_key, parse_formula
from mlip.data.readers.property_table import CONTRADICTING, IN_SEVERAL_SPLITS, REPEATED, read
from mlip.data.records import Skipped
from mlip.data.schema import FORMAT_VERSION, STRUCTURES_VERSION
from mlip.errors import MlipError

HOSTILE = {
    "Xx2O3": "formula: unknown element",
    "Na+": "formula: charge or open amount",
    "CuSO4.5H2O": "formula: hydrate or joined formulas",
    "CuSO4·5H2O": "formula: hydrate or joined formulas",
    "Fe-2O3": "formula: negative amount",
    "Fe0O3": "formula: amount out of range",
    "H" * 200: "formula: formula too long",
    "Fe2(O3": "formula: brackets",
    "": "formula: no formula",
}


@pytest.fixture
def table(tmp_path):
    """Writes a table, and gives its path."""

    def write(text, name="table.csv"):
        path = tmp_path / name
        (gzip.open if name.endswith(".gz") else open)(path, "wt", encoding="utf-8").write(text)
        return path

    return write


def materials(path, **options):
    return [one for one in read(path, **options) if not isinstance(one, Skipped)]


def test_a_store_of_formulas_keeps_every_amount(table, tmp_path):
    path = table("formula,target\nAl0.35Ga0.65As,1.5\nFe2O3,2.0\nY3N@C80,-1\n", "table.csv.gz")
    build([path], tmp_path / "store.h5")
    with Store(tmp_path / "store.h5") as store:
        found = {m.formula: (store.relaxed_frame(m), m.properties["target"]) for m in store.materials()}
    assert {formula: target for formula, (_, target) in found.items()} == {
        "Al0.35Ga0.65As": 1.5,
        "Fe2O3": 2.0,
        "Y3N@C80": -1.0,
    }
    for formula, (frame, _) in found.items():
        np.testing.assert_array_equal(frame.amounts, list(parse_formula(formula).values()))
        assert np.isnan(frame.positions).all()
    assert not list(find_problems(tmp_path / "store.h5"))


def test_only_stores_with_compositions_have_the_newer_format(table, tmp_path, quickstart_data):
    build([table("Fe2O3,1\nFeO,2\n")], tmp_path / "compositions.h5")
    build([next(quickstart_data.glob("*.json*"))], tmp_path / "paths.h5")
    for name, version in (("compositions", FORMAT_VERSION), ("paths", STRUCTURES_VERSION)):
        with Store(tmp_path / f"{name}.h5") as store:
            assert store.metadata["format_version"] == store.shards[0].file.attrs["format_version"] == version


@pytest.mark.parametrize("header", ["formula,gap", "Composition,gap", "id,formula,gap"])
def test_columns_are_properties_by_their_names(table, header):
    rows = [("m1", "NaCl", "8.5"), ("m2", "MgO", "")]
    cells = [row[-len(header.split(",")) :] for row in rows]
    found = list(read(table("\n".join([header, *map(",".join, cells)]))))
    assert found[-1].properties == {"formula": "NaCl", "gap": 8.5}
    assert found[-1].material_id == ("m1" if "id" in header else "NaCl")
    assert (found[0].reason, found[0].detail) == ("no property is known", "line 3: gap: no value")


def test_a_table_without_a_header_has_formula_and_target(table):
    assert [one.properties["target"] for one in materials(table("Fe2O3,1\nFeO,2.5\n"))] == [1.0, 2.5]
    with pytest.raises(MlipError, match="no column of formulas"):
        list(read(table("a,b,c\n1,2,3\n")))
    with pytest.raises(MlipError, match="two columns are called 'gap'"):
        list(read(table("formula,gap,Gap\nFeO,2,3\n")))


def test_formulas_alone_are_materials_too(table):
    assert [one.material_id for one in materials(table("formula\nFe2O3\nFeO\n"))] == ["Fe2O3", "FeO"]


@pytest.mark.parametrize(("formula", "reason"), HOSTILE.items())
def test_a_row_that_is_no_material_is_skipped_with_its_kind(table, formula, reason):
    found = list(read(table(f"formula,gap\n{formula},1\nNaCl,8\n")))
    assert [one.properties["gap"] for one in found if not isinstance(one, Skipped)] == [8.0]
    (skipped,) = [one for one in found if isinstance(one, Skipped)]
    assert skipped.reason == reason
    assert skipped.detail.startswith("line 2: ")


def test_numbers_that_are_none_are_skipped(table):
    found = list(read(table("formula,gap\nNaCl,8\nMgO,inf\nCaO,wide\nKCl,8.5\nBaO,NaN\n")))
    reasons = Counter(one.reason for one in found if isinstance(one, Skipped))
    assert reasons == {"a property is no finite number": 2, "no property is known": 1}


def test_every_bad_row_has_its_record_and_the_rest_goes_on(table, tmp_path):
    rows = [f"{formula},1" for formula in HOSTILE] + [f"Na{n}Cl,{n}" for n in range(1, 6)]
    report = build([table("\n".join(["formula,gap", *rows]))], tmp_path / "store.h5")
    assert sum(report.materials_kept.values()) == 5
    assert report.skipped_materials == Counter(HOSTILE.values())
    listed = [json.loads(line) for line in (tmp_path / "store.h5.skipped.jsonl").read_text().splitlines()]
    assert Counter(one["reason"] for one in listed) == Counter(HOSTILE.values())


def test_rows_of_one_composition_are_one_material_with_the_mean(table, tmp_path):
    path = table("formula,gap\nFe2O3,2.0\nFeO,1.0\nO3Fe2,3.0\nFe4O6,1.0\nMgO,7.0\nMgO,7.0\n")
    report = build([path], tmp_path / "store.h5")
    with Store(tmp_path / "store.h5") as store:
        assert {m.id: m.properties["gap"] for m in store.materials()} == {"Fe2O3": 2.0, "FeO": 1.0, "MgO": 7.0}
    assert (report.finding_materials[CONTRADICTING], report.finding_frames[CONTRADICTING]) == (1, 3)
    assert (report.finding_materials[REPEATED], report.finding_frames[REPEATED]) == (1, 2)


def test_rows_with_ids_of_their_own_stay_apart_but_in_one_split(table, tmp_path):
    rows = [f"m{k},{'Fe2O3' if k % 2 else 'O6Fe4'},{k}" for k in range(40)]
    build(
        [table("\n".join(["id,formula,gap", *rows]))],
        tmp_path / "store.h5",
        BuildSettings(fractions=(0.7, 0.15, 0.15), split_by="composition"),
    )
    with Store(tmp_path / "store.h5") as store:
        assert store.n_materials == 40
        assert len({m.split for m in store.materials()}) == 1


def test_stated_splits_are_kept(table, tmp_path):
    path = table("split,formula,gap\ntrain,Fe2O3,2\nval,FeO,1\ntest,MgO,7\nTest,Fe4O6,3\n")
    report = build([path], tmp_path / "store.h5")
    with Store(tmp_path / "store.h5") as store:
        splits = {m.id: m.split for m in store.materials()}
    assert splits == {"Fe2O3 (train)": "train", "FeO": "val", "MgO": "test", "Fe4O6 (test)": "test"}
    assert report.finding_materials[IN_SEVERAL_SPLITS] == 2
    (unknown,) = [one for one in read(table("split,formula,gap\nholdout,FeO,2\n")) if isinstance(one, Skipped)]
    assert unknown.reason == "unknown split"


def test_the_split_by_composition_is_a_third_of_a_kind(table, tmp_path):
    rows = [f"Na{n}Cl{m},1" for n in range(1, 40) for m in range(1, 40)]
    report = build(
        [table("\n".join(["formula,gap", *rows]))],
        tmp_path / "store.h5",
        BuildSettings(fractions=(0.7, 0.15, 0.15), split_by="composition"),
    )
    n = sum(report.materials_kept.values())
    assert report.materials_kept["train"] / n == pytest.approx(0.7, abs=0.05)
    assert report.materials_kept["test"] / n == pytest.approx(0.15, abs=0.04)


def test_the_functional_is_unknown_unless_it_is_said(table):
    assert materials(table("FeO,1\nMgO,2\n"))[0].functional == "unknown"
    assert materials(table("FeO,1\nMgO,2\n"), functional="PBE")[0].functional == "PBE"
    assert materials(table("formula,gap,functional\nFeO,1,PBEsol\n"))[0].functional == "PBEsol"
    (skipped,) = read(table("formula,gap,functional\nFeO,1,PBEsol\n"), functional="PBE")
    assert skipped.reason.startswith("states another functional")


def test_the_command_tells_all_of_it(table, tmp_path):
    path = table("formula,gap\nFe2O3,2\nXx,1\nMgO,1\nMgO,2\n")
    ran = CliRunner().invoke(data_commands.app, ["build", str(path), "--out", str(tmp_path / "s.h5")])
    assert ran.exit_code == 0
    told = " ".join(ran.output.replace("│", " ").split())
    assert "formula: unknown element" in told
    assert "contradict one another" in told


@pytest.mark.parametrize("formulas", [("Fe2O3", "Fe4O6", "O3Fe2", "Fe0.4O0.6"), ("Al0.35Ga0.65As", "As100Ga65Al35")])
def test_equal_compositions_have_one_name(formulas, table):
    names = {composition_key(one.frame) for f in formulas for one in materials(table(f"formula\n{f}\n"))}
    assert len(names) == 1
