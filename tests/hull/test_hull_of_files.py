"""Hulls of what files hold: what is left out and why, what is added, and files that others read back."""

import csv
import gzip
import json

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.core import Composition
from pymatgen.entries.computed_entries import ComputedEntry

from mlip.data import Frame, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.hull.decomposition import decompositions
from mlip.hull.export import formula_of, write_hull
from mlip.hull.figures import draw_hull
from mlip.hull.hull_of_files import hull_of_files


def entry(name: str, formula: str, per_atom: float, **further) -> dict:
    composition = Composition(formula).get_el_amt_dict()
    return {"entry_id": name, "composition": composition, "energy": per_atom * sum(composition.values()), **further}


def json_of(path, entries):
    path.write_text(json.dumps({"entries": entries}))
    return path


SALTS = [entry("na", "Na", -1.3), entry("cl", "Cl2", -1.8), entry("salt", "Na4Cl4", -3.5), entry("more", "NaCl3", -1.0)]


def test_what_cannot_be_an_entry_is_counted_and_the_others_stay(tmp_path):
    bad = [
        {"entry_id": "nothing"},
        entry("odd", "NaCl", float("nan")),
        entry("na", "Na", -9.0),
        entry("lonely", "KCl", -3.0),
        {"entry_id": "dummy", "composition": {"Xx": 1}, "energy": -1.0},
        {"entry_id": "text", "composition": {"Na": 1}, "energy": "low"},
        {"entry_id": "void", "composition": {}, "energy": 0.0},
    ]
    path = json_of(tmp_path / "pbe.json", [bad[0], *SALTS[:2], *bad[1:], *SALTS[2:]])
    found = hull_of_files([path])
    assert found.hull.ids == ["na", "cl", "salt", "more"]
    np.testing.assert_allclose(found.hull.distances, [0, 0, 0, -1.0 - (-3.5 / 2 - 1.8 / 2)])
    assert found.refused == {
        "has no composition with an energy": 3,
        "its energy is not finite": 1,
        "its id is taken": 1,
        "no phase of K by itself to compare with": 1,
        "'Xx' is no element": 1,
    }


def test_an_entry_that_is_no_json_does_not_take_the_others_down(tmp_path):
    texts = [json.dumps(one) for one in SALTS]
    (tmp_path / "pbe.json").write_text('{"entries": [' + ", ".join([*texts[:2], '{"energy": 1..2}', *texts[2:]]) + "]}")
    found = hull_of_files([tmp_path / "pbe.json"])
    assert len(found.hull) == 4
    assert found.refused == {"not JSON": 1}


def test_added_phases_tell_what_they_did(tmp_path):
    old = json_of(tmp_path / "old.json", SALTS)
    new = json_of(tmp_path / "new.json", [entry("better", "NaCl", -3.6), entry("poor", "Na2Cl", 0.0), SALTS[0]])
    found = hull_of_files([old], [new])
    assert found.change.new_vertices == ["better"]
    assert found.change.fallen_vertices == ["salt"]
    assert found.n_added == 2
    assert found.refused == {"its id is taken": 1}
    assert found.summary()["phases"] == 6
    together = hull_of_files([old, new])
    np.testing.assert_allclose(found.hull.distances, together.hull.distances, atol=1e-12)


def test_nothing_to_make_a_hull_of_is_one_line(tmp_path):
    with pytest.raises(MlipError, match=r"no phases \(1 left out: has no composition with an energy\)"):
        hull_of_files([json_of(tmp_path / "bad.json", [{"entry_id": "nothing"}])])
    with pytest.raises(MlipError, match="no such file"):
        hull_of_files([tmp_path / "absent.json"])


def test_levels_that_differ_are_refused_also_between_old_and_added(tmp_path):
    old = json_of(tmp_path / "old.json", [one | {"parameters": {"run_type": "GGA"}} for one in SALTS])
    new = json_of(tmp_path / "new.json", [entry("better", "NaCl", -9.0, parameters={"run_type": "R2SCAN"})])
    with pytest.raises(MlipError, match="4 of PBE, 1 of R2SCAN"):
        hull_of_files([old], [new])
    mixed = hull_of_files([old], [new], allow_functional_mismatch=True)
    assert any("differ, as allowed" in note for note in mixed.notes)


def test_a_store_has_its_ids_and_what_lacks_energies_is_counted(tmp_path):
    def frame(z, energy):
        return Frame(np.array([z], np.int16), np.zeros((1, 3)), 4 * np.eye(3), np.ones(3, bool), energy)

    with StoreWriter(tmp_path / "s.h5") as writer:
        for name, z, energy in (("na", 11, -1.3), ("bcc", 11, -1.2), ("unknown", 11, float("nan"))):
            writer.add(Trajectory(name, [frame(z, energy)], "PBE", 3), "train")
    found = hull_of_files([tmp_path / "s.h5"])
    assert found.hull.ids == ["na", "bcc"]
    np.testing.assert_allclose(found.hull.distances, [0, 0.1], atol=1e-6)
    assert found.refused == {"its energy is not finite": 1}


def test_exported_entries_are_the_hull_to_pymatgen_and_to_us(shared, tmp_path):
    source = shared / "data/hull/pymatgen_Li-Fe-P-O_entries.json.gz"
    found = hull_of_files([source])
    assert write_hull(tmp_path / "hull.json.gz", found) == 859
    with gzip.open(tmp_path / "hull.json.gz", "rt") as file:
        records = json.load(file)["entries"]
    entries = [ComputedEntry.from_dict(record) for record in records]
    diagram = PhaseDiagram(entries)
    for one, record in zip(entries, records, strict=True):
        theirs, distance = diagram.get_decomp_and_e_above_hull(one)
        data = record["data"]
        assert data["e_above_hull"] == pytest.approx(distance, abs=1e-8)
        assert data["e_form"] == pytest.approx(diagram.get_form_energy_per_atom(one), abs=1e-8)
        products = {Composition(formula).reduced_formula for formula in data["decomposition"].split()}
        assert products == {phase.composition.reduced_formula for phase in theirs}
    again = hull_of_files([tmp_path / "hull.json.gz"])
    np.testing.assert_allclose(again.hull.distances, found.hull.distances, atol=1e-9)
    assert again.entries.energies.levels == found.entries.energies.levels
    assert again.notes == found.notes


def test_formation_energies_go_out_and_in_and_the_hull_alone_is_a_hull(shared, tmp_path):
    found = hull_of_files([shared / "data/hull/alexandria_pbe_phases.json.gz"])
    n_written = write_hull(tmp_path / "hull.json.bz2", found, within=0.0)
    assert n_written == found.hull.is_vertex.sum()
    vertices = hull_of_files([tmp_path / "hull.json.bz2"])
    assert vertices.hull.is_vertex.all()
    distances = vertices.hull.distances_of(found.hull.phases)
    np.testing.assert_allclose(np.maximum(distances, 0), found.hull.distances, atol=1e-9)


def test_decompositions_have_the_phases_composition_and_the_hulls_energy(shared):
    hull = hull_of_files([shared / "data/hull/alexandria_pbe_phases.json.gz"]).hull
    rows = np.arange(0, len(hull), 7)
    for row, mixture in zip(rows, decompositions(hull, rows), strict=True):
        assert sum(share for _, share in mixture) == pytest.approx(1)
        energy = sum(share * hull.phases.energies[name] for name, share in mixture if not isinstance(name, str))
        assert energy + hull.distances[row] == pytest.approx(hull.phases.energies[row], abs=1e-5)


def test_an_element_at_zero_is_what_a_phase_decomposes_into(tmp_path):
    path = tmp_path / "formation.json"
    path.write_text(json.dumps([{"mat_id": "a", "composition": {"Na": 3, "Cl": 1}, "e_form": 0.1}]))
    write_hull(tmp_path / "hull.csv", hull_of_files([path]))
    with (tmp_path / "hull.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["decomposition"] == "Na Cl"
    assert (row["formula"], row["is_on_hull"], row["e_above_hull_ev_per_atom"]) == ("Na3Cl", "False", "0.1")


def test_a_grown_hull_is_a_source(tmp_path):
    found = hull_of_files([json_of(tmp_path / "old.json", SALTS)])
    found.hull.save(tmp_path / "hull.npz")
    again = hull_of_files([tmp_path / "hull.npz"])
    assert again.hull.ids == found.hull.ids
    np.testing.assert_allclose(again.hull.distances, found.hull.distances, atol=1e-12)
    assert again.entries.compositions[2] == {"Na": 1, "Cl": 1}


@pytest.mark.parametrize(
    ("amounts", "formula"),
    [({"O": 6.0, "Fe": 4.0}, "Fe2O3"), ({"Na": 1.0}, "Na"), ({"Li": 0.5, "O": 1.25}, "Li0.5O1.25"), ({"O": 2}, "O")],
)
def test_formulas_are_reduced(amounts, formula):
    assert formula_of(amounts) == formula


def test_figures_and_their_tables_are_written(tmp_path):
    hull = hull_of_files([json_of(tmp_path / "old.json", SALTS)]).hull
    paths = draw_hull(hull, tmp_path / "figures")
    assert {path.name for path in paths} == {"distances.png", "distances.csv", "elements.png", "elements.csv"}
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in paths if path.suffix == ".png")
    with (tmp_path / "figures" / "distances.csv").open() as file:
        counted = [int(row["1_elements"]) + int(row["2_elements"]) for row in csv.DictReader(file)]
    assert sum(counted) == 4
    with (tmp_path / "figures" / "elements.csv").open() as file:
        rows = {row["element"]: (row["compounds_on_the_hull"], row["compounds"]) for row in csv.DictReader(file)}
    assert rows == {"Na": ("1", "2"), "Cl": ("1", "2")}
