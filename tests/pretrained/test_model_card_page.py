"""The pages of the documentation that show model cards, written from the registry."""

import sys

import pytest

from mlip.pretrained import default_potential, find
from tests.bundled_potential import NAME
from tests.conftest import REPOSITORY

sys.path.append(str(REPOSITORY / "docs" / "_ext"))

from model_card import default_page
from potentials_page import potentials_page


def test_the_default_of_others_has_a_page_without_a_card():
    entry = find(default_potential())
    page = default_page(entry)
    assert entry.title in page
    assert ("## Errors" in page) == (entry.card is not None)


@pytest.mark.parametrize(
    "part",
    [
        "It comes with `mlip`, and needs no network.",
        "- magnetism: it knows no moments",
        "It hardly knows elements with fewer than 100 training frames: Na (7).",
        "| data | labels | materials | energy meV/atom | forces eV/Å | slope of the forces |",
        "| crystals | DFT | 1,000 | 60 |  |  | 3.5 | 0 |",
        "| crystals | teacher-1 | 1,000 |  | 0.02 | 0.97 |  |  |",
        "| crystals, 12,345 frames | CC-BY-4.0 | [doi:10.0/crystals](https://doi.org/10.0/crystals) |",
        "title='Na: 7 training frames, the potential hardly knows it'",
        "title='Cl: 12,000 training frames'",
    ],
)
def test_the_page_of_the_default_shows_its_card(bundled, part):
    assert part in default_page(find("default"))


def test_the_list_of_potentials_tells_what_a_card_tells(bundled):
    page = potentials_page()
    assert f"| `{NAME}` (default) | PBE | 2 |" in page
    assert "| in mlip |" in page
    for part in ("Teacher: `teacher-1`", "Not for: magnetism", "[the default potential](default_potential.md)"):
        assert part in page
