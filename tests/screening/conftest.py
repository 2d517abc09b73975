"""Textbook prototypes, and a model of all elements."""

from pathlib import Path

import pytest
from textbook import crystals, prototypes_in, write_folder

from mlip.screening.prototypes import ScreeningPrototype


@pytest.fixture(scope="session")
def prototypes(tmp_path_factory) -> dict[str, ScreeningPrototype]:
    folder = write_folder(tmp_path_factory.mktemp("cifs"), *crystals())
    return {prototype.name: prototype for prototype in prototypes_in(folder)}


@pytest.fixture(scope="session")
def model(tiny_cgat, tmp_path_factory) -> Path:
    return tiny_cgat.save(tmp_path_factory.mktemp("model") / "cgat.safetensors")
