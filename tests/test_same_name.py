"""PyPI's mlip is another project: where both lie in one folder, importing says so."""

import os
import subprocess
import sys

from tests.conftest import REPOSITORY


def import_from(folder) -> subprocess.CompletedProcess:
    (folder / "mlip").symlink_to(REPOSITORY / "mlip")
    program = "import mlip; print(mlip.__version__)"
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=folder)


def test_a_collision_is_a_clear_error(tmp_path):
    (tmp_path / "mlip-0.2.5.dist-info").mkdir()
    run = import_from(tmp_path)
    assert run.returncode != 0
    assert "PyPI's mlip 0.2.5, another project of the same import name" in run.stderr.splitlines()[-1]
    assert "fresh environment" in run.stderr.splitlines()[-1]


def test_our_own_distribution_is_none(tmp_path):
    (tmp_path / "alexandria_mlip-0.2.0.dist-info").mkdir()
    (tmp_path / "mlip_something-1.0.dist-info").mkdir()
    assert import_from(tmp_path).returncode == 0
