"""JAX as mlip sets it up, whatever the user's own settings."""

import os
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
