"""CrabNet against the original's own numbers, and what may change without changing its prediction."""

import json
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from mlip.convert.checkpoint_files import ReadOptions, read_npz
from mlip.convert.crabnet import parameters, read
from mlip.graph.composition import CompositionBatch, Compositions, compositions_of_formulas, pad_compositions
from mlip.models.crabnet import (
    CrabNet,
    CrabNetConfig,
    dropped,
    encoding_row,
    encodings,
    jittered,
    log_fraction,
)
from mlip.network import init_parameters
from mlip.runtime import precision_scope
from mlip.training.properties.property_loss import property_penalty

TINY = CrabNetConfig(features=16, hidden=24, n_layers=2, output_widths=(16, 8))
FORMULAS = ["NaCl", "SrTiO3", "YBa2Cu3O6.93", "Si", "Na25Zr11Sc5Si12(PO8)12"]


@pytest.fixture(scope="module")
def goldens(shared):
    return shared / "goldens/crabnet"


@pytest.fixture(scope="module")
def small(goldens):
    return read(goldens / "small_weights.npz", ReadOptions(predicts="e_form"))


@pytest.fixture(scope="module")
def batch(goldens):
    """The goldens' ten compositions, every slot of theirs computed."""
    inputs = np.load(goldens / "inputs.npz")
    return CompositionBatch(inputs["src"].astype(np.int32), inputs["frac"])


@pytest.fixture(scope="module")
def tiny_params():
    return init_parameters(TINY)


def outputs(config, params, batch, dtype="float64"):
    with precision_scope(dtype):
        params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), params)
        return np.asarray(jax.jit(CrabNet(config).apply)({"params": params}, batch))


def test_the_originals_outputs_and_all_that_leads_to_them(goldens, small, batch):
    golden = np.load(goldens / "small_f64.npz")
    with precision_scope("float64"):
        found, state = CrabNet(small.config).apply(
            {"params": small.cast("float64")}, batch, capture_intermediates=True, mutable=["intermediates"]
        )
        seen = {
            "/".join(path[:-1]): np.asarray(value[0]) for path, value in flatten_dict(state["intermediates"]).items()
        }
    np.testing.assert_allclose(found, golden["output"], rtol=0, atol=1e-12)

    def check(ours: str, theirs: str, keep=slice(None)) -> None:
        values = seen[ours].reshape(*batch.species.shape, -1)
        np.testing.assert_allclose(values[keep], golden[theirs][keep], rtol=0, atol=1e-12, err_msg=theirs)

    check("embedding", "transformer_in")
    check("layer_0/norm_attention", "transformer/layer0_after_norm1")
    for layer in range(3):
        check(f"layer_{layer}", f"transformer/layer{layer}")
    check("output", "per_element_out", batch.species > 0)
    last = np.where((batch.fractions > 0)[..., None], seen["layer_2"].reshape(10, 4, -1), 0.0)
    np.testing.assert_allclose(last, golden["encoder_out"], rtol=0, atol=1e-12)
    element = np.asarray(small.params["embedding"]["element"]["kernel"], float)
    vectors = np.asarray(small.params["embedding"]["element_vectors"], float)[batch.species]
    embedded = vectors @ element + small.params["embedding"]["element"]["bias"]
    np.testing.assert_allclose(embedded, golden["embed"], rtol=0, atol=1e-12)


def test_the_originals_encodings_of_fractions(goldens, small, batch):
    golden, table = np.load(goldens / "small_f64.npz"), small.params["embedding"]["encodings"]
    np.testing.assert_array_equal(table[encoding_row(batch.fractions)], golden["pe_frac"])
    np.testing.assert_array_equal(table[encoding_row(log_fraction(batch.fractions))], golden["ple_frac"])
    indices = np.load(goldens / "fraction_index.npz")
    np.testing.assert_array_equal(encoding_row(indices["fraction"]), indices["index_linear"])
    np.testing.assert_array_equal(encoding_row(log_fraction(indices["fraction"])), indices["index_log"])


def test_the_table_of_encodings_is_exact(goldens):
    golden = np.load(goldens / "pe_table_d512_samples.npz")
    table = encodings(5000, 256)
    np.testing.assert_allclose(table[golden["rows"]], golden["rows_fullprecision"], rtol=0, atol=1e-11)
    assert np.abs(table[golden["rows"]] - golden["values"]).max() < 5e-4  # the original's, in single precision


def test_the_originals_outputs_in_float32(goldens, small, batch):
    golden = np.load(goldens / "small_f64.npz")["output"]
    # The original's own float32 noise is 5e-7.
    np.testing.assert_allclose(outputs(small.config, small.params, batch, "float32"), golden, rtol=0, atol=5e-6)


def losses(outputs, targets, mean: float, std: float) -> dict:
    """The original's, by its names."""
    scaled = (targets - mean) / std
    return {
        "robust_l1": property_penalty(outputs, scaled, "robust_mae").mean(),
        "robust_l2": property_penalty(outputs, scaled, "robust_mse").mean(),
        "bce": optax.sigmoid_binary_cross_entropy(outputs[:, 0], jnp.asarray(targets > -1, float)).mean(),
    }


def test_the_originals_losses_and_gradients(goldens, small, batch):
    golden = json.loads((goldens / "small_losses_grads.json").read_text())
    targets = np.load(goldens / "inputs.npz")["target"].astype(np.float64)

    def of_outputs(outputs):
        return losses(outputs, targets, golden["mean"], golden["std"])

    @jax.jit
    def values_and_gradients(params):
        outputs, pull_back = jax.vjp(lambda p: CrabNet(small.config).apply({"params": p}, batch), params)
        changes = jax.jacrev(of_outputs)(outputs)
        stacked = jax.vmap(lambda change: pull_back(change)[0])(jnp.stack(list(changes.values())))
        return of_outputs(outputs), {name: jax.tree.map(lambda x, k=k: x[k], stacked) for k, name in enumerate(changes)}

    with precision_scope("float64"):
        values, gradients = jax.device_get(values_and_gradients(small.cast("float64")))
    owners = owners_of_parameters(small.config, read_npz(goldens / "small_weights.npz"))
    for loss, gradient in gradients.items():
        assert values[loss] == pytest.approx(golden[loss]["loss"], rel=1e-12)
        flat = np.concatenate([np.ravel(array) for _, array in sorted(flatten_dict(gradient).items())])
        for name, norm in golden[loss]["grad_l2"].items():
            ours = flat[owners == name]
            assert np.linalg.norm(ours) == pytest.approx(norm or 0.0, rel=1e-10, abs=1e-12), (loss, name)
            assert ours.sum() == pytest.approx(golden[loss]["grad_sum"][name] or 0.0, rel=1e-10, abs=1e-10), (
                loss,
                name,
            )


def owners_of_parameters(config: CrabNetConfig, arrays) -> np.ndarray:
    """For each number among our parameters, flattened, the name of the original's array that it comes from."""
    names = np.array(list(arrays))
    numbered = {name: np.full_like(array, k) for k, (name, array) in enumerate(arrays.items())}
    numbered["encoder.ple.pe"] = numbered["encoder.pe.pe"]  # one table for both
    ours = flatten_dict(parameters(config, numbered, "numbered"))
    return names[np.concatenate([np.ravel(array) for _, array in sorted(ours.items())]).astype(int)]


def test_the_full_size(goldens, shared):
    """Weights by rule instead of a file of 48 MB."""
    shapes = json.loads((goldens / "full_param_shapes.json").read_text())
    arrays = {name: by_rule(name, shape) for name, shape in shapes.items()}
    table = np.loadtxt(
        shared / "data/crabnet/mat2vec_embedding.csv.gz", delimiter=",", skiprows=1, usecols=range(1, 201)
    )
    arrays["encoder.embed.cbfv.weight"] = np.vstack([np.zeros(200), table]).astype(np.float32)
    exact = encodings(5000, 256).astype(np.float32)
    arrays |= {"encoder.pe.pe": exact, "encoder.ple.pe": exact}
    inputs, golden = np.load(goldens / "inputs.npz"), np.load(goldens / "full_f64.npz")
    packed = pad_compositions(Compositions(inputs["src"].astype(np.int32), inputs["frac"]))
    found = outputs(CrabNetConfig(), parameters(CrabNetConfig(), arrays, "by rule"), packed)
    np.testing.assert_allclose(found, golden["output"], rtol=0, atol=1e-11)


def by_rule(name: str, shape: list[int]) -> np.ndarray:
    """As the goldens' README gives it."""
    generator = np.random.RandomState(zlib.crc32(name.encode()))
    kind = name.rsplit(".", 1)[-1]
    if kind in ("weight", "in_proj_weight") and len(shape) >= 2:
        bound = (3 / np.prod(shape[1:])) ** 0.5
        low, high = -bound, bound
    else:
        low, high = {"weight": (0.5, 1.5), "bias": (-0.1, 0.1), "in_proj_bias": (-0.1, 0.1)}.get(kind, (0.2, 0.8))
    return generator.uniform(low, high, shape).astype(np.float32)


def test_the_original_size_has_the_originals_parameters():
    config = CrabNetConfig()
    params = jax.eval_shape(lambda: init_parameters(config))
    fixed = 119 * 200 + 5000 * 256
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) - fixed == 11_987_206


def test_parameters_begin_as_the_originals(tiny_params):
    for leaf, other in zip(*(jax.tree.leaves(tiny_params[f"layer_{k}"]) for k in (0, 1)), strict=True):
        np.testing.assert_array_equal(leaf, other)  # the original copies one layer
    first = tiny_params["layer_0"]
    assert not np.array_equal(first["hidden"]["kernel"][:, :16], first["heard"]["kernel"])
    assert np.abs(first["hidden"]["bias"]).max() <= 16**-0.5
    assert not first["heard"]["bias"].any()
    assert not first["queries_keys_values"]["bias"].any()
    assert np.abs(first["queries_keys_values"]["kernel"]).max() <= (6 / 64) ** 0.5


def test_the_order_of_elements_changes_nothing(tiny_params):
    compositions = compositions_of_formulas(["LiFePO4", "Na25Zr11Sc5Si12(PO8)12"])
    expected = outputs(TINY, tiny_params, pad_compositions(compositions))
    order = np.random.default_rng(1).permutation(compositions.species.shape[1])
    turned = Compositions(compositions.species[:, order], compositions.fractions[:, order])
    np.testing.assert_allclose(outputs(TINY, tiny_params, CompositionBatch(*turned)), expected, rtol=0, atol=1e-12)


def test_padding_changes_nothing(tiny_params):
    compositions = compositions_of_formulas(FORMULAS)
    expected = outputs(TINY, tiny_params, CompositionBatch(*compositions))
    one_by_one = [
        outputs(TINY, tiny_params, pad_compositions(compositions[k : k + 1]))[0] for k in range(len(FORMULAS))
    ]
    np.testing.assert_allclose(one_by_one, expected, rtol=0, atol=1e-12)
    with_empty_rows = outputs(TINY, tiny_params, pad_compositions(compositions, 9))
    np.testing.assert_allclose(with_empty_rows[: len(FORMULAS)], expected, rtol=0, atol=1e-12)
    assert np.isfinite(with_empty_rows).all()


def test_gradients_of_packed_and_of_plain_batches_are_equal_and_finite(tiny_params):
    compositions = compositions_of_formulas(FORMULAS)

    def gradient(batch):
        def value(params):
            return jnp.sum(jnp.sin(CrabNet(TINY).apply({"params": params}, batch)[: len(FORMULAS)]))

        with precision_scope("float64"):
            return jax.device_get(jax.jit(jax.grad(value))(jax.tree.map(lambda x: jnp.asarray(x, float), tiny_params)))

    plain, packed = gradient(CompositionBatch(*compositions)), gradient(pad_compositions(compositions, 9))
    for ours, other in zip(jax.tree.leaves(packed), jax.tree.leaves(plain), strict=True):
        assert np.isfinite(ours).all()
        np.testing.assert_allclose(ours, other, rtol=0, atol=1e-12)
    assert not plain["embedding"]["element_vectors"].any()  # given, not trained
    assert not plain["embedding"]["encodings"].any()
    assert plain["embedding"]["element_scale"] != 0


def test_a_multiple_of_a_formula_has_the_same_prediction(tiny_params):
    found = outputs(TINY, tiny_params, pad_compositions(compositions_of_formulas(["Fe2O3", "Fe4O6", "Fe0.4O0.6"])))
    np.testing.assert_allclose(found, found[:1].repeat(3, axis=0), atol=1e-12)
    assert np.ptp(outputs(TINY, tiny_params, pad_compositions(compositions_of_formulas(["Fe2O3", "FeO"])))) > 1e-3


def test_dropout_is_random_in_training_only(tiny_params):
    batch, model = pad_compositions(compositions_of_formulas(FORMULAS)), CrabNet(TINY)

    @jax.jit
    @jax.vmap
    def trained(key):
        return model.apply({"params": tiny_params}, batch, False, rngs={"dropout": key})

    found = np.asarray(trained(jax.random.split(jax.random.key(0), 64)))
    np.testing.assert_array_equal(found, trained(jax.random.split(jax.random.key(0), 64)))
    assert not np.allclose(found[0], found[1])
    usual = np.asarray(jax.jit(model.apply)({"params": tiny_params}, batch))
    assert np.abs(found.mean(0) - usual).max() < np.abs(found[0] - usual).max()


def test_dropout_drops_its_share_everywhere_and_keeps_the_mean():
    shape = (500, 2000)
    drops = jax.vmap(lambda key: dropped(jnp.ones(shape), 0.1, key) == 0)
    first, second = np.asarray(drops(jax.random.split(jax.random.key(0), 2)))
    noise = (0.09 / first.size) ** 0.5
    assert abs(first.mean() - 0.1) < 4 * noise
    assert abs((first & second).mean() - 0.01) < 4 * noise  # keys are independent
    assert first.mean(0).std() == pytest.approx((0.09 / shape[0]) ** 0.5, rel=0.1)  # so are rows and columns
    assert first.mean(1).std() == pytest.approx((0.09 / shape[1]) ** 0.5, rel=0.1)
    kept = np.unique(dropped(jnp.full(4000, 3.0), 0.1, jax.random.key(1)))
    np.testing.assert_allclose(kept, [0.0, 3.0 / 0.9], rtol=1e-6)


def test_jittered_fractions_are_fractions():
    batch = pad_compositions(compositions_of_formulas(FORMULAS), 9)
    noisy = jittered(batch, jax.random.key(0))
    np.testing.assert_allclose(noisy.fractions[: len(FORMULAS)].sum(1), 1.0, rtol=1e-6)
    assert not np.any(np.asarray(noisy.fractions)[batch.species == 0])
    is_alloyed = (batch.fractions > 0) & (batch.fractions < 1)
    change = np.asarray(noisy.fractions)[is_alloyed] / batch.fractions[is_alloyed] - 1
    assert 0.002 < np.abs(change).max() < 0.1


def test_dimensions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="no multiple of heads"):
        CrabNetConfig(features=512, heads=3)
    assert CrabNetConfig.model_validate_json(TINY.model_dump_json()) == TINY
    assert list(TINY.known_numbers) == list(range(1, 119))
