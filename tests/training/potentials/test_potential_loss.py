"""The loss is continuous, deaf to missing labels and padding, and the same however a batch is cut."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from mlip.energy_gradient import Evaluation
from mlip.training.potentials.potential_loss import label_counts, loss_terms, penalty_function
from mlip.training.recipe import LossRecipe
from mlip.training.terms import structure_losses, totals, weighted_mean
from mlip.units import EV_PER_A3_IN_GPA

RNG = np.random.default_rng(0)


def batch_of(energy, forces, stress, n_node, n_padding: int = 2) -> jraph.GraphsTuple:
    """Labels in a padded batch; padding's labels are NaN as `pad_batch` leaves them."""
    n_node = np.asarray(n_node)
    nan = np.full((n_padding, 3), np.nan, np.float32)
    return jraph.GraphsTuple(
        nodes={
            "species": np.repeat([6, 0], [n_node.sum(), n_padding]).astype(np.int32),
            "forces": np.concatenate([forces, nan]).astype(np.float32),
        },
        edges={},
        senders=np.zeros(0, np.int32),
        receivers=np.zeros(0, np.int32),
        globals={
            "energy": np.append(energy, np.nan).astype(np.float32),
            "stress": np.concatenate([stress, np.full((1, 6), np.nan)]).astype(np.float32),
        },
        n_node=np.append(n_node, n_padding).astype(np.int32),
        n_edge=np.zeros(len(n_node) + 1, np.int32),
    )


def random_labels(n_node, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=len(n_node)), rng.normal(size=(sum(n_node), 3)), rng.normal(size=(len(n_node), 6))


def prediction_for(graph, seed=1):
    rng = np.random.default_rng(seed)
    n, g = len(graph.nodes["species"]), len(graph.n_node)
    return Evaluation(
        None,
        energy=jnp.asarray(rng.normal(size=g), jnp.float32),
        forces=jnp.asarray(rng.normal(size=(n, 3)), jnp.float32),
        stress=jnp.asarray(rng.normal(size=(g, 6)), jnp.float32),
    )


def loss_of(prediction, graph, recipe=LossRecipe()):  # noqa: B008 (frozen)
    terms = loss_terms(prediction, graph, recipe)
    return structure_losses(terms, label_counts(graph), weights_of(recipe)).sum()


def weights_of(recipe):
    return {"energy": recipe.energy, "forces": recipe.forces, "stress": recipe.stress}


def test_huber_is_continuous_and_smooth_at_its_threshold():
    delta = 0.01
    huber = penalty_function("huber", delta)
    below, above = (jnp.float32(delta * (1 + side * 1e-4)) for side in (-1, 1))
    assert huber(below) == pytest.approx(0.5 * delta**2, rel=1e-3)
    assert huber(above) == pytest.approx(0.5 * delta**2, rel=1e-3)
    assert jax.grad(huber)(below) == pytest.approx(delta, rel=1e-3)
    assert jax.grad(huber)(above) == pytest.approx(delta, rel=1e-3)
    assert huber(jnp.float32(-3.0)) == pytest.approx(delta * (3 - delta / 2))


def nine(stress):
    """xx yy zz yz xz xy -> 3 x 3."""
    return stress[:, np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])]


def test_squared_errors_of_stress_do_not_depend_on_the_axes():
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    n_node = [2, 3]
    labels = random_labels(n_node)
    predicted = prediction_for(batch_of(*labels, n_node))

    def loss_along(axes: np.ndarray) -> float:
        def turned(stress):
            return (axes @ nine(stress) @ axes.T)[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]

        graph = batch_of(*labels[:2], turned(labels[2]), n_node)
        recipe = LossRecipe(kind="mse", energy=0, forces=0, stress=1)
        return float(loss_of(predicted._replace(stress=turned(predicted.stress)), graph, recipe))

    assert loss_along(rotation) == pytest.approx(loss_along(np.eye(3)), rel=1e-5)


@pytest.mark.parametrize("kind", ["huber", "mse", "mae"])
def test_the_loss_is_the_weighted_mean_over_the_labels(kind):
    n_node = [2, 3]
    energy, forces, stress = random_labels(n_node)
    graph = batch_of(energy, forces, stress, n_node)
    predicted = prediction_for(graph)
    recipe = LossRecipe(kind=kind, energy=2, forces=3, stress=0.1, stress_unit="GPa")
    penalty = penalty_function(kind, recipe.huber_delta)
    atoms = np.array(n_node)
    expected = (
        2 * np.mean(penalty((predicted.energy[:2] - energy) / atoms))
        + 3 * np.mean(penalty(predicted.forces[:5] - forces))
        + 0.1 * np.mean(penalty((nine(predicted.stress[:2]) - nine(stress)) * EV_PER_A3_IN_GPA))
    )
    assert loss_of(predicted, graph, recipe) == pytest.approx(float(expected), rel=1e-5)


def test_lengths_of_force_errors_are_averaged_over_the_atoms_whatever_the_axes():
    n_node = [2, 3]
    energy, forces, stress = random_labels(n_node)
    graph = batch_of(energy, forces, stress, n_node)
    predicted = prediction_for(graph)
    recipe = LossRecipe(kind="mae", energy=0, forces=3, forces_as="vectors", stress=0)
    expected = 3 * np.mean(np.linalg.norm(predicted.forces[:5] - forces, axis=1))
    assert loss_of(predicted, graph, recipe) == pytest.approx(expected, rel=1e-5)


def test_a_force_without_error_or_label_has_no_gradient():
    energy, forces, stress = random_labels([2, 3])
    predicted = prediction_for(batch_of(energy, forces, stress, [2, 3]))
    forces[0], forces[3] = predicted.forces[0], np.nan
    graph = batch_of(energy, forces, stress, [2, 3])
    recipe = LossRecipe(kind="mae", energy=0, forces=1, forces_as="vectors", stress=0)
    gradient = jax.grad(lambda f: loss_of(predicted._replace(forces=f), graph, recipe))(predicted.forces)
    lengths = np.linalg.norm(gradient, axis=1)
    np.testing.assert_allclose(lengths[:5], [0, 0.25, 0.25, 0, 0.25], atol=1e-6)


def test_missing_labels_contribute_nothing_to_value_and_gradient():
    n_node = [2, 3]
    energy, forces, stress = random_labels(n_node)
    energy[1], forces[3], stress[0, 2] = np.nan, np.nan, np.nan
    graph = batch_of(energy, forces, stress, n_node)
    predicted = prediction_for(graph)._asdict()
    value, gradient = jax.value_and_grad(lambda p: loss_of(Evaluation(**p), graph))(predicted)
    assert np.isfinite(value)
    assert gradient["energy"][1] == 0
    assert np.all(gradient["forces"][3] == 0)
    assert gradient["stress"][0, 2] == 0
    assert np.all(gradient["forces"][:2] != 0)
    assert all(jax.tree.leaves(jax.tree.map(lambda g: bool(jnp.all(jnp.isfinite(g))), gradient)))


def test_a_batch_without_any_stress_has_the_loss_of_its_energies_and_forces():
    n_node = [1, 4]
    energy, forces, _ = random_labels(n_node)
    graph = batch_of(energy, forces, np.full((2, 6), np.nan), n_node)
    predicted = prediction_for(graph)
    assert loss_of(predicted, graph) == loss_of(predicted, graph, LossRecipe(stress=0))


def test_padding_does_not_change_the_loss():
    n_node = [2, 3]
    labels = random_labels(n_node)
    few, many = batch_of(*labels, n_node, n_padding=1), batch_of(*labels, n_node, n_padding=50)
    predicted = prediction_for(many)
    cut = Evaluation(None, energy=predicted.energy, stress=predicted.stress, forces=predicted.forces[:6])
    assert loss_of(predicted, many) == pytest.approx(float(loss_of(cut, few)), rel=1e-6)


def test_sums_of_uneven_parts_give_the_loss_of_the_whole():
    n_node = [1, 2, 7]
    energy, forces, stress = random_labels(n_node)
    whole = batch_of(energy, forces, stress, n_node)
    predicted = prediction_for(whole)
    recipe = LossRecipe()
    parts = []
    for graphs, atoms in ((slice(0, 1), slice(0, 1)), (slice(1, 3), slice(1, 10))):
        part = batch_of(energy[graphs], forces[atoms], stress[graphs], n_node[graphs], n_padding=1)
        padding = [jnp.zeros((1, *x.shape[1:])) for x in (predicted.energy, predicted.forces, predicted.stress)]
        cut = Evaluation(
            None,
            energy=jnp.concatenate([predicted.energy[graphs], padding[0]]),
            forces=jnp.concatenate([predicted.forces[atoms], padding[1]]),
            stress=jnp.concatenate([predicted.stress[graphs], padding[2]]),
        )
        parts.append(totals(loss_terms(cut, part, recipe), label_counts(part)))
    total = jax.tree.map(jnp.add, *parts)
    assert weighted_mean(total, weights_of(recipe)) == pytest.approx(float(loss_of(predicted, whole)), rel=1e-6)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_structure_that_is_not_finite_is_pointed_at(value):
    n_node = [2, 3, 1]
    graph = batch_of(*random_labels(n_node), n_node)
    predicted = prediction_for(graph)
    predicted = predicted._replace(forces=predicted.forces.at[4, 1].set(value))
    losses = structure_losses(loss_terms(predicted, graph, LossRecipe()), label_counts(graph), weights_of(LossRecipe()))
    assert np.isfinite(losses).tolist() == [True, False, True, True]


def test_an_infinite_label_is_not_taken_for_a_missing_one():
    n_node = [2]
    _, forces, stress = random_labels(n_node)
    graph = batch_of(np.array([np.inf]), forces, stress, n_node)
    assert not np.isfinite(loss_terms(prediction_for(graph), graph, LossRecipe())["energy"].penalty[0])


def test_losses_of_structures_add_up_to_the_loss_and_count_by_their_factors():
    n_node = [2, 3]
    graph = batch_of(*random_labels(n_node), n_node)
    predicted, counts, weights = prediction_for(graph), label_counts(graph), weights_of(LossRecipe())
    plain = structure_losses(loss_terms(predicted, graph, LossRecipe()), counts, weights)
    assert plain[2] == 0  # padding
    factors = jnp.array([[1, 1, 1], [0, 0, 0], [1, 1, 1]], jnp.float32)
    weighted = graph._replace(globals=graph.globals | {"factors": factors})
    losses = structure_losses(loss_terms(predicted, weighted, LossRecipe()), counts, weights)
    np.testing.assert_allclose(losses, [plain[0], 0, 0], rtol=1e-6)


def test_a_term_without_weight_is_silent_whatever_it_holds():
    n_node = [2]
    energy, forces, _ = random_labels(n_node)
    graph = batch_of(energy, forces, np.full((1, 6), np.inf), n_node)
    weights = {"energy": 1.0, "stress": jnp.float32(0)}
    terms = loss_terms(prediction_for(graph), graph, LossRecipe())
    assert np.isfinite(structure_losses(terms, label_counts(graph), weights)).all()
