"""A training step is that of Nequix's own code: its loss and every gradient, on real frames of MPtrj."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.io import read as read_structures

from mlip.convert import export
from mlip.convert.nequix import leaves
from mlip.energy_gradient import energies_forces_stress
from mlip.graph.batching import Shape, pad_batch
from mlip.graph.stacked_structures import Structures
from mlip.models.nequip import NequIPConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.runtime import precision_scope
from mlip.training.potentials.potential_loss import label_counts, loss_terms
from mlip.training.recipe import LossRecipe
from mlip.training.terms import structure_losses
from mlip.units import tensor_from_voigt

LOSS = LossRecipe(kind="mae", energy=20, forces=20, forces_as="vectors", stress=5, stress_unit="eV/A^3")
WEIGHTS = {"energy": 20.0, "forces": 20.0, "stress": 5.0}


@pytest.fixture
def nequix(monkeypatch):
    """Its package, with its loggers replaced: a loss needs none."""
    pytest.importorskip("nequix.model", reason="needs nequix (pip install --no-deps nequix equinox matscipy)")
    hooks = types.ModuleType("wandb_osh.hooks")
    hooks.TriggerWandbSyncHook = None
    modules = {"wandb": types.ModuleType("wandb"), "wandb_osh": types.ModuleType("wandb_osh"), hooks.__name__: hooks}
    for name, module in (modules | {"cloudpickle": types.ModuleType("cloudpickle")}).items():
        monkeypatch.setitem(sys.modules, name, module)
    import nequix.train

    return nequix


@pytest.fixture
def frames(shared) -> list:
    found = read_structures(shared / "data/benchmarks/mptrj-random-1k.extxyz.gz", ":60")
    return [atoms for atoms in found if len(atoms) <= 12 and len(set(atoms.numbers)) > 1][:8]


@pytest.fixture
def potential(frames) -> Potential:
    numbers = tuple(sorted({int(z) for atoms in frames for z in atoms.numbers}))
    config = NequIPConfig(
        elements=numbers, hidden="8x0e + 6x1o + 4x2e", max_ell=2, n_layers=3, cutoff=5.0, radial_hidden=(8, 8)
    )
    metadata = PotentialMetadata(
        reference_energies={symbol: -0.1 * k for k, symbol in enumerate(sorted_symbols(numbers))}, scale=0.8, shift=-3.0
    )
    return Potential(config, init_parameters(config, seed=3), metadata)


def sorted_symbols(numbers) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[z] for z in numbers]


def batch_of(potential: Potential, frames: list):
    graphs = potential.config.inputs.graphs(Structures.of(frames), np.float64)
    labeled = []
    for graph, atoms in zip(graphs, frames, strict=True):
        energy = atoms.get_potential_energy() - potential.reference_energies_by_z[atoms.numbers].sum()
        labels = {"energy": np.array([energy]), "stress": atoms.get_stress()[None]}
        labeled.append(
            graph._replace(nodes=graph.nodes | {"forces": atoms.get_forces()}, globals=graph.globals | labels)
        )
    n_nodes, n_edges = sum(map(len, frames)), sum(len(graph.senders) for graph in graphs)
    with precision_scope("float64"):
        return jax.tree.map(jnp.asarray, pad_batch(labeled, Shape(n_nodes + 3, n_edges + 20, len(frames) + 1)))


def as_theirs(potential: Potential, batch, frames: list):
    """The batch as Nequix has it: places of elements, total energies, stresses as tensors, zeros in padding."""
    places = np.zeros(119, np.int32)
    places[list(potential.config.elements)] = np.arange(len(potential.config.elements))
    energies = [*(atoms.get_potential_energy() for atoms in frames), 0.0]
    batch = jax.tree.map(np.asarray, batch)
    stress = np.stack([tensor_from_voigt(voigt) for voigt in np.nan_to_num(batch.globals["stress"])])
    return batch._replace(
        nodes={
            "species": places[batch.nodes["species"]],
            "positions": batch.nodes["positions"],
            "forces": np.nan_to_num(batch.nodes["forces"]),
        },
        edges={"shifts": batch.edges["shifts"].astype(np.float64)},
        globals={"cell": batch.globals["cell"], "energy": np.array(energies), "stress": stress},
    )


def test_loss_and_gradients_are_those_of_its_own_code_on_a_real_batch(nequix, potential, frames, tmp_path):
    import equinox as eqx

    assert len(frames) == 8
    network, _ = nequix.model.load_model(export(potential, "nequix", tmp_path / "network.nqx"))  # of float32
    batch = batch_of(potential, frames)
    with precision_scope("float64"):

        @jax.jit
        def our_loss(params):
            found = energies_forces_stress(potential.model, params, batch, 0.8, -3.0)
            return structure_losses(loss_terms(found, batch, LOSS), label_counts(batch), WEIGHTS).sum()

        ours, gradient = jax.value_and_grad(our_loss)(potential.cast("float64"))

        network = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64) if eqx.is_array(leaf) else leaf, network)
        its_batch = jax.tree.map(jnp.asarray, as_theirs(potential, batch, frames))

        def its_loss(network):
            return nequix.train.loss(network, its_batch, *WEIGHTS.values(), loss_type="mae")[0]

        theirs, its_gradient = eqx.filter_value_and_grad(its_loss)(network)
        its_leaves = jax.tree.leaves(eqx.filter(its_gradient, eqx.is_array))
        assert float(ours) == pytest.approx(float(theirs), rel=1e-6)
        assert float(ours) > 1
        ours_by_leaf = leaves(potential.config)
        assert len(its_leaves) == len(ours_by_leaf)
        for leaf, other in zip(ours_by_leaf[1:], its_leaves[1:], strict=True):  # the first are reference energies
            mine = gradient
            for key in leaf.path:
                mine = mine[key]
            other = np.asarray(other)
            np.testing.assert_allclose(mine, other, atol=1e-6 * np.abs(other).max(), rtol=1e-6, err_msg=leaf.name)
