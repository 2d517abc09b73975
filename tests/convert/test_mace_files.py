"""What a module of mace-torch must tell of itself, on stand-ins with its attributes (the real ones need PyTorch)."""

from types import SimpleNamespace

import numpy as np
import pytest

from mlip.convert.mace_files import _values
from mlip.errors import MlipError
from mlip.models.mace import SILU_NORM


def silu() -> None:
    """In PyTorch's place: what counts is its name."""


def stand_in(**changes) -> SimpleNamespace:
    interaction = SimpleNamespace(
        edge_attrs_irreps=SimpleNamespace(lmax=3),
        conv_tp_weights=SimpleNamespace(hs=[8, 64, 64, 64, 32]),
        avg_num_neighbors=20.5,
    )
    contractions = SimpleNamespace(contractions=[SimpleNamespace(weights=[0, 0])])
    product = SimpleNamespace(linear=SimpleNamespace(irreps_out="4x0e"), symmetric_contractions=contractions)
    activation = SimpleNamespace(f=silu, cst=SILU_NORM)
    readout = SimpleNamespace(hidden_irreps=SimpleNamespace(dim=16), non_linearity=SimpleNamespace(acts=[activation]))
    radial = SimpleNamespace(bessel_fn=SimpleNamespace(bessel_weights=np.ones(8)), cutoff_fn=SimpleNamespace(p=5))
    whole = {
        "radial_embedding": radial,
        "interactions": [interaction, interaction],
        "products": [product],
        "readouts": [readout],
        "r_max": SimpleNamespace(numpy=lambda: np.float32(4.6)),
        "pair_repulsion_fn": None,
    }
    return SimpleNamespace(**whole | changes)


def test_all_is_told():
    values = _values(stand_in(), "m.model")
    assert (values["r_max"], values["p"], values["corr"], values["gate"]) == (4.6, 5, 3, "silu")
    assert (values["pair_repulsion"], values["heads"], values["radial_MLP"]) == (False, ["default"], [64, 64, 64])


def test_a_readout_without_a_gate_has_a_name_that_can_be_refused():
    module = stand_in()
    module.readouts[-1].non_linearity.acts[0] = None
    assert _values(module, "m.model")["gate"] == "None"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"readouts": []}, "gate"),
        ({"interactions": []}, "max_ell"),
        ({"r_max": None}, "r_max"),
        ({"radial_embedding": None}, "num_bessel"),
        ({"products": None}, "hidden"),
    ],
)
def test_what_is_missing_or_none_is_an_error_that_names_it(changes, name):
    with pytest.raises(MlipError, match=r"m\.model: \w+ cannot be told from the module") as error:
        _values(stand_in(**changes), "m.model")
    assert "\n" not in str(error.value)
    assert f"{name} cannot be told" in str(error.value) or name == "max_ell"
