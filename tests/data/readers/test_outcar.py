"""OUTCARs, by the rules of vasprun.xml."""

import bz2
import gzip
import json
from pathlib import Path

import ase
import numpy as np
import pytest
from ase.io import read as ase_read

from mlip.data import Skipped, Store
from mlip.data.build import BuildSettings, build
from mlip.data.readers import outcar
from mlip.data.readers.pymatgen_json import NO_FORCES
from mlip.data.readers.sources import NOT_READ, ignored_files, read_source, source_files
from mlip.data.readers.vasp import NO_STEP, NOT_CONVERGED
from mlip.data.records import Trajectory
from mlip.errors import MlipError
from tests.data.readers.vasp_runs import calculation, header, step, vasprun

NICKEL = Path(ase.__file__).parent / "test" / "testdata" / "vasp" / "OUTCAR_example_1"


@pytest.fixture
def write(tmp_path):
    def to_file(text, name="OUTCAR"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pack = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)
        path.write_bytes(pack(text.encode("latin-1")))
        return path

    return to_file


def only(path: Path, **options) -> Trajectory:
    (material,) = read_source(path, **options)
    assert isinstance(material, Trajectory), material
    return material


def test_a_real_file_gives_what_ase_reads_in_it():
    if not NICKEL.exists():
        pytest.skip("needs the VASP runs of ASE's tests, which this ASE comes without")
    path, reference = only(NICKEL), ase_read(NICKEL, format="vasp-out")
    (frame,) = path.frames
    assert path.functional == "PBE"
    assert np.array_equal(frame.numbers, reference.numbers)
    assert frame.energy == reference.get_potential_energy()
    for mine, theirs in (
        (frame.positions, reference.positions),
        (frame.cell, reference.cell.array),
        (frame.forces, reference.get_forces()),
        (frame.stress, reference.get_stress()),
    ):
        assert mine == pytest.approx(theirs, abs=1e-12)


def test_steps_at_nelm_are_dropped_and_counted_in_both_files_of_a_run(write):
    from_outcar = only(write(header(nelm=3) + step(1, 3, -2.5) + step(2, 2, -3.73)))
    from_xml = only(
        write(
            vasprun([calculation([(-2.0, -2.0)] * 3, -2.5, -2.5), calculation([(-3.7, -3.7)] * 2, -3.7, -3.7)], nelm=3),
            "vasprun.xml",
        )
    )
    for path in (from_outcar, from_xml):
        assert [frame.ionic_step for frame in path.frames] == [1]
        assert path.dropped == {NOT_CONVERGED: 1}


def test_the_energy_is_that_at_sigma_0_with_the_dispersion_term(write):
    """Electronic steps go without it, and one of the first is nearer to the final free energy than the last is."""
    electronic = [(-4.1, -3.9), (-3.80, -3.77), (-3.75, -3.73)]
    of_xml = vasprun([calculation(electronic, -4.05, -4.03)], incar={"IVDW": 11})
    of_outcar = header() + step(1, 3, -4.05, sigma_0=-4.03, electronic=-3.75, dispersion=-0.30, ivdw=11)
    xml, text = only(write(of_xml, "vasprun.xml")), only(write(of_outcar))
    assert xml.frames[0].energy == pytest.approx(-4.03)
    assert text.frames[0].energy == pytest.approx(-4.03)
    assert xml.functional == text.functional == "PBE+vdW-DFT-D3"


def test_an_energy_without_the_dispersion_term_that_the_forces_have_is_no_label(write):
    (skipped,) = read_source(write(header("5.2.12") + step(1, 3, -3.75, electronic=-3.75, dispersion=-0.3, ivdw=1)))
    assert skipped.detail == f"1 x {outcar.NO_DISPERSION}"


def test_a_dispersion_term_of_an_untold_kind_is_a_functional_that_nothing_equals(write):
    path = only(write(header() + step(1, 3, -4.05, electronic=-3.75, dispersion=-0.3)))
    assert path.functional.startswith("PBE+vdW-unknown")


@pytest.mark.parametrize(
    ("lines", "functional"),
    [
        ("   GGA     =    PS    GGA type\n", "PBEsol"),
        (" INCAR:\n   METAGGA = R2SCAN\n   METAGGA=      F    non-selfconsistent MetaGGA calc.\n", "R2SCAN"),
        (" LDA+U is selected, type is set to LDAUTYPE =  2\n", "PBE+U"),
        ("   LHFCALC =     T    Hartree Fock is set to\n   AEXX = 0.2500\n   HFSCREEN= 0.2000\n", "HSE06"),
        ("   SYSTEM = like GGA = PS\n   GGA_COMPAT  = T    compatible\n   IVDW = 12 # BJ\n", "PBE+vdW-DFT-D3-BJ"),
    ],
)
def test_the_functional_is_what_the_files_own_tags_say(write, lines, functional):
    assert only(write(header() + lines + step(1, 2, -3.7))).functional == functional


def test_a_killed_run_gives_the_steps_that_it_wrote(write):
    whole = header() + step(1, 4, -3.70) + step(2, 4, -3.73) + step(3, 4, -3.74)
    third = whole.index("Iteration      3(")
    for end in (third + 10, whole.rindex("POSITION") + 200, whole.rindex("energy  without")):
        assert len(only(write(whole[:end])).frames) == 2
    for end in (40, whole.index("Iteration"), whole.index("FREE ENERGIE")):
        (skipped,) = read_source(write(whole[:end]))
        assert (skipped.reason, skipped.detail) == (NO_STEP, "no step at all")


def test_a_truncated_archive_gives_its_steps_and_is_named(write, tmp_path):
    rng = np.random.default_rng(0)
    steps = "".join(step(k, 30, -3.7 - 1e-9 * rng.integers(1e7), noise=rng) for k in range(1, 30))
    path = write(header() + steps, "broken/OUTCAR.gz")
    path.write_bytes(path.read_bytes()[:-2000])
    write(header() + step(1, 2, -3.7), "sound/OUTCAR")
    report = build([tmp_path], tmp_path / "s.h5")
    assert report.failed_sources == {NOT_READ: 1}
    with Store(tmp_path / "s.h5") as store:
        n_frames = {material.id: len(material.frames) for material in store.materials()}
    assert n_frames["sound"] == 1
    assert 5 < n_frames["broken"] < 29


def test_numbers_that_touch_are_told_apart_and_asterisks_are_no_numbers(write):
    text = header() + step(1, 2, -3.7)
    touching = text.replace("      0.10000      0.00000      0.00000 ", "    0.10000-100.00000-200.00000 ")
    assert only(write(touching)).frames[0].positions.tolist() == [[0.1, -100.0, -200.0]]
    (skipped,) = read_source(write(text.replace("0.250000\n", "********\n")))
    assert NO_FORCES in skipped.detail


def test_what_a_force_field_has_predicted_is_no_label(write):
    predicted = (
        step(2, 0, -9.0).replace("FREE ENERGIE", "ML FREE ENERGIE").replace("energy  without", "ML energy without")
    )
    path = only(write(header() + step(1, 2, -3.7) + predicted + step(3, 2, -3.8)))
    assert [(frame.ionic_step, frame.energy) for frame in path.frames] == [(0, -3.7), (2, -3.8)]
    assert path.dropped == {outcar.PREDICTED: 1}


def test_runs_of_one_material_in_one_file_are_one_path(write):
    path = only(write(header() + step(1, 2, -3.70) + header() + step(1, 2, -3.73) + step(2, 2, -3.75, a=3.7)))
    assert [(frame.calculation, frame.energy) for frame in path.frames] == [(1, -3.73), (1, -3.75)]
    assert path.dropped == {"geometry repeated at a restart": 1}


def test_stress_has_ases_sign_and_order(write):
    (frame,) = only(write(header() + step(1, 2, -3.7, in_kb="  10.0 20.0 30.0 4.0 5.0 6.0"))).frames
    assert frame.stress * 1602.1766208 == pytest.approx([-10, -20, -30, -5, -6, -4])  # xx yy zz yz xz xy


def test_magnetic_moments_are_the_last_column(write):
    table = (
        " magnetization (x)\n\n# of ion       s       p       d       tot\n"
        + "-" * 42
        + "\n    1  0.1  0.2  2.3  2.6\n"
    )
    assert only(write(header() + step(1, 2, -3.7, before_stress=table))).frames[0].magmoms.tolist() == [2.6]


@pytest.mark.parametrize(
    ("name", "material_id"),
    [
        ("OUTCAR", "OUTCAR"),
        ("OUTCAR.gz", "OUTCAR"),
        ("OUTCAR.a", "a"),
        ("OUTCAR_relax1.bz2", "relax1"),
        ("mp-1.OUTCAR", "mp-1"),
    ],
)
def test_a_run_is_named_by_what_tells_its_file_from_others(write, name, material_id):
    assert only(write(header() + step(1, 2, -3.7), name)).material_id == material_id


def test_a_folder_gives_outcars_where_the_run_has_no_vasprun_xml(write, tmp_path):
    for name in (
        "a/OUTCAR",
        "a/vasprun.xml",
        "b/OUTCAR.gz",
        "c/OUTCAR.relax1",
        "c/vasprun.relax2.xml",
        "c/INCAR",
        "x.dat",
    ):
        write(header(), name)
    taken = [str(file.relative_to(tmp_path)) for file in source_files([tmp_path])]
    assert taken == ["a/vasprun.xml", "b/OUTCAR.gz", "c/OUTCAR.relax1", "c/vasprun.relax2.xml"]
    assert ignored_files([tmp_path]) == {".dat": 1, "no suffix": 2}


def test_what_is_no_outcar_is_one_line(write, tmp_path):
    with pytest.raises(MlipError, match=r"OUTCAR: not an OUTCAR of VASP$"):
        build([write("nothing\n")], tmp_path / "s.h5", BuildSettings(functional="PBE"))


def test_a_header_that_does_not_tell_the_species_skips_the_run(write):
    text = header().replace("PAW_PBE Cu", "PAW_PBE Qq").replace("=Cu:", "=Qq:")
    (skipped,) = read_source(write(text + step(1, 2, -3.7)))
    assert isinstance(skipped, Skipped)
    assert skipped.reason == "unknown element"


def test_dropped_steps_are_in_the_stores_account(write, tmp_path):
    build([write(header(nelm=3) + step(1, 3, -2.5) + step(2, 2, -3.73))], tmp_path / "s.h5")
    with Store(tmp_path / "s.h5") as store:
        account = json.loads(json.dumps(store.metadata["build"]))
    assert (account["frames_read"], account["dropped_frames"]) == (2, {NOT_CONVERGED: 1})


def test_a_path_whose_last_step_cannot_be_used_says_that_its_end_is_missing(write):
    whole = only(write(header() + step(1, 2, -3.7) + step(2, 2, -3.8)))
    assert "path_end_removed" not in whole.properties
    cut = only(write(header() + step(1, 2, -3.7) + step(2, 60, -3.8)))
    assert (len(cut.frames), cut.properties) == (1, {"path_end_removed": 1.0})
