"""What VASP runs say of themselves, in files that VASP has written (they travel with ASE)."""

from pathlib import Path

import ase
import numpy as np
import pytest
from ase.build import bulk

from mlip.data.readers import vasp
from mlip.data.readers.vasp_run import find_vasprun, read_run
from mlip.dft import Proposal, VaspRecipe, collect, hand_over
from mlip.dft.records import OTHER_SETTINGS

RUNS = Path(ase.__file__).parent / "test" / "testdata" / "vasp"


def test_a_single_point_with_linear_response_tells_its_settings():
    run = read_run(RUNS / "vasprun_dfpt.xml")
    assert (run.is_complete, run.is_damaged) == (True, False)
    assert (run.functional, dict(run.hubbard), run.cutoff) == ("PBE", {}, 400.0)
    assert run.potcars == ("PAW_PBE Na 08Apr2002", "PAW_PBE Cl 06Sep2000")
    assert (run.n_steps, run.most_steps, run.relaxes_cell, run.force_criterion) == (1, 0, False, 1e-5)
    assert (run.kpoints, run.is_spin_polarized, run.numbers.tolist()) == ((3, 3, 3), False, [11, 17])


@pytest.mark.parametrize("name", ["vasprun_dfpt.xml", "vasprun_pstress.xml"])
def test_the_last_structure_is_the_paths_last(name):
    (path,) = vasp.read(RUNS / name, functional="PBE")
    ours, theirs = read_run(RUNS / name).last, path.frames[-1]
    assert ours.energy == theirs.energy
    for array in ("positions", "cell", "forces", "stress"):
        np.testing.assert_array_equal(getattr(ours, array), getattr(theirs, array))


def test_without_its_end_it_is_not_complete(tmp_path):
    content = (RUNS / "vasprun_dfpt.xml").read_bytes()
    (tmp_path / "vasprun.xml").write_bytes(content[: content.rindex(b"</modeling>")])
    run = read_run(find_vasprun(tmp_path))
    assert (run.is_complete, run.n_steps) == (False, 1)


def test_a_run_of_vasps_in_the_place_of_a_relaxation_is_refused_by_all_that_differs(tmp_path):
    recipe = VaspRecipe(kind="vasp")
    hand_over(recipe, [Proposal("salt", bulk("NaCl", "rocksalt", a=5.45))], tmp_path, progress=False)
    (tmp_path / "salt" / "vasprun.xml").write_bytes((RUNS / "vasprun_dfpt.xml").read_bytes())
    (outcome,) = collect(recipe, tmp_path)
    assert outcome.reason == OTHER_SETTINGS
    assert outcome.message == (
        "the run's cutoff is 400 eV, asked for 520 eV; the run's pseudopotentials are Na Cl, asked for Na_pv Cl; "
        "the run's k-points are 3x3x3, asked for 7x7x7; the run is not spin-polarized; "
        "the run is a single point, asked for a relaxation"
    )
