"""Hulls of energies that belong together: one level of theory, corrections on both sides or on none."""

import bz2
import gzip
import json
import re

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from mlip.benchmark.hull_benchmark import judged_materials
from mlip.data import Frame, StoreWriter, Trajectory
from mlip.data.readers.alexandria import entry_from_dict
from mlip.errors import MlipError
from mlip.hull.convex_hull import Phases
from mlip.hull.references import read_references

IRON, OXYGEN, OXIDE = {"Fe": 1.0}, {"O": 1.0}, {"Fe": 1.0, "O": 1.0}


def entry(composition: dict, energy: float, correction: float = 0.0, run_type: str = "GGA", name: str = "e") -> dict:
    """A computed entry of a cube, as pymatgen writes it."""
    symbols = [symbol for symbol, amount in composition.items() for _ in range(int(amount))]
    sites = [
        {"species": [{"element": symbol, "occu": 1}], "abc": [k / len(symbols)] * 3} for k, symbol in enumerate(symbols)
    ]
    cube = [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]]
    return {
        "entry_id": name,
        "composition": composition,
        "energy": energy,
        "correction": correction,
        "parameters": {"run_type": run_type},
        "data": {},
        "structure": {"lattice": {"matrix": cube}, "sites": sites},
    }


CORRECTED = [
    entry(IRON, -8.0, name="iron"),
    entry(OXYGEN, -4.9, name="oxygen"),
    entry(OXIDE, -13.4, -2.9, "GGA+U", "oxide"),
    entry(OXIDE, -13.2, -2.9, "GGA+U", "polymorph"),
]


def store_of(path, entries, functional="PBE", keep=lambda properties: properties):
    """A store of computed entries, all in the test split."""
    with StoreWriter(path) as writer:
        for one in entries:
            read = entry_from_dict(one, functional, 3)
            properties = keep(dict(read.properties))
            writer.add(Trajectory(read.material_id, [read.frame], functional, 3, properties), "test")
    return path


def json_of(path, entries):
    path.write_text(json.dumps({"entries": entries}))
    return path


def distances(store, *references, **options) -> dict[str, float]:
    judged = judged_materials(store, "test", references, **options)
    return dict(zip(judged.ids, judged.distances.tolist(), strict=True))


def test_corrections_are_on_both_sides_and_their_size_is_told(tmp_path):
    store, references = store_of(tmp_path / "s.h5", CORRECTED), json_of(tmp_path / "pbe.json", CORRECTED)
    expected = {"iron": 0, "oxygen": 0, "oxide": 0, "polymorph": 0.1}
    assert distances(store, references) == pytest.approx(expected, abs=1e-12)
    assert distances(store, store) == pytest.approx(expected, abs=1e-12)
    notes = " ".join(judged_materials(store, "test", [references]).notes)
    assert "with the sources' corrections, which 2 of 4 reference phases and 2 of 4 materials have" in notes
    assert "on average 1.450, at most 1.450 eV/atom" in notes
    assert "on one scale by their corrections: 2 of PBE, 2 of PBE+U" in notes


def test_the_materials_projects_entries_are_as_far_above_their_hull_as_pymatgen_says(shared, tmp_path):
    with gzip.open(shared / "data/hull/mp_Li-Fe-O_computed_structure_entries.json.gz") as file:
        entries = json.load(file)
    compositions = [Composition(one["composition"]) for one in entries]
    phases = [PDEntry(c, e["energy"] + e["correction"]) for c, e in zip(compositions, entries, strict=True)]
    diagram = PhaseDiagram(phases)
    theirs = {e["entry_id"]: diagram.get_e_above_hull(p) for e, p in zip(entries, phases, strict=True)}
    for one in entries:
        one["data"] = {}
    store = store_of(tmp_path / "s.h5", entries)
    references = shared / "data/hull/mp_Li-Fe-O_computed_structure_entries.json.gz"
    ours = distances(store, references)
    assert len(ours) == 375
    assert ours == pytest.approx(theirs, abs=1e-6)  # energies of a store are of frames
    assert "332 of 375 materials" in " ".join(judged_materials(store, "test", [references]).notes)


def without_correction(properties):
    return {key: value for key, value in properties.items() if key != "correction"}


def test_where_materials_state_no_corrections_neither_side_has_them(tmp_path):
    entries = [entry(IRON, -8.0, name="iron"), entry(OXYGEN, -4.9, name="o"), entry(OXIDE, -13.4, -2.9, name="oxide")]
    store = store_of(tmp_path / "s.h5", entries, keep=without_correction)
    references = json_of(tmp_path / "pbe.json", entries)
    assert distances(store, references) == pytest.approx({"iron": 0, "o": 0, "oxide": 0}, abs=1e-12)
    notes = " ".join(judged_materials(store, "test", [references]).notes)
    assert "without corrections on either side, for 3 of 3 materials do not state theirs" in notes
    assert "at most 1.450 eV/atom" in notes


def test_gga_and_gga_with_u_need_their_corrections_to_be_one_hull(tmp_path):
    references = json_of(tmp_path / "pbe.json", CORRECTED)
    old = store_of(tmp_path / "s.h5", CORRECTED, keep=without_correction)
    with pytest.raises(MlipError, match=r"2 of PBE, 2 of PBE\+U, without the corrections that put the two on"):
        distances(old, references)
    raw = json_of(tmp_path / "raw_pbe.json", [one | {"correction": 0.0} for one in CORRECTED])
    with pytest.raises(MlipError, match="without the corrections"):
        read_references([raw])


@pytest.mark.parametrize("other", ["R2SCAN", "PBEsol", "SCAN+U"])
def test_run_types_are_not_mixed_unless_the_user_says_so(tmp_path, other):
    entries = [entry(IRON, -8.0), entry(OXYGEN, -4.9), entry(OXIDE, -19.0, -1.0, other, "other")]
    references = json_of(tmp_path / "pbe.json", entries)
    with pytest.raises(MlipError, match=rf"differ: 2 of PBE, 1 of {re.escape(other)} .*--allow"):
        read_references([references])
    mixed = read_references([references], allow_functional_mismatch=True)
    assert "differ, as allowed" in mixed.note


def test_references_of_two_functionals_in_a_store_or_in_two_files_are_refused(tmp_path):
    metals = [entry({"Na": 1.0}, -1.3, name="na"), entry({"K": 1.0}, -1.1, name="k")]
    for one in metals:
        del one["parameters"]
    pbe, pbesol = (store_of(tmp_path / f"{name}.h5", metals, name) for name in ("PBE", "PBEsol"))
    with pytest.raises(MlipError, match="2 of PBE, 2 of PBEsol"):
        distances(pbe, pbe, pbesol)
    with pytest.raises(MlipError, match="the hull is of PBE, the materials of PBEsol"):
        distances(pbesol, pbe)
    notes = judged_materials(pbesol, "test", [pbe], allow_functional_mismatch=True).notes
    assert any("Functionals differ, as allowed" in note for note in notes)
    formation = [tmp_path / "pbe.json", tmp_path / "pbesol.json"]
    for path, symbol in zip(formation, ("Na", "K"), strict=True):
        path.write_text(json.dumps([{"composition": {symbol: 1}, "e_form": 0.0}]))
    with pytest.raises(MlipError, match="1 of PBE, 1 of PBEsol"):
        read_references(formation)


def test_what_nobody_knows_of_is_noted(tmp_path):
    path = tmp_path / "phases.json"
    path.write_text(json.dumps([{"composition": {"Na": 1}, "energy": -1.3}]))
    store = store_of(tmp_path / "s.h5", [entry({"Na": 1.0}, -1.2)])
    assert any("not compared" in note for note in judged_materials(store, "test", [path]).notes)


def test_an_element_of_formation_energies_is_at_zero_even_if_only_a_metastable_phase_is_there(tmp_path):
    path = tmp_path / "formation.json"
    path.write_text(json.dumps([{"composition": {"Na": 1}, "e_form": 0.2}, {"composition": {"Cl": 1}, "e_form": 0}]))
    hulls = read_references([path]).hulls
    asked = Phases.of([{"Na": 1}, {"Na": 1, "Cl": 1}], np.array([0.2, -0.5]))
    np.testing.assert_allclose(hulls.distances(asked), [0.2, -0.5], atol=1e-12)


def test_a_list_of_phases_may_be_compressed_either_way(tmp_path):
    text = json.dumps([{"composition": {"Na": 1}, "energy": -1.3}]).encode()
    for path, pack in ((tmp_path / "a.json.bz2", bz2.compress), (tmp_path / "a.json.gz", gzip.compress)):
        path.write_bytes(pack(text))
        assert read_references([path]).n_phases == 1


def test_a_material_that_lost_its_relaxed_structure_is_in_no_hull(tmp_path):
    """Neither as a reference nor judged: its last frame is 2 eV/atom too high."""

    def frame(energy):
        return Frame(np.array([11], np.int16), np.zeros((1, 3)), 4 * np.eye(3), np.ones(3, bool), energy)

    path = tmp_path / "s.h5"
    with StoreWriter(path) as writer:
        writer.add(Trajectory("whole", [frame(0.7), frame(-1.3)], "PBE", 3), "test")
        writer.add(Trajectory("headless", [frame(-9.0)], "PBE", 3, {"path_end_removed": 1.0}), "test")
    judged = judged_materials(path, "test", [path])
    assert judged.ids == ["whole"]
    assert judged.distances.tolist() == [0.0]
    assert any("1 of 2 materials are left out: their relaxed structure was removed" in note for note in judged.notes)
