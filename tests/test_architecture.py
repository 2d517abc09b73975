"""The house's rules that a machine can check: which room may import which, and how fast the door opens."""

import subprocess
import sys
import time

import pytest
from importlinter.cli import lint_imports

from tests.conftest import REPOSITORY


def test_imports_point_one_way(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert lint_imports() == 0


def fastest(command: list[str], repeats: int = 5) -> float:
    """Seconds of the fastest of a few runs: the machine may be busy, the program is not slower than this."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


def test_import_starts_neither_jax_nor_pymatgen():
    program = "import sys, mlip; print([m for m in ('jax', 'pymatgen', 'ase', 'h5py') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert loaded.strip() == "[]"
    assert fastest([sys.executable, "-c", "import mlip"]) < 0.5


def test_help_is_there_within_a_second():
    assert fastest([sys.executable, "-m", "mlip.cli", "--help"]) < 1.0


@pytest.mark.parametrize("name", ["MLIPCalculator", "MlipError", "Potential", "RelaxResult", "Store", "load", "relax"])
def test_public_names_are_there(name):
    import mlip

    assert getattr(mlip, name) is not None
    assert name in dir(mlip)
