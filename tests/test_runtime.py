"""JAX as mlip sets it up, whatever the user's own settings."""

import os
import platform
import subprocess
import sys

import jaxlib
import pytest

from mlip import runtime
from mlip.errors import MlipError
from mlip.runtime import _BROKEN_FUSION, precision_scope

PROGRAM = """
import jax.numpy as jnp, numpy as np
from mlip.runtime import precision_scope
for dtype in ("float32", "float64", "float32"):
    with precision_scope(dtype):
        print(jnp.asarray(np.ones(2)).dtype)
"""


@pytest.mark.parametrize("flag", ["0", "1"])
def test_precision_is_what_was_asked_for_whatever_the_global_flag(flag):
    environment = os.environ | {"JAX_ENABLE_X64": flag}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["float32", "float64", "float32"]


def test_an_unknown_precision_is_an_error_with_a_way_out():
    with pytest.raises(MlipError, match="float32 or float64"):
        precision_scope("float16")


PAGE_FAULTS = """
import resource, sys
from mlip.allocator import keep_freed_memory
if sys.argv[1] == "command":
    keep_freed_memory()  # as commands do before JAX has threads, which may make further arenas
import jax, jax.numpy as jnp, numpy as np
from mlip.runtime import set_up_jax
set_up_jax()
program = jax.jit(lambda x: (x @ x.T) @ x)
x = jnp.asarray(np.random.default_rng(0).normal(size=(4000, 20)).astype(np.float32))
assert program.lower(x).compile().memory_analysis().temp_size_in_bytes >= 64e6  # 15,625 pages
faults = []
for _ in range(60):  # small allocations settle in what was freed: a few times more is asked for, then there is room
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    program(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(faults)[30])
"""


def median_faults(of_whom: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return int(output_of(PAGE_FAULTS, of_whom, environment=environment))


def output_of(program: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="only glibc is told to keep freed memory")
def test_a_program_of_a_command_finds_the_memory_of_its_last_call_again():
    assert median_faults("command") < 1_000  # fresh memory faults once a page


@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="only glibc is told to keep freed memory")
def test_the_memory_of_a_users_process_is_managed_as_the_user_has_it():
    assert median_faults("user") > 10_000


FLAGS = """
import os, sys
from mlip.runtime import jax_facts, set_up_jax, sums_are_right
before = jax_facts()
set_up_jax()
assert before == jax_facts()
print(before["xla_flags"])
print(os.environ.get("XLA_FLAGS", "none"))
print(sums_are_right())
import jax
print(len(jax.devices()))
"""
BROKEN = pytest.mark.skipif(jaxlib.__version__ not in _BROKEN_FUSION, reason="this JAX is in order")


def without_flags() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}


@BROKEN
@pytest.mark.parametrize("of_user", [None, "--xla_force_host_platform_device_count=2"])
def test_the_broken_fusion_is_off_beside_the_users_own_flags_and_the_environment_is_as_before(of_user):
    environment = without_flags() | ({"XLA_FLAGS": of_user} if of_user else {})
    told, found, are_right, n_devices = output_of(FLAGS, environment=environment).splitlines()
    assert told == f"{of_user or ''} --xla_cpu_experimental_ynn_fusion_type=".strip()
    assert found == (of_user or "none")
    assert are_right == "True"
    assert n_devices == ("2" if of_user else "1")


@BROKEN
def test_a_choice_of_fusions_that_the_user_made_is_left_to_the_user():
    flag = "--xla_cpu_experimental_ynn_fusion_type=-reduce"
    told, found, *_ = output_of(FLAGS, environment=without_flags() | {"XLA_FLAGS": flag}).splitlines()
    assert told == found == flag


@BROKEN
def test_a_jax_that_was_started_before_the_guard_is_found_out():
    program = "import jax; jax.devices()\nimport warnings; warnings.simplefilter('error')\n"
    program += "from mlip.runtime import set_up_jax\ntry: set_up_jax()\nexcept UserWarning as said: print(said)"
    assert "computes some sums wrong" in output_of(program, environment=without_flags())


def test_the_self_test_knows_a_wrong_sum(monkeypatch):
    assert runtime.sums_are_right()
    monkeypatch.setattr(runtime.np, "allclose", lambda *_, **__: False)
    assert not runtime.sums_are_right()


def test_a_platform_that_is_not_there_is_one_line():
    environment = os.environ | {"JAX_PLATFORMS": "nonsense"}
    command = [sys.executable, "-m", "mlip", "info"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("mlip: error: JAX_PLATFORMS=nonsense: JAX cannot start")


FORK = """
import multiprocessing, sys
from ase.build import bulk
import mlip
from tests.relaxation.morse import morse_potential
potential, copper = morse_potential(), bulk("Cu")
doors = {
    "predict": lambda: potential.predict(copper),
    "calculator": lambda: mlip.MLIPCalculator(potential).get_potential_energy(copper),
    "relax": lambda: mlip.relax([copper], potential, steps=1, progress=False),
}
def use(door):
    doors[door]()
if sys.argv[1] == "after":
    potential.predict(copper)
with multiprocessing.get_context("fork").Pool(1) as pool:
    for door in doors:
        try:
            print(pool.apply_async(use, (door,)).get(60))
        except mlip.MlipError as error:
            print(error)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_forked_after_jax_ran_is_told_the_way_out_and_one_forked_before_works(when):
    lines = output_of(FORK, when).splitlines()
    assert len(lines) == 3
    assert all(('get_context("spawn")' in line) == (when == "after") for line in lines)
