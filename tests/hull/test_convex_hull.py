"""Distances to the hull: ALEXANDRIA's published ones, pymatgen's, and simple hulls that one can draw."""

import gzip
import json

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from mlip.errors import MlipError
from mlip.hull.convex_hull import Hulls, Phases
from mlip.hull.references import read_references


def phases(*records) -> Phases:
    """Of (formula, eV/atom)."""
    compositions = [Composition(formula).get_el_amt_dict() for formula, _ in records]
    return Phases.of(compositions, np.array([energy for _, energy in records]))


@pytest.fixture(scope="module")
def alexandria(shared):
    """Phases of 3D crystals; ids of layers belong to a hull of their own."""
    with gzip.open(shared / "data/hull/alexandria_pbe_phases.json.gz") as file:
        return [record for record in json.load(file) if not record["mat_id"].startswith("agm2000")]


def test_published_distances_of_alexandria(alexandria):
    references = Phases.of([r["composition"] for r in alexandria], np.array([r["e_form"] for r in alexandria]))
    distances = Hulls(references, are_formation_energies=True).distances(references)
    published = np.array([record["e_above_hull"] for record in alexandria])
    assert len(published) == 16_790
    # Labels have seven digits: a thousandth of the 1 meV/atom that is asked.
    np.testing.assert_allclose(distances, published, atol=1e-6)


def test_a_hull_of_four_elements_is_pymatgens(shared):
    with gzip.open(shared / "data/hull/pymatgen_Li-Fe-P-O_entries.json.gz") as file:
        records = json.load(file)
    compositions = [record["composition"] for record in records]
    totals = np.array([record["energy"] + record["correction"] for record in records])
    sizes = np.array([sum(composition.values()) for composition in compositions])
    entries = [PDEntry(Composition(c), energy) for c, energy in zip(compositions, totals, strict=True)]
    diagram = PhaseDiagram(entries)
    theirs = [diagram.get_e_above_hull(entry) for entry in entries]
    everything = Phases.of(compositions, totals / sizes)
    ours = Hulls(everything).distances(everything)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)
    read = read_references([shared / "data/hull/pymatgen_Li-Fe-P-O_entries.json.gz"])
    np.testing.assert_allclose(read.hulls.distances(everything), ours, atol=1e-12)


def test_random_hulls_of_two_to_six_elements_are_pymatgens():
    rng = np.random.default_rng(5)
    symbols = ["Li", "O", "Fe", "P", "S", "Cu"]
    for n in range(2, 7):
        amounts = rng.integers(0, 4, (40, n))
        amounts = amounts[amounts.sum(1) > 0]
        records = [(dict(zip(symbols, row.tolist(), strict=False)), rng.normal(-0.5, 0.5)) for row in amounts]
        records = [({s: a for s, a in c.items() if a}, e) for c, e in records]
        pure = [({symbol: 1}, 0.0) for symbol in symbols[:n]]
        entries = [PDEntry(Composition(c), e * sum(c.values())) for c, e in records + pure]
        diagram = PhaseDiagram(entries)
        theirs = [diagram.get_decomp_and_e_above_hull(entry, allow_negative=True)[1] for entry in entries]
        everything = Phases.of([c for c, _ in records + pure], np.array([e for _, e in records + pure]))
        np.testing.assert_allclose(Hulls(everything).distances(everything), theirs, atol=1e-9, err_msg=str(n))


def test_a_candidate_below_the_hull_has_a_negative_distance():
    hulls = Hulls(phases(("Na", 0), ("Cl", 0), ("NaCl", -2.0)))
    np.testing.assert_allclose(
        hulls.distances(phases(("NaCl", -2.1), ("NaCl2", -1.0), ("Na3Cl", -1.0))), [-0.1, 1 / 3, 0], atol=1e-12
    )


def test_energies_may_be_totals():
    shifted = {"Na": -1.3, "Cl": -1.8}

    def total(formula, formation):
        amounts = Composition(formula).get_el_amt_dict()
        return formula, formation + sum(shifted[s] * a for s, a in amounts.items()) / sum(amounts.values())

    reference = [("Na", 0), ("Cl", 0), ("Cl", 0.2), ("NaCl", -2.0), ("NaCl3", -0.4)]
    candidates = [("NaCl", -1.9), ("Na2Cl", -1.0), ("NaCl3", -0.2)]
    plain = Hulls(phases(*reference)).distances(phases(*candidates))
    totals = Hulls(phases(*(total(*r) for r in reference))).distances(phases(*(total(*c) for c in candidates)))
    np.testing.assert_allclose(totals, plain, atol=1e-12)


def test_what_is_unstable_alone_is_no_part_of_a_larger_hull():
    base = [("Li", 0), ("Fe", 0), ("O", 0), ("Li2O", -2.0), ("Fe2O3", -1.7)]
    candidate = phases(("LiFeO2", -1.8), ("Li5FeO4", -1.5))
    more = Hulls(phases(*base, ("LiO", -0.3), ("FeO", -0.2), ("Fe2O3", -1.6)))
    np.testing.assert_allclose(Hulls(phases(*base)).distances(candidate), more.distances(candidate), atol=1e-12)


def test_several_processes_give_what_one_gives(alexandria):
    chosen = alexandria[::40]
    references = Phases.of([r["composition"] for r in alexandria], np.array([r["e_form"] for r in alexandria]))
    candidates = Phases.of([r["composition"] for r in chosen], np.array([r["e_form"] for r in chosen]))
    hulls = Hulls(references, are_formation_energies=True)
    np.testing.assert_array_equal(hulls.distances(candidates, n_workers=2), hulls.distances(candidates))


def test_an_element_without_reference_is_named():
    with pytest.raises(MlipError, match="no reference phase of the elements Tc"):
        Hulls(phases(("Na", 0.0), ("Cl", 0.0))).distances(phases(("NaTc", -1.0)))


def test_faults_of_phases_are_named():
    with pytest.raises(MlipError, match="phase 1: 'Xy' is no element"):
        Phases.of([{"Na": 1}, {"Xy": 1}], np.zeros(2))
    with pytest.raises(MlipError, match="phase 0: its energy is not finite"):
        Phases.of([{"Na": 1}], np.array([np.nan]))
    with pytest.raises(MlipError, match="no composition"):
        Phases.of([{}], np.array([0.0]))


def test_nothing_asked_is_nothing_answered():
    assert Hulls(phases(("Na", 0.0))).distances(phases()).shape == (0,)


def test_total_and_formation_energies_side_by_side_are_refused(tmp_path):
    mixed = [{"composition": {"Na": 1}, "energy": -1.3}, {"composition": {"Cl": 1}, "e_form": 0.0}]
    (tmp_path / "mixed.json").write_text(json.dumps(mixed))
    with pytest.raises(MlipError, match="side by side"):
        read_references([tmp_path / "mixed.json"])


def test_a_reference_without_energy_is_named_by_its_place(tmp_path):
    (tmp_path / "phases.json").write_text(json.dumps([{"composition": {"Na": 1}, "e_form": 0.0}, {"mat_id": "agm1"}]))
    with pytest.raises(MlipError, match="phase 1: has no composition with an energy"):
        read_references([tmp_path / "phases.json"])
