"""The house's rules that a machine can check: which room may import which, and how fast the door opens."""

import resource
import subprocess
import sys

import pytest
from importlinter.cli import lint_imports

from tests.conftest import REPOSITORY


def test_imports_point_one_way(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert lint_imports() == 0


def fastest(command: list[str], repeats: int = 5) -> float:
    """CPU seconds of the fastest of a few runs: other programs on the machine don't count."""
    times = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def test_import_starts_neither_jax_nor_pymatgen():
    program = "import sys, mlip; print([m for m in ('jax', 'pymatgen', 'ase', 'h5py') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert loaded.strip() == "[]"
    assert fastest([sys.executable, "-c", "import mlip"]) < 0.5


def test_help_is_there_within_a_second():
    assert fastest([sys.executable, "-m", "mlip.cli", "--help"]) < 1.0


PUBLIC = [
    "MLIPCalculator",
    "MlipError",
    "Potential",
    "RelaxResult",
    "Store",
    "elastic_tensor",
    "load",
    "phonons",
    "relax",
]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_there(name):
    import mlip

    assert getattr(mlip, name) is not None
    assert name in dir(mlip)
