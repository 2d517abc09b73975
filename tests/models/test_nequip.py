"""NequIP against its equations, written out in NumPy edge by edge, for networks of every kind; and what holds for any
weights. (Against the authors' code: tests/convert/test_convert_nequix.py and test_convert_sevennet.py.)"""

import e3nn_jax as e3nn
import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from scipy.spatial.transform import Rotation

from mlip.graph.radius_graph import crystal_graph
from mlip.models import parse_config
from mlip.models.nequip import ACTIVATION_NORMS, SCALAR, Irrep, NequIPConfig, couplings, parse_irreps, xplor_cutoff
from mlip.network import init_parameters
from mlip.potential import Head, Potential, PotentialMetadata
from mlip.runtime import precision_scope
from mlip.units import tensor_from_voigt

E0 = {"Na": -1.0, "Si": -5.0, "Cl": -2.0, "Cu": -3.5}
_SMALL = {"cutoff": 4.0, "elements": (11, 14, 17, 29), "n_bessel": 4, "radial_hidden": (6, 5), "mean_neighbors": 12.0}
NETWORKS = {
    "nequix": NequIPConfig(**_SMALL, hidden="5x0e + 4x1o + 3x2e + 2x3o", max_ell=3, n_layers=3),
    "sevennet": NequIPConfig(
        **_SMALL,
        hidden="5x0e + 4x1e + 3x2e",
        max_ell=2,
        n_layers=3,
        parity=False,
        embedding=6,
        norm=False,
        neighbor_norm="mean",
        activation_norm="e3nn",
        cutoff_function="xplor",
        cutoff_on=3.2,
        trained_frequencies=True,
    ),
    "both parities": NequIPConfig(
        **_SMALL, hidden="5x0e + 2x0o + 3x1o + 4x1e + 2x2e + 3x2o", max_ell=2, n_layers=4, skip="element"
    ),
    "scalars": NequIPConfig(**_SMALL, hidden="5x0e", max_ell=0, n_layers=1),
    "heads": NequIPConfig(
        **_SMALL, hidden="5x0e + 3x1o", max_ell=1, n_layers=2, heads=("PBE", "r2SCAN"), head_biases=True
    ),
}


def potential_of(config: NequIPConfig, seed: int = 0) -> Potential:
    """Random parameters, none of them zero or one."""
    rng = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda leaf: (np.asarray(leaf) + rng.normal(0, 0.3, leaf.shape)).astype(np.float32), init_parameters(config)
    )
    heads = {name: Head(reference_energies=E0, scale=2.0, shift=0.5 * k) for k, name in enumerate(config.heads)}
    return Potential(config, params, PotentialMetadata.of_heads(heads))


def crystals() -> list[Atoms]:
    salt, silicon = bulk("NaCl", "rocksalt", a=5.3), bulk("Si", "diamond", a=5.4)
    left_handed = bulk("Cu", cubic=True)
    left_handed.set_cell(left_handed.cell.array[[1, 0, 2]])
    silicon.set_cell(silicon.cell.array @ np.array([[1, 0.4, 0.3], [0, 1, 0.5], [0, 0, 1]]), scale_atoms=True)
    for seed, atoms in enumerate((salt, silicon, left_handed)):
        atoms.rattle(0.1, seed=seed)
    layer = fcc111("Cu", (1, 1, 2), vacuum=6.0)
    chain = Atoms("NaCl", [[0, 0, 0], [2.5, 0.3, 0]], cell=[5, 0, 0], pbc=[True, False, False])
    molecule = Atoms("SiCl", [[0, 0, 0], [1.9, 0.4, 0.2]])
    return [salt, silicon, left_handed, layer, chain, molecule, bulk("Cu"), bulk("Na", "bcc", a=12.0), Atoms("Cu")]


def silu(x):
    return x / (1 + np.exp(-x))


def energies_by_the_equations(potential: Potential, atoms: Atoms, head: int = 0) -> np.ndarray:
    """Node energies, without the potential's scale and reference energies; features are (atoms, channels, m)."""
    config = potential.config
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), potential.params)
    graph = crystal_graph(atoms, config.cutoff, dtype=np.float64)
    j, i, positions = np.asarray(graph.senders), np.asarray(graph.receivers), graph.nodes["positions"]
    vectors = positions[j] + graph.edges["shifts"] @ graph.globals["cell"][0] - positions[i]
    r = np.linalg.norm(vectors, axis=1)
    with precision_scope("float64"):
        y = {
            irrep: np.asarray(
                e3nn.spherical_harmonics(f"{irrep.order}e", e3nn.IrrepsArray("1e", vectors / r[:, None]), False).array
            )
            for irrep in config.harmonics
        }
    x = np.minimum(r / config.cutoff, 1)
    if config.cutoff_function == "polynomial":
        envelope = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
    else:
        on = config.cutoff_on / config.cutoff
        envelope = np.where(x < on, 1, (1 - x**2) ** 2 * (1 + 2 * x**2 - 3 * on**2) / (1 - on**2) ** 3)
    frequencies = params.get("frequencies", np.pi / config.cutoff * np.arange(1, config.n_bessel + 1))
    basis = 2 / config.cutoff * np.sin(r[:, None] * frequencies) / r[:, None] * envelope[:, None]

    places = np.searchsorted(config.elements, atoms.numbers)
    first = np.eye(len(config.elements))
    if config.embedding is not None:
        first = params["embedding"] / np.sqrt(len(config.elements))
    h = {SCALAR: first[places][:, :, None]}
    for t in range(config.n_layers):
        h = _layer(config, params[f"layer_{t}"], t, h, places, head, i, j, basis, y)
    return h[SCALAR][:, :, 0] @ params["readout"][:, 0] / np.sqrt(len(params["readout"]))


def _layer(config, layer, t, h, places, head, i, j, basis, y):
    outputs = config.channels_out(t)
    norms = ACTIVATION_NORMS[config.activation_norm]

    def linear(name, features):
        found = {}
        for irrep, chunk in features.items():
            if str(irrep) in layer[name]:
                kernel = layer[name][str(irrep)]
                kernels = kernel[places] if kernel.ndim == 3 else np.broadcast_to(kernel, (len(places), *kernel.shape))
                found[irrep] = np.einsum("num,nuv->nvm", chunk, kernels) / np.sqrt(chunk.shape[1])
        return found

    m = linear("linear_1", h)
    if config.head_biases:
        m[SCALAR] = m[SCALAR] + layer["bias_1"][head][:, None]
    weights = basis
    for k in range(3):
        weights = (silu(weights) if k else weights) @ layer["neighbor_sum"]["radial"][f"layer_{k}"]
    sums, column = {}, 0
    for path in couplings({irrep: chunk.shape[1] for irrep, chunk in m.items()}, config.harmonics, outputs):
        neighbors = m[path.node][j]
        w = weights[:, column : column + neighbors.shape[1]]
        column += neighbors.shape[1]
        symbol = e3nn.clebsch_gordan(*(irrep.order for irrep in path)) * np.sqrt(2 * path.out.order + 1)
        messages = np.einsum("eua,eb,abo,eu->euo", neighbors, y[path.edge], symbol, w)
        total = np.zeros((len(places), *messages.shape[1:]))
        np.add.at(total, i, messages)
        sums.setdefault(path.out, []).append(total)
    norm = config.mean_neighbors if config.neighbor_norm == "mean" else np.sqrt(config.mean_neighbors)
    f = linear("linear_2", {irrep: np.concatenate(parts, axis=1) / norm for irrep, parts in sums.items()})
    if config.head_biases:
        f[SCALAR] = f[SCALAR] + layer["bias_2"][head][:, None]
    for irrep, chunk in linear("skip", h).items():
        f[irrep] = f.get(irrep, 0) + chunk
    if config.norm:
        s = sum((chunk**2).sum(axis=(1, 2)) / chunk.shape[2] ** 2 for chunk in f.values()) / len(f)
        f = {k: chunk / np.sqrt(s)[:, None, None] * layer["norm"][str(k)][:, None] for k, chunk in f.items()}
    n = outputs[SCALAR]
    gates, new = norms["silu"] * silu(f[SCALAR][:, n:]), {SCALAR: norms["silu"] * silu(f[SCALAR][:, :n])}
    for irrep in outputs:
        if irrep == Irrep(0, -1):
            new[irrep] = norms["tanh"] * np.tanh(f[irrep])
        elif irrep != SCALAR:
            new[irrep], gates = f[irrep] * gates[:, : outputs[irrep]], gates[:, outputs[irrep] :]
    return new


@pytest.fixture(scope="module", params=NETWORKS)
def potential(request) -> Potential:
    return potential_of(NETWORKS[request.param])


def test_energies_are_those_of_the_equations_for_every_periodicity(potential):
    for place, head in enumerate(potential.heads):
        one = potential.of_head(head)
        found = one.predict(crystals(), dtype="float64")
        references = one.reference_energies_by_z
        spread = []
        for atoms, ours in zip(crystals(), found, strict=True):
            expected = 2.0 * energies_by_the_equations(potential, atoms, place) + 0.5 * place
            expected += references[atoms.numbers]
            np.testing.assert_allclose(ours["energies"], expected, atol=1e-9, err_msg=str(atoms.symbols))
            spread += (ours["energies"] - references[atoms.numbers]).tolist()
        assert np.std(spread) > 0.01


def test_forces_and_stress_equal_finite_differences(potential):
    one, crystal, step = potential.of_head(potential.heads[0]), crystals()[0], 1e-4
    rng = np.random.default_rng(0)
    direction, strain = rng.normal(size=(2, 3)), rng.normal(size=(3, 3))
    strain += strain.T

    def changed(size, along_strain):
        other = crystal.copy()
        if along_strain:
            other.set_cell(crystal.cell.array @ (np.eye(3) + size * strain), scale_atoms=True)
        else:
            other.positions += size * direction
        return other

    moves = [changed(size, along) for along in (False, True) for size in (step, -step)]
    here, *others = one.predict([crystal, *moves], dtype="float64")
    forward, backward, stretched, squeezed = (other["energy"] for other in others)
    slope = -np.sum(here["forces"] * direction)
    work = np.sum(tensor_from_voigt(here["stress"]) * strain) * crystal.get_volume()
    assert (forward - backward) / (2 * step) == pytest.approx(slope, rel=1e-4, abs=1e-7)
    assert (stretched - squeezed) / (2 * step) == pytest.approx(work, rel=1e-4, abs=1e-7)


def test_a_rotated_crystal_has_the_same_energies_and_a_mirrored_one_where_parity_is_kept(potential):
    one, crystal = potential.of_head(potential.heads[0]), crystals()[1]
    rotation = Rotation.from_euler("zyx", [0.3, 0.5, 0.7]).as_matrix()
    turned, mirrored = crystal.copy(), crystal.copy()
    turned.set_cell(crystal.cell.array @ rotation.T, scale_atoms=True)
    mirrored.set_cell(crystal.cell.array @ np.diag([1, 1, -1]), scale_atoms=True)
    here, there, opposite = one.predict([crystal, turned, mirrored], dtype="float64")
    np.testing.assert_allclose(there["energies"], here["energies"], atol=1e-9)
    np.testing.assert_allclose(there["forces"], here["forces"] @ rotation.T, atol=1e-9)
    if potential.config.parity:
        np.testing.assert_allclose(opposite["energies"], here["energies"], atol=1e-9)


def test_energies_of_an_edge_that_reaches_the_cutoff_are_smooth():
    r = np.linspace(3.9999, 4.0001, 21)
    with precision_scope("float64"):
        values = np.asarray(xplor_cutoff(jax.numpy.asarray(r), 4.0, 3.0))
        assert float(xplor_cutoff(jax.numpy.asarray(2.99), 4.0, 3.0)) == 1.0
    assert values[r >= 4].max() == 0
    assert 0 < values[0] < 1e-6


def test_the_published_dimensions_have_707_thousand_parameters():
    shapes = jax.eval_shape(lambda: init_parameters(NequIPConfig()))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 707_569


def test_what_a_layer_cannot_make_is_not_among_its_features():
    config = NETWORKS["both parities"]
    made = [{str(irrep) for irrep in config.channels_out(k)} for k in range(4)]
    assert made == [
        {"0e", "1o", "2e"},
        {"0e", "1o", "1e", "2e", "2o"},
        {"0e", "0o", "1o", "1e", "2e", "2o"},
        {"0e"},
    ]


def test_one_head_of_several_is_a_network_by_itself():
    both = potential_of(NETWORKS["heads"])
    first, second = both.of_head("PBE"), both.of_head("r2SCAN")
    assert first.config.heads == ("PBE",)
    assert first.n_parameters < both.n_parameters
    one, other = first.predict([crystals()[0]])[0]["energy"], second.predict([crystals()[0]])[0]["energy"]
    assert abs(one - other) > 1e-3


def test_a_config_survives_json():
    for config in NETWORKS.values():
        assert parse_config(config.model_dump(mode="json")) == config
    assert NequIPConfig(hidden="4x0e+2x1o").hidden == "4x0e + 2x1o"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": "4x0e + 2x1"}, "'2x1' is not like 64x1o"),
        ({"hidden": "4x0e + 0x1o"}, "'0x1o' is not like"),
        ({"hidden": "4x1o"}, "no even scalars"),
        ({"hidden": "4x1o + 2x0e"}, "stands once, by order"),
        ({"hidden": "4x0e + 2x0e"}, "stands once, by order"),
        ({"hidden": "4x0e + 2x1o", "parity": False}, "has odd irreps"),
        ({"hidden": "4x0e + 2x5o", "max_ell": 2, "n_layers": 2}, "5o is made by none of the layers"),
        ({"cutoff_function": "xplor", "cutoff_on": 7.0}, "is not shorter than the cutoff"),
        ({"heads": ("a", "b")}, "head_biases"),
        ({"heads": ("a", "a"), "head_biases": True}, "different names"),
        ({"elements": (3, 1)}, "ascending order"),
        ({"channels": 3}, "Extra inputs"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        NequIPConfig(**changes)


def test_irreps_are_read_in_their_order():
    assert [str(irrep) for irrep in parse_irreps("8x0e + 8x0o + 4x1o + 4x1e")] == ["0e", "0o", "1o", "1e"]
