"""A hull that grows is the hull that is made from scratch, whatever comes when; what is not touched stays."""

import gzip
import json

import numpy as np
import pytest
from ase.data import chemical_symbols
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from mlip.errors import MlipError
from mlip.hull import growing
from mlip.hull.convex_hull import Hulls, Phases
from mlip.hull.growing import GrowingHull, joined

SYMBOLS = ["Li", "O", "Fe", "P", "S"]


def phases(*records) -> Phases:
    """Of (formula, eV/atom)."""
    compositions = [Composition(formula).get_el_amt_dict() for formula, _ in records]
    return Phases.of(compositions, np.array([energy for _, energy in records]))


def random_phases(rng, n, n_elements) -> Phases:
    """Small amounts, so that compositions occur twice, and mixtures of others; energies of both signs."""
    amounts = rng.integers(0, 3, (n, n_elements))
    amounts[amounts.sum(1) == 0, 0] = 1
    compositions = [{s: a for s, a in zip(SYMBOLS, row.tolist(), strict=False) if a} for row in amounts]
    return Phases.of(compositions, np.round(rng.normal(-0.4, 0.5, n), 3))


def from_scratch(everything, are_formation_energies):
    return Hulls(everything, are_formation_energies=are_formation_energies).distances(everything)


def grown(everything, order, parts, are_formation_energies) -> GrowingHull:
    hull = GrowingHull(are_formation_energies)
    for rows in np.array_split(order, parts):
        hull.add([str(k) for k in rows], everything.take(rows))
    return hull


def in_order_of_ids(hull) -> np.ndarray:
    return hull.distances[np.argsort([int(name) for name in hull.ids])]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("are_formation_energies", [True, False])
def test_any_order_of_additions_ends_with_the_hull_from_scratch(seed, are_formation_energies):
    rng = np.random.default_rng(seed)
    n_elements = 2 + seed % 4
    pure = Phases.of([{symbol: 1} for symbol in SYMBOLS[:n_elements]], rng.normal(-0.1, 0.2, n_elements))
    everything = joined(pure, random_phases(rng, 60, n_elements))
    rest = n_elements + rng.permutation(60)
    if are_formation_energies:  # elements come at any time
        rest = rng.permutation(len(everything))
    order = rest if are_formation_energies else np.concatenate([np.arange(n_elements), rest])
    hull = grown(everything, order, 1 + seed * 3, are_formation_energies)
    np.testing.assert_allclose(in_order_of_ids(hull), from_scratch(everything, are_formation_energies), atol=1e-9)
    assert hull.distances.min() >= 0


@pytest.mark.parametrize("n_elements", [2, 3, 4])
def test_a_grown_hull_is_pymatgens(n_elements):
    rng = np.random.default_rng(n_elements)
    pure = Phases.of([{symbol: 1} for symbol in SYMBOLS[:n_elements]], np.zeros(n_elements))
    everything = joined(pure, random_phases(rng, 50, n_elements))
    hull = grown(everything, np.arange(len(everything)), 7, are_formation_energies=False)
    compositions = [
        Composition(dict(zip(symbols_of(row), fractions[fractions > 0], strict=True)))
        for row, fractions in zip(everything.numbers, everything.fractions, strict=True)
    ]
    entries = [PDEntry(c, e) for c, e in zip(compositions, everything.energies, strict=True)]
    diagram = PhaseDiagram(entries)
    theirs = np.array([diagram.get_e_above_hull(entry) for entry in entries])
    np.testing.assert_allclose(hull.distances, theirs, atol=1e-9)
    np.testing.assert_array_equal(hull.is_vertex, theirs < 1e-8)


def symbols_of(numbers) -> list[str]:
    return [chemical_symbols[z] for z in numbers if z]


def test_alexandria_in_twenty_parts_has_its_published_distances(shared):
    with gzip.open(shared / "data/hull/alexandria_pbe_phases.json.gz") as file:
        records = [one for one in json.load(file) if not one["mat_id"].startswith("agm2000")]
    everything = Phases.of([one["composition"] for one in records], np.array([one["e_form"] for one in records]))
    hull = grown(everything, np.random.default_rng(3).permutation(len(records)), 20, are_formation_energies=True)
    published = np.array([one["e_above_hull"] for one in records])
    np.testing.assert_allclose(in_order_of_ids(hull), published, atol=1e-6)  # labels have seven digits
    np.testing.assert_allclose(in_order_of_ids(hull), from_scratch(everything, True), atol=1e-9)


BASE = [("Na", 0), ("Cl", 0), ("K", 0), ("NaCl", -2.0), ("KCl", -2.1), ("NaCl3", -0.4), ("NaKCl2", -2.0)]


def base_hull(are_formation_energies=True) -> GrowingHull:
    return GrowingHull.begin(
        [formula for formula, _ in BASE], phases(*BASE), are_formation_energies=are_formation_energies
    )


def test_what_lies_above_the_hull_changes_nothing():
    hull = base_hull()
    before = hull.distances.copy()
    change = hull.add(["poor"], phases(("Na2Cl", -0.1)))
    assert (change.new_vertices, change.fallen_vertices, change.n_changed) == ([], [], 0)
    np.testing.assert_array_equal(hull.distances[:-1], before)
    assert hull.distances[-1] == pytest.approx(-0.1 + 2.0 * 2 / 3)


def test_new_and_fallen_vertices_are_named():
    hull = base_hull()
    assert dict(zip(hull.ids, hull.is_vertex.tolist(), strict=True))["NaCl"]
    change = hull.add(["better"], phases(("NaCl", -2.2)))
    assert change.new_vertices == ["better"]
    assert change.fallen_vertices == ["NaCl"]
    assert change.n_changed == 3  # NaCl, and in systems with both elements: NaCl3, NaKCl2
    assert hull.distances[hull.ids.index("NaCl")] == pytest.approx(0.2)
    assert hull.distances[hull.ids.index("NaKCl2")] == pytest.approx(0.15)


def test_nothing_is_calculated_but_what_is_added_and_what_it_touches(monkeypatch):
    hull = base_hull()
    asked = []
    original = Hulls.potentials

    def recording(self, some, n_workers=1):
        asked.append({(system, round(float(e), 3)) for system, rows in some.by_system() for e in some.energies[rows]})
        return original(self, some, n_workers)

    monkeypatch.setattr(growing.Hulls, "potentials", recording)
    hull.add(["better"], phases(("KCl", -2.2)))
    assert asked == [{((17, 19), -2.2)}, {((17, 19), -2.1), ((17, 19), -2.2), ((11, 17, 19), -2.0)}]
    asked.clear()
    hull.add(["poor"], phases(("KCl2", -0.2)))
    assert asked == [{((17, 19), -0.2)}, set()]
    asked.clear()
    hull.add(["far"], phases(("Na3Cl", -1.4)))  # Na and NaCl are corners of facets above it, NaCl3 and Cl are not
    assert {((11, 17), -0.4), ((17,), 0.0), ((19,), 0.0)}.isdisjoint(asked[1])
    assert ((11, 17), -1.4) in asked[1]


def test_an_element_below_zero_lowers_all_its_systems():
    hull = base_hull()
    change = hull.add(["odd"], phases(("Cl", -0.5)))
    assert change.fallen_vertices == ["Cl"]
    everything = phases(*BASE, ("Cl", -0.5))
    np.testing.assert_allclose(hull.distances, from_scratch(everything, True), atol=1e-12)


def test_a_new_element_may_come_with_its_compounds_but_not_without_its_phase():
    hull = base_hull(are_formation_energies=False)
    with pytest.raises(MlipError, match="no phase of the elements Br by themselves"):
        hull.add(["salt"], phases(("NaBr", -1.5)))
    assert "salt" not in hull.ids
    change = hull.add(["salt", "bromine"], phases(("NaBr", -1.5), ("Br", 0.0)))
    assert change.new_vertices == ["salt", "bromine"]


def test_polymorphs_of_one_energy_are_both_on_the_hull():
    hull = base_hull()
    change = hull.add(["twin"], phases(("NaCl", -2.0)))
    assert change.new_vertices == ["twin"]
    assert change.fallen_vertices == []


def test_clashing_ids_are_refused_and_nothing_is_added():
    hull = base_hull()
    with pytest.raises(MlipError, match="taken already: NaCl"):
        hull.add(["new", "NaCl"], phases(("NaCl", -3.0), ("NaCl", -3.0)))
    with pytest.raises(MlipError, match="given twice: new"):
        hull.add(["new", "new"], phases(("NaCl", -3.0), ("NaCl", -3.0)))
    with pytest.raises(MlipError, match="1 ids of 2 phases"):
        hull.add(["new"], phases(("NaCl", -3.0), ("NaCl", -3.0)))
    assert len(hull) == len(BASE)


def test_an_energy_that_is_not_finite_is_refused_by_name():
    hull, new = base_hull(), phases(("NaCl", -3.0), ("KCl", -3.0))
    broken = Phases(new.numbers, new.fractions, np.array([-3.0, np.nan]))
    with pytest.raises(MlipError, match="phase b: its energy is not finite"):
        hull.add(["a", "b"], broken)
    np.testing.assert_array_equal(hull.distances, base_hull().distances)


def test_distances_of_phases_that_are_no_entries_may_be_negative():
    np.testing.assert_allclose(base_hull().distances_of(phases(("NaCl", -2.5), ("KCl", -2.0))), [-0.5, 0.1])


def test_a_saved_hull_goes_on_where_it_was(tmp_path):
    hull, straight = base_hull(), base_hull()
    hull.ids[0] = straight.ids[0] = "Natrium ä"
    hull.save(tmp_path / "hull.npz")
    read = GrowingHull.load(tmp_path / "hull.npz")
    assert read.ids == hull.ids
    assert read.are_formation_energies
    np.testing.assert_array_equal(read.distances, hull.distances)
    for one in (read, straight):
        one.add(["better"], phases(("NaCl", -2.2)))
    np.testing.assert_array_equal(read.distances, straight.distances)
    GrowingHull(False).save(tmp_path / "empty.npz")
    assert len(GrowingHull.load(tmp_path / "empty.npz")) == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_files_that_are_no_hull_are_refused_in_one_line(tmp_path):
    with pytest.raises(MlipError, match="no such file"):
        GrowingHull.load(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("hull")
    np.savez(tmp_path / "other.npz", a=1)
    base_hull().save(tmp_path / "hull.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "hull.npz").read_bytes()[:-200])
    for name in ("text.npz", "other.npz", "cut.npz"):
        with pytest.raises(MlipError, match="is no growing hull"):
            GrowingHull.load(tmp_path / name)


def test_several_processes_add_as_one_does():
    rng = np.random.default_rng(0)
    everything = random_phases(rng, 80, 4)
    one = grown(everything, np.arange(80), 1, True)
    two = GrowingHull.begin([str(k) for k in range(80)], everything, are_formation_energies=True, n_workers=2)
    np.testing.assert_array_equal(one.distances, two.distances)
