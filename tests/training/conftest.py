"""Runs on the small labeled world of `emt_world`."""

from pathlib import Path

import pytest

from mlip.training.recipe import Recipe
from mlip.training.recipe_file import load_recipe
from tests.emt_world import TINY_RECIPE, emt_frames, write_store


@pytest.fixture(scope="session")
def emt_store(tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("emt") / "store.h5", emt_frames(60, seed=1))


@pytest.fixture
def tiny_recipe(tmp_path, emt_store):
    """A function: overrides -> a recipe on the EMT store whose run folder is `tmp_path/run`."""

    def make(*overrides: str, store: Path = emt_store, out: str = "run") -> Recipe:
        path = tmp_path / "recipe.yaml"
        path.write_text(TINY_RECIPE.replace("STORE", str(store)).replace("OUT", str(tmp_path / out)))
        return load_recipe(path, overrides)

    return make
