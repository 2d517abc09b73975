"""Networks of CrabNet: the layout that its authors save, and what is wrong with a damaged one."""

import jax
import numpy as np
import pytest

from mlip.convert.checkpoint_files import ReadOptions
from mlip.convert.crabnet import RESOLUTION, read, recognizes
from mlip.errors import MlipError
from mlip.graph.composition import compositions_of_formulas, pad_compositions
from mlip.models.crabnet import CrabNet, encodings

OPTIONS = ReadOptions(predicts="band_gap", functional="PBE")


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """A small network under the original's names, random."""
    rng = np.random.default_rng(0)
    d, ff, vector, widths = 8, 12, 6, (8, 4)
    shapes = {f"encoder.{name}": (1,) for name in ("emb_scaler", "pos_scaler", "pos_scaler_log")}
    shapes |= {"encoder.embed.fc_mat2vec.weight": (d, vector), "encoder.embed.fc_mat2vec.bias": (d,)}
    for k in range(2):
        layer = f"encoder.transformer_encoder.layers.{k}"
        shapes |= {f"{layer}.self_attn.in_proj_weight": (3 * d, d), f"{layer}.self_attn.in_proj_bias": (3 * d,)}
        for name, (out, into) in {"self_attn.out_proj": (d, d), "linear1": (ff, d), "linear2": (d, ff)}.items():
            shapes |= {f"{layer}.{name}.weight": (out, into), f"{layer}.{name}.bias": (out,)}
        shapes |= {f"{layer}.{norm}.{kind}": (d,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")}
    for k, (into, out) in enumerate([(d, widths[0]), widths]):
        shapes |= {f"output_nn.fcs.{k}.weight": (out, into), f"output_nn.fcs.{k}.bias": (out,)}
    shapes |= {"output_nn.res_fcs.1.weight": widths[::-1]}  # the first block keeps its width
    shapes |= {"output_nn.fc_out.weight": (3, widths[1]), "output_nn.fc_out.bias": (3,)}
    found = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    found["encoder.embed.cbfv.weight"] = np.vstack([np.zeros(vector), rng.normal(size=(118, vector))]).astype("f")
    table = encodings(RESOLUTION, d // 2).astype(np.float32)
    return found | {"encoder.pe.pe": table, "encoder.ple.pe": table}


def save(path, arrays, **more):
    torch = pytest.importorskip("torch")
    network = {"weights": {name: torch.from_numpy(array) for name, array in arrays.items()}}
    network["scaler_state"] = {"mean": torch.tensor(1.5), "std": torch.tensor(0.25)}
    torch.save(network | {"model_name": "aflow__Egap"} | more, path)
    return path


def mistake(source, options=OPTIONS) -> str:
    with pytest.raises(MlipError) as error:
        read(source, options)
    return str(error.value)


def test_dimensions_are_read_from_the_shapes(arrays, tmp_path):
    np.savez(tmp_path / "a_weights.npz", **arrays)
    assert recognizes(tmp_path / "a_weights.npz")
    model = read(tmp_path / "a_weights.npz", OPTIONS)
    config = model.config
    assert (config.features, config.hidden, config.n_layers, config.heads) == (8, 12, 2, 4)
    assert (config.output_widths, config.element_features, config.max_atomic_number) == ((8, 4), 6, 118)
    assert (model.metadata.property, model.metadata.functional) == ("band_gap", "PBE")
    assert model.metadata.knows_uncertainty
    assert len(model.elements) == 118
    assert np.isfinite(predictions(model)).all()


def predictions(model) -> np.ndarray:
    batch = pad_compositions(compositions_of_formulas(["NaCl", "SrTiO3"]))
    return np.asarray(jax.jit(CrabNet(model.config).apply)({"params": model.params}, batch))


def test_a_saved_network_with_the_scale_of_its_target(arrays, tmp_path):
    source = save(tmp_path / "aflow__Egap.pth", arrays)
    assert recognizes(source)
    model = read(source, OPTIONS)
    assert (model.metadata.mean, model.metadata.std) == (1.5, 0.25)
    np.savez(tmp_path / "a_weights.npz", **arrays)
    np.testing.assert_array_equal(predictions(model), predictions(read(tmp_path / "a_weights.npz", OPTIONS)))


def test_the_goldens_are_recognized(shared):
    assert recognizes(shared / "goldens/crabnet/small_weights.npz")
    assert not recognizes(shared / "goldens/cgat/small_default_weights.npz")


def test_what_is_predicted_must_be_named(arrays, tmp_path):
    np.savez(tmp_path / "a_weights.npz", **arrays)
    assert "--predicts" in mistake(tmp_path / "a_weights.npz", ReadOptions())


def test_code_in_a_network_is_never_run(arrays, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "trapped").touch, ()

    source = save(tmp_path / "trap.pth", arrays, optimizer=Trap())
    assert "cannot be read as tensors alone" in mistake(source)
    assert "cannot be read as tensors alone" in mistake(source, OPTIONS._replace(trust_pickle=True))
    assert not (tmp_path / "trapped").exists()


def test_a_network_of_something_else_is_named(tmp_path, arrays):
    torch = pytest.importorskip("torch")
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    assert "is no network of CrabNet: 'weights' is missing" in mistake(tmp_path / "other.pth")
    save(tmp_path / "bare.pth", arrays, scaler_state={})
    assert "'scaler_state' with mean and std is missing" in mistake(tmp_path / "bare.pth")
    save(tmp_path / "flat.pth", arrays, scaler_state={"mean": torch.tensor(0.0), "std": torch.tensor(0.0)})
    assert "are no scale" in mistake(tmp_path / "flat.pth")
    (tmp_path / "torn.pth").write_bytes(save(tmp_path / "whole.pth", arrays).read_bytes()[:2000])
    assert "is no undamaged archive" in mistake(tmp_path / "torn.pth")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"output_nn.fc_out.bias": None}, "output_nn.fc_out.bias is missing"),
        ({"encoder.embed.cbfv.weight": None}, "is no CrabNet: encoder.embed.cbfv.weight is missing"),
        ({"extra.weight": np.zeros(2)}, "no place in the model, such as extra.weight"),
        ({"encoder.ple.pe": np.zeros((RESOLUTION, 4), np.float32)}, "have different encodings"),
        ({"output_nn.fc_out.weight": np.zeros((2, 4)), "output_nn.fc_out.bias": np.zeros(2)}, "the model has (3,)"),
        ({"output_nn.fcs.0.weight": None}, "output_nn.fcs.0.weight is missing"),
        ({"output_nn.fcs.0.weight": np.zeros((8, 8)), "output_nn.fcs.0.bias": np.zeros(7)}, "output.block_0.bias"),
    ],
)
def test_arrays_that_do_not_fit_are_named(arrays, tmp_path, change, fault):
    changed = {name: array for name, array in (arrays | change).items() if array is not None}
    np.savez(tmp_path / "a_weights.npz", **changed)
    assert fault in mistake(tmp_path / "a_weights.npz")
