"""JAX as mlip sets it up, whatever the user's own settings."""

import os
import platform
import subprocess
import sys

import pytest

from mlip.errors import MlipError
from mlip.runtime import precision_scope

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
import resource
import jax, jax.numpy as jnp, numpy as np
from mlip.runtime import set_up_jax
set_up_jax()
program = jax.jit(lambda x: (x @ x.T) @ x)
x = jnp.asarray(np.random.default_rng(0).normal(size=(4000, 200)).astype(np.float32))
assert program.lower(x).compile().memory_analysis().temp_size_in_bytes >= 64e6  # 15,625 pages
faults = []
for _ in range(30):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    program(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(faults)[15])
"""


@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="only glibc is told to keep freed memory")
def test_a_program_finds_the_memory_of_its_last_call_again():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    result = subprocess.run(
        [sys.executable, "-c", PAGE_FAULTS], env=environment, capture_output=True, text=True, check=True
    )
    assert int(result.stdout) < 1_000  # the median call's; fresh memory faults once a page
