"""Properties by name: what belongs to a cell is learned for an atom; the seven of the paper are in real entries."""

import numpy as np
import pytest
from typer.testing import CliRunner

from mlip.cli import data as data_commands
from mlip.data import Store
from mlip.data.build import build
from mlip.data.properties import PAPERS, known_properties, property_of, values_of


@pytest.fixture(scope="module")
def entries(shared, tmp_path_factory):
    """Real bulk entries of ALEXANDRIA."""
    out = tmp_path_factory.mktemp("entries") / "entries.h5"
    build([shared / "data/alexandria/fixture_entries_pbe.json.bz2"], out)
    return out


def test_the_papers_seven_are_known_by_name(entries):
    with Store(entries) as store:
        assert known_properties(store) == list(PAPERS)
        values = values_of(store, PAPERS)
        assert {len(found) for found in values.values()} == {store.n_materials}
        for k, material in enumerate(store.materials()):
            frame = store.relaxed_frame(material)
            n = len(frame)
            assert values["energy_per_atom"][k] == frame.energy / n
            assert values["volume_per_atom"][k] == pytest.approx(abs(np.linalg.det(frame.cell)) / n)
            assert values["magnetization_per_atom"][k] == material.properties["total_mag"] / n
            assert values["band_gap"][k] == material.properties["band_gap_ind"]
            assert property_of(store, material, "volume") == values["volume_per_atom"][k]


def test_properties_of_a_composition_are_taken_as_they_are(tmp_path):
    (tmp_path / "t.csv").write_text("formula,volume,e_form\nFe2O3,50,-1.5\nMgO,,-3\n")
    build([tmp_path / "t.csv"], tmp_path / "t.h5")
    with Store(tmp_path / "t.h5") as store:
        found = {m.id: property_of(store, m, "volume") for m in store.materials()}
        assert found == {"Fe2O3": 50.0, "MgO": None}
        assert all(property_of(store, m, "energy_per_atom") is None for m in store.materials())


def test_distributions_are_printed_and_drawn(entries, tmp_path):
    figure = tmp_path / "figure4.png"
    told = CliRunner().invoke(data_commands.app, ["info", str(entries), "--properties", "all", "--plot", str(figure)])
    assert told.exit_code == 0
    assert "e_form" in told.output
    assert figure.stat().st_size > 10_000
    wrong = CliRunner().invoke(data_commands.app, ["info", str(entries), "--properties", "e_from"])
    assert "no material has 'e_from'" in str(wrong.exception)
    assert "e_form" in str(wrong.exception)
