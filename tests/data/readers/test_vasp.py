"""VASP runs by their vasprun.xml: the right energy out of VASP's mislabeled ones, ASE's units and signs."""

import gzip
import re
from pathlib import Path

import ase
import numpy as np
import pytest

from mlip.data import Skipped, Store
from mlip.data.build import BuildSettings, build
from mlip.data.readers import vasp
from mlip.data.readers.sources import read_source
from mlip.errors import MlipError

RUNS = Path(ase.__file__).parent / "test" / "testdata" / "vasp"


@pytest.fixture
def nacl() -> str:
    """A run of VASP 6 on NaCl, as ASE's tests have it: one ionic step, and then the electronic steps of DFPT."""
    path = RUNS / "vasprun_dfpt.xml"
    if not path.exists():
        pytest.skip("needs the VASP runs of ASE's tests, which this ASE comes without")
    return path.read_text()


@pytest.fixture
def write(tmp_path):
    def to_file(text, name="vasprun.xml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return to_file


def ionic_steps(text: str, n: int) -> str:
    """The run with its one ionic step n times."""
    begin, end = text.index("<calculation>"), text.index("</calculation>") + len("</calculation>")
    return text[:begin] + text[begin:end] * n + text[end:]


def test_labels_are_in_the_stores_units_and_signs(nacl, write):
    (path,) = read_source(write(nacl))
    assert (path.functional, path.dimensionality, len(path.frames)) == ("PBE", 3, 1)
    (frame,) = path.frames
    assert sorted(frame.numbers.tolist()) == [11, 17]
    assert frame.energy == pytest.approx(-6.74587304)
    assert frame.forces.shape == (2, 3)
    assert frame.stress[:3] == pytest.approx(-0.1 * 36.08907525 / 160.21766208)  # compressed: negative


def test_the_energy_is_that_at_sigma_0_whatever_the_tags_say(nacl, write):
    """In the last block of a real run `e_wo_entrp` holds E(sigma -> 0) and `e_0_energy` the entropy's term."""
    of_ionic_step = nacl.index("<energy>", nacl.index("<structure", nacl.index("<calculation>")))
    of_last_electronic_step = nacl.rindex("<energy>", 0, of_ionic_step)

    def with_energies(text, start, values):
        for name, value in zip(("e_fr_energy", "e_wo_entrp", "e_0_energy"), values, strict=True):
            place = text.index(f'<i name="{name}">', start)
            end = text.index("</i>", place)
            text = f'{text[:place]}<i name="{name}"> {value:.8f} {text[end:]}'
        return text

    text = with_energies(nacl, of_ionic_step, (-10.0, -9.97, -0.06))  # free, sigma -> 0, T S
    text = with_energies(text, of_last_electronic_step, (-10.01, -9.95, -9.98))  # as named
    (path,) = read_source(write(text))
    assert path.frames[0].energy == pytest.approx(-9.97)


def test_runs_are_named_by_their_folders(nacl, write, tmp_path):
    for name in (
        "relax1/vasprun.xml",
        "relax2/vasprun.xml.gz",
        "both/vasprun.relax1.xml",
        "both/vasprun.xml.relax2.gz",
    ):
        write(nacl, f"runs/{name}")
    build([tmp_path / "runs"], tmp_path / "store.h5")
    with Store(tmp_path / "store.h5") as store:
        assert sorted(m.id for m in store.materials()) == ["both/relax1", "both/relax2", "relax1", "relax2"]


def test_a_killed_run_gives_the_steps_that_it_wrote(nacl, write):
    text = ionic_steps(nacl, 3)
    (path,) = read_source(write(text[: text.rindex("<calculation>") + 200]))
    assert len(path.frames) == 2
    assert [frame.ionic_step for frame in path.frames] == [0, 1]


def test_steps_whose_electrons_did_not_converge_are_dropped_and_counted(nacl, write):
    n_electronic = nacl[nacl.index("<calculation>") :].count("<scstep>")
    text = re.sub(r'(<i type="int" name="NELM">)\s*\d+', rf"\g<1> {n_electronic}", nacl)
    (skipped,) = read_source(write(text))
    assert isinstance(skipped, Skipped)
    assert skipped.detail == f"1 x {vasp.NOT_CONVERGED}"


def test_a_functional_that_only_the_potcar_could_tell_is_asked_for(nacl, write):
    unnamed = re.sub(r'<i type="string" name="GGA">[^<]*</i>', "", nacl).replace('name="GGA">PE', 'name="GGA">--')
    (path,) = read_source(write(unnamed))
    assert path.functional == "PBE"  # of the PAW_PBE POTCARs
    with pytest.raises(MlipError, match="pass --functional"):
        list(read_source(write(unnamed.replace("PAW_PBE", "PAW"))))
    (path,) = read_source(write(unnamed.replace("PAW_PBE", "PAW")), functional="PBEsol")
    assert path.functional == "PBEsol"


def test_what_is_no_vasprun_is_one_line(write, tmp_path):
    with pytest.raises(MlipError, match="not a vasprun") as error:
        build([write("nothing")], tmp_path / "store.h5", BuildSettings(functional="PBE"))
    assert "\n" not in str(error.value)


def test_a_vasp_job_folder_is_read_by_its_vasprun(nacl, write, tmp_path):
    write(nacl, "job/vasprun.xml")
    for name in ("OUTCAR", "INCAR", "KPOINTS"):
        write("x", f"job/{name}")
    build([tmp_path / "job"], tmp_path / "store.h5")
    with Store(tmp_path / "store.h5") as store:
        assert len(store) == 1
        assert np.isfinite(store.frame(0).stress).all()
