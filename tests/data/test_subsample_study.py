"""What cutoffs would keep of a source is what they keep of it."""

import numpy as np
import pytest

from mlip.data import Skipped
from mlip.data.build import BuildSettings, build
from mlip.data.readers.sources import read_source
from mlip.data.subsample_study import study_cutoffs
from mlip.errors import MlipError

CUTOFFS = [0.0, 0.001, 0.005, 0.01, 0.02, np.inf]


@pytest.mark.parametrize("per_atom", [True, False])
def test_the_study_counts_what_builds_keep(shared, tmp_path, per_atom):
    source = shared / "data" / "alexandria" / "fixture_geo_opt_paths_pbe.json.bz2"
    results = study_cutoffs(read_source(source), CUTOFFS, per_atom=per_atom)
    for one in results[::2]:
        settings = BuildSettings(subsample=one.cutoff, per_atom=per_atom)
        report = build([source], tmp_path / "store.h5", settings)
        assert sum(report.frames_kept.values()) == one.n_kept
    kept = [one.n_kept for one in results]
    assert kept == sorted(kept, reverse=True)


def test_the_infinite_cutoff_keeps_about_three_frames_of_a_long_path(shared):
    paths = list(read_source(shared / "data" / "trajectories" / "pbe_relaxations.extxyz.gz"))
    (result,) = study_cutoffs(paths, [np.inf], per_atom=True)
    assert result.n_materials == len(paths)
    assert 2.9 < result.per_material <= 3.0


def test_skipped_materials_count_nowhere(make_trajectory):
    skipped = Skipped("a", "no usable step", "", "file")
    (result,) = study_cutoffs([skipped, make_trajectory()], [0.0], per_atom=True)
    assert (result.n_materials, result.n_read, result.n_kept, result.share) == (1, 3, 3, 1.0)


def test_a_cutoff_that_cannot_be_is_refused_before_reading():
    with pytest.raises(MlipError, match="cutoff"):
        study_cutoffs(iter([None]), [-1.0], per_atom=True)
