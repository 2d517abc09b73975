"""What `mlip.relax` promises: order, untouched inputs, independence of the company, an end with a reason for all."""

import json
import time
from dataclasses import replace

import ase.db
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms, FixBondLength
from ase.units import GPa
from morse import morse_potential
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

import mlip
from mlip.errors import MlipError
from mlip.hardware import CPU
from mlip.relaxation import Statistics, queue, relaxations
from mlip.relaxation.cell import Along
from mlip.relaxation.step_programs import Programs, programs_of


def relax(structures, potential, **options):
    return mlip.relax(structures, potential, **{"progress": False, "fmax": 0.02, "dtype": "float64", **options})


def in_vacuum(layer: Atoms) -> Atoms:
    """The same layer with its vacuum made periodic, as ALEXANDRIA keeps it."""
    periodic = layer.copy()
    periodic.pbc = True
    return periodic


def test_results_come_in_order_and_inputs_stay_as_they_were(crystals, potential):
    structures = list(crystals.values())
    before = [atoms.copy() for atoms in structures]
    results = relax(structures, potential)
    for atoms, old, result in zip(structures, before, results, strict=True):
        assert atoms == old
        assert (result.atoms.numbers == atoms.numbers).all()
        assert result.converged
        assert result.reason == "converged"
        assert result.fmax < 0.02
        assert result.energy < result.initial_energy


def test_the_energy_forces_and_stress_attached_are_those_of_the_calculator(crystals, low_dimensional, potential):
    structures = [crystals["perovskite"], low_dimensional["tilted_layer"]]
    for result in relax(structures, potential):
        again = result.atoms.copy()
        again.calc = mlip.MLIPCalculator(potential, dtype="float64")
        assert result.energy == pytest.approx(again.get_potential_energy(), abs=1e-9)
        assert result.atoms.get_potential_energy() == result.energy
        np.testing.assert_allclose(result.atoms.get_forces(), again.get_forces(), atol=1e-9)
        np.testing.assert_allclose(result.atoms.get_stress(), again.get_stress(), atol=1e-9)


def test_a_structure_relaxes_the_same_alone_and_in_any_company(crystals, low_dimensional, potential):
    subject = crystals["wurtzite"]
    others = [*crystals.values(), *low_dimensional.values()]
    companies = [[], others, others[::-1][:4], [subject] * 7 + [crystals["one_atom"]] * 30]
    ends = [relax([subject, *company], potential)[0] for company in companies]
    for end in ends[1:]:
        assert end.n_steps == ends[0].n_steps
        # the order of summation within a padded array may differ, nothing else
        np.testing.assert_allclose(end.atoms.positions, ends[0].atoms.positions, atol=1e-9)
        np.testing.assert_allclose(end.atoms.cell.array, ends[0].atoms.cell.array, atol=1e-9)


def test_structures_that_wait_for_room_in_the_batch_end_like_the_others(crystals, potential, monkeypatch):
    structures = list(crystals.values()) * 3
    expected = relax(structures, potential)
    room_for_few = replace(CPU, largest_relaxation=512, relaxation_compilation=10**9)
    monkeypatch.setattr(programs_of(potential.model, "float64", False), "_hardware", room_for_few)
    for result, reference in zip(relax(structures, potential), expected, strict=True):
        assert result.n_steps == reference.n_steps
        assert result.energy == pytest.approx(reference.energy, abs=1e-9)


def test_a_skin_that_lasts_for_one_step_gives_the_same_path(crystals, potential, monkeypatch):
    structures = list(crystals.values())
    expected = relax(structures, potential)
    monkeypatch.setattr(queue, "hardware", lambda: replace(CPU, relaxation_skin=0.02))
    statistics = Statistics()
    again = dict(relaxations(structures, potential, fmax=0.02, dtype="float64", statistics=statistics))
    assert statistics.n_lists > 4 * len(structures)
    for k, reference in enumerate(expected):
        assert again[k].n_steps == reference.n_steps
        np.testing.assert_allclose(again[k].atoms.cell.array, reference.atoms.cell.array, atol=1e-9)


def test_results_are_the_same_to_the_last_bit_whichever_batch_is_faster(crystals, potential, monkeypatch):
    monkeypatch.setattr(queue, "n_cores", lambda: 3)
    programs = Programs(potential.model, "float32")
    programs._hardware = replace(CPU, relaxation_compilation=10**9)  # all runs but the first have the same shapes
    monkeypatch.setattr(queue, "programs_of", lambda *_: programs)
    structures = list(crystals.values()) * 3
    relax(structures, potential, dtype="float32")
    expected = relax(structures, potential, dtype="float32")
    rng, run = np.random.default_rng(0), Programs.run

    def late(*arguments):
        time.sleep(rng.uniform(0, 0.02))
        return run(*arguments)

    monkeypatch.setattr(Programs, "run", late)
    for result, reference in zip(relax(structures, potential, dtype="float32"), expected, strict=True):
        assert result.energy == reference.energy
        assert (result.atoms.positions == reference.atoms.positions).all()


def test_the_time_that_the_device_stood_idle_is_told(crystals, potential):
    statistics = Statistics()
    started = time.perf_counter()
    for _ in relaxations(list(crystals.values()), potential, statistics=statistics):
        time.sleep(0.05)  # whoever takes the results keeps the device waiting
    assert statistics.seconds == pytest.approx(time.perf_counter() - started, abs=0.2)
    assert 0 < statistics.device_seconds < statistics.seconds - statistics.compile_seconds - 0.05
    assert 0.05 / statistics.seconds < statistics.as_record()["idle_fraction"] < 1


def test_compilations_are_few(crystals, potential, monkeypatch):
    programs = Programs(potential.model, "float32")
    monkeypatch.setattr(queue, "programs_of", lambda *_: programs)
    statistics = Statistics()
    structures = [atoms * (1, 1, k) for atoms in crystals.values() for k in (1, 2, 3)]
    assert len(list(relaxations(structures, potential, statistics=statistics))) == 24
    assert len(statistics.shapes) <= 3
    assert statistics.n_force_calls >= 24


def test_float32_and_float64_agree(crystals, potential):
    structures = list(crystals.values())
    for single, double in zip(relax(structures, potential, dtype="float32"), relax(structures, potential), strict=True):
        assert single.energy == pytest.approx(double.energy, abs=1e-4 * len(double.atoms))


def test_open_directions_and_vacuum_made_periodic_relax_alike(low_dimensional, potential):
    layer = low_dimensional["layer"]
    with_open, with_vacuum = relax(
        [layer, in_vacuum(layer)], potential, dtype="float64", cell=["auto", Along((True, True, False))]
    )
    assert with_open.n_steps == with_vacuum.n_steps
    np.testing.assert_allclose(with_open.atoms.positions, with_vacuum.atoms.positions, atol=1e-9)
    np.testing.assert_array_equal(with_vacuum.atoms.cell[2], layer.cell[2])


def test_a_tilted_layer_relaxes_in_its_own_plane(low_dimensional, potential):
    tilted = low_dimensional["tilted_layer"]
    upright = tilted.copy()
    upright.rotate(tilted.cell[0], "x", rotate_cell=True)
    upright.rotate(np.cross(upright.cell[0], upright.cell[1]), "z", rotate_cell=True)
    one, other = relax([tilted, upright], potential)
    assert one.converged
    assert one.n_steps == other.n_steps
    assert one.energy == pytest.approx(other.energy, abs=1e-8)
    np.testing.assert_allclose(one.atoms.cell.cellpar(), other.atoms.cell.cellpar(), atol=1e-7)


def test_directions_without_a_cell_vector_stay_without(low_dimensional, potential):
    sheet, chain, molecule = relax(
        [low_dimensional[name] for name in ("sheet_without_c", "chain", "molecule")], potential
    )
    assert not sheet.atoms.cell[2].any()
    assert not chain.atoms.cell[1:].any()
    assert not molecule.atoms.cell.array.any()
    assert sheet.converged
    assert chain.converged
    assert molecule.converged


def test_fixed_atoms_stay_to_the_last_bit_when_the_cell_is_fixed(crystals, potential):
    atoms = crystals["perovskite"].copy()
    atoms.set_constraint(FixAtoms([1, 2]))
    (result,) = relax([atoms], potential, cell=False)
    assert result.n_steps > 0
    assert (result.atoms.positions[[1, 2]] == atoms.positions[[1, 2]]).all()
    assert (result.atoms.cell.array == atoms.cell.array).all()


def test_a_constraint_that_cannot_be_kept_is_the_error_of_its_structure_alone(crystals, potential):
    atoms = crystals["rocksalt"].copy()
    atoms.set_constraint(FixBondLength(0, 1))
    good, refused = relax([crystals["diamond"], atoms], potential)
    assert good.converged
    assert refused.reason == "error"
    assert "structure 1: constraint FixBondLengths is not supported" in refused.message


def test_a_pressure_that_a_layer_cannot_take_is_the_error_of_the_layer_alone(crystals, low_dimensional, potential):
    layer, crystal = relax([low_dimensional["layer"], crystals["rocksalt"]], potential, pressure_gpa=1.0)
    assert (layer.reason, crystal.reason) == ("error", "converged")
    assert "open directions have no pressure" in layer.message


def test_max_steps_is_a_reason_and_zero_steps_are_a_single_point(crystals, potential):
    (result,) = relax([crystals["perovskite"]], potential, steps=0)
    assert (result.reason, result.converged, result.n_steps) == ("max_steps", False, 0)
    assert result.energy == result.initial_energy
    assert (result.atoms.positions == crystals["perovskite"].positions).all()


def test_every_hostile_structure_ends_with_its_reason_and_spares_the_others(crystals, potential):
    copper = bulk("Cu", a=3.7)
    overlapping = Atoms("Cu2", [[0, 0, 0], [0.3, 0, 0]], cell=[8, 8, 8], pbc=True)
    coincident = Atoms("Cu2", [[0, 0, 0], [0, 0, 0]], cell=[4, 4, 4], pbc=True)
    tiny = Atoms("Cu", cell=[0.1, 0.1, 0.1], pbc=True)
    flat = Atoms("Cu", cell=[[3, 0, 0], [3, 0, 0], [0, 0, 3]], pbc=True)
    not_a_number = copper.copy()
    not_a_number.positions[0, 0] = np.nan
    lonely = Atoms("Cu", cell=[100, 100, 100], pbc=True)
    hostile = {
        "collapsed: starts collapsed: Cu and Cu are 0.30 A apart": overlapping,
        "error": coincident,
        "error: neighbors": tiny,
        "error: volume": flat,
        "error: finite": not_a_number,
        "error: no atoms": Atoms(),
        "error: does not know Og": Atoms("Og", cell=[4, 4, 4], pbc=True),
        "isolated: no atom has a neighbor within the cutoff": lonely,
    }
    good = crystals["rocksalt"]
    results = relax([good, *hostile.values(), good], potential)
    assert results[0].converged
    assert results[-1].converged
    for expected, result in zip(hostile, results[1:-1], strict=True):
        reason, _, message = expected.partition(": ")
        assert result.reason == reason, expected
        assert message in (result.message or "")
        json.dumps(result.as_record(), allow_nan=False)


def test_an_atom_that_is_pushed_beyond_the_cutoff_is_isolated(potential):
    repulsive = potential.with_metadata(scale=-1.0)  # the well upside down: stretched bonds go on stretching
    pair = Atoms("Cu2", [[0, 0, 0], [3.2, 0, 0]], cell=[40, 40, 40], pbc=True)
    (result,) = relax([pair], repulsive, cell=False, fmax=1e-9)
    assert result.reason == "isolated"
    assert result.atoms.get_distance(0, 1) > potential.cutoff
    assert result.n_steps < 500


def test_a_crystal_that_only_repels_itself_explodes():
    repulsive = morse_potential(cutoff=12.0).with_metadata(scale=-1.0)
    (result,) = relax([bulk("Cu", a=4.2)], repulsive, fmax=1e-9, steps=2000)
    assert result.reason == "exploded"
    assert result.failed
    assert result.atoms.get_volume() > 10 * 4.2**3 / 4


def test_energies_that_are_not_finite_end_the_structure(crystals, potential):
    broken = potential.with_metadata(shift=float("nan"))
    (result,) = relax([crystals["diamond"]], broken)
    assert result.reason == "non_finite"
    assert np.isnan(result.energy)
    assert result.as_record()["energy"] is None
    assert np.isfinite(result.atoms.positions).all()


def test_options_without_sense_are_refused(crystals, potential):
    with pytest.raises(MlipError, match="fmax"):
        relax([crystals["diamond"]], potential, fmax=0)
    for dtype in ("float16", "double precision"):
        with pytest.raises(MlipError, match=r"^dtype: "):
            relax([crystals["diamond"]], potential, dtype=dtype)
    with pytest.raises(MlipError, match="unknown choice"):
        relax([crystals["diamond"]], potential, cell="volume")
    with pytest.raises(MlipError, match="2 choices for 1 structures"):
        relax([crystals["diamond"]], potential, cell=["auto", "auto"])
    with pytest.raises(MlipError, match="structure 0: no structure: str"):
        relax(["POSCAR"], potential)
    with pytest.raises(MlipError, match="no structure: str"):
        relax("POSCAR", potential)
    with pytest.raises(MlipError, match=r"^max_strian: is no option.*did you mean max_strain"):
        relax([crystals["diamond"]], potential, max_strian=0.5)
    with pytest.raises(MlipError, match=r"^smax_gpa: is 0"):
        relax([crystals["diamond"]], potential, smax_gpa=0)
    with pytest.raises(MlipError, match="nothing but a change of volume"):
        relax([crystals["diamond"]], potential, cell="hydrostatic", constant_volume=True)


def test_one_structure_generators_and_those_of_pymatgen_are_taken(crystals, potential):
    salt = crystals["rocksalt"]
    (expected,) = relax([salt], potential)
    periodic = AseAtomsAdaptor.get_structure(salt)
    for structures in (salt, (atoms for atoms in [salt]), periodic, [periodic], (periodic,)):
        (result,) = relax(structures, potential)
        assert result.energy == pytest.approx(expected.energy, abs=1e-6)


def test_a_partly_occupied_site_is_the_error_of_its_structure_alone(crystals, potential):
    lattice, sites = Lattice.cubic(3.9), [[0, 0, 0]]
    alloy, deficient = (Structure(lattice, [{**species}], sites) for species in ({"Au": 0.5, "Cu": 0.5}, {"Fe": 0.9}))
    from_cif = bulk("Au", cubic=True)
    from_cif.info["occupancy"] = {"0": {"Au": 0.5, "Cu": 0.5}}
    *refused, good = relax([alloy, deficient, from_cif, crystals["diamond"]], potential)
    assert good.converged
    assert [result.reason for result in refused] == ["error"] * 3
    for k, words in enumerate(("Au:0.5", "site 0 (Fe:0.9)", "Au 0.5, Cu 0.5")):
        assert f"structure {k}: " in refused[k].message
        assert words in refused[k].message
        json.dumps(refused[k].as_record(), allow_nan=False)


def test_the_residual_stress_is_told_and_can_be_asked_to_be_small(crystals, potential):
    salt = crystals["rocksalt"]
    (loose,) = relax([salt], potential, fmax=0.1)
    (tight,) = relax([salt], potential, fmax=0.1, smax_gpa=0.01)
    for result in (loose, tight):
        assert result.max_stress == pytest.approx(np.abs(result.atoms.get_stress()).max(), rel=1e-6)
    assert loose.max_stress / GPa > 0.01 > tight.max_stress / GPa
    assert tight.n_steps > loose.n_steps
    (fixed,) = relax([salt], potential, cell=False, smax_gpa=0.01)
    assert fixed.converged  # no strain relaxes, and the criterion speaks of those that do
    assert fixed.max_stress == pytest.approx(np.abs(fixed.atoms.get_stress()).max(), rel=1e-6)
    (pressed,) = relax([salt], potential, pressure_gpa=5.0, smax_gpa=0.01)
    assert pressed.max_stress / GPa < 0.01  # what is left besides the pressure
    np.testing.assert_allclose(pressed.atoms.get_stress()[:3] / GPa, -5, atol=0.011)


def test_a_trajectory_has_every_step_with_its_own_energy_and_forces(crystals, potential):
    structures = [crystals["rocksalt"], crystals["perovskite"]]
    plain = relax(structures, potential, steps=12)
    for result, reference in zip(relax(structures, potential, steps=12, trajectory=True), plain, strict=True):
        assert reference.trajectory is None
        assert len(result.trajectory) == result.n_steps + 1
        assert result.energy == pytest.approx(reference.energy, abs=1e-9)
        energies = [atoms.get_potential_energy() for atoms in result.trajectory]
        assert (energies[0], energies[-1]) == (result.initial_energy, result.energy)
        third = result.trajectory[3].copy()
        third.calc = mlip.MLIPCalculator(potential, dtype="float64")
        assert energies[3] == pytest.approx(third.get_potential_energy(), abs=1e-8)
        np.testing.assert_allclose(result.trajectory[3].get_forces(), third.get_forces(), atol=1e-8)


def test_an_ase_database_records_which_potential_relaxed(crystals, potential, tmp_path):
    (result,) = relax([crystals["diamond"]], potential, steps=1)
    with ase.db.connect(tmp_path / "relaxed.db") as database:
        database.write(result.atoms)
    (row,) = ase.db.connect(tmp_path / "relaxed.db").select()
    assert row.calculator == "mlip"
    told = row.calculator_parameters["potential"]
    assert (told["model"], told["functional"], len(told["parameters_sha256"])) == ("morse", "unknown", 64)


def test_bools_in_a_list_are_one_choice_each_and_never_a_mask(crystals, potential):
    salt = crystals["rocksalt"]
    choices = [True, False, True, False, False, True]
    for choice, result in zip(choices, relax([salt] * 6, potential, cell=choices, steps=2), strict=True):
        assert np.allclose(result.atoms.cell.array, salt.cell.array) != choice
    with pytest.raises(MlipError, match="cell: 6 choices for 1 structures"):
        relax([salt], potential, cell=choices)
    for ambiguous in (tuple(choices), [1, 0, 1, 0, 0, 1]):
        with pytest.raises(MlipError, match="six values for six structures may be a mask or choices"):
            relax([salt] * 6, potential, cell=ambiguous)


@pytest.mark.parametrize("mask", [(1, 1, 0, 0, 0, 1), [1, 1, 0, 0, 0, 1], [[1, 1, 0], [1, 1, 0], [0, 0, 0]]])
def test_a_mask_is_a_mask_for_any_number_of_structures(crystals, potential, mask):
    salt = crystals["rocksalt"]
    structures = [salt] * 3  # as many as a 3 x 3 mask has rows
    expected = relax(structures, potential, cell=np.array(mask), steps=2)
    for result, reference in zip(relax(structures, potential, cell=mask, steps=2), expected, strict=True):
        np.testing.assert_array_equal(result.atoms.cell.array, reference.atoms.cell.array)
        np.testing.assert_allclose(result.atoms.cell.array[:, 2], salt.cell.array[:, 2], atol=1e-12)
