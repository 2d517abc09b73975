"""Fixtures that every room's tests share."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.browser import Browser, find_chromium

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("MLIP_SHARED", REPOSITORY.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of goldens and real DFT data; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared goldens and data, absent at {SHARED} (set MLIP_SHARED)")
    return SHARED


@pytest.fixture(scope="module", autouse=True)
def few_compiled_programs() -> Iterator[None]:
    """Each program that XLA compiles for the CPU takes a few of the memory maps that Linux allows a process, 65,530;
    one that finds none left is a crash. Programs that are needed again come from the cache on disk."""
    yield
    if _n_memory_maps() > 20_000:
        import jax

        from mlip.programs import registry

        registry.clear()
        jax.clear_caches()


def _n_memory_maps() -> int:
    try:
        with Path("/proc/self/maps").open("rb") as maps:
            return sum(1 for _ in maps)
    except OSError:  # not Linux
        return 0


@pytest.fixture(scope="session")
def quickstart_data() -> Path:
    """The bundled surrogate relaxation paths."""
    return REPOSITORY / "datasets" / "quickstart"


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Browser]:
    """Headless Chromium; tests that need it skip where there is none."""
    executable = find_chromium()
    if executable is None:
        pytest.skip("needs Chromium on the PATH (Debian: apt-get install chromium)")
    with closing(Browser(executable, tmp_path_factory.mktemp("profile"))) as browser:
        yield browser


@pytest.fixture(scope="session")
def tiny_cgat():
    """A CGAT with random weights, of all elements: what holds for any weights holds for it."""
    import jax
    import numpy as np
    from ase.data import chemical_symbols

    from mlip.models.cgat import CGATConfig
    from mlip.network import init_parameters
    from mlip.property_model import PropertyMetadata, PropertyModel

    config = CGATConfig(
        features=8,
        shell_features=8,
        heads=2,
        n_steps=2,
        composition_steps=1,
        output_widths=(8,),
        rezero=False,
        element_features=8,
    )
    # By NumPy, and larger than in the beginning of training: an initialization takes long to compile.
    rng = np.random.default_rng(3)
    shapes = jax.eval_shape(lambda: init_parameters(config))
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)
    metadata = PropertyMetadata(property="e_above_hull", elements=chemical_symbols[1:104], functional="PBE")
    return PropertyModel(config, params, metadata)
