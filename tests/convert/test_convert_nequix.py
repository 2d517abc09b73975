"""Nequix's published checkpoints give the numbers of its own code; damaged and foreign ones are refused in a line."""

import io
import json

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from ase.io import read as read_structures

from mlip.convert import convert, export
from mlip.convert.nequix import leaves
from mlip.errors import MlipError
from mlip.models.nequip import NequIPConfig, edges_of
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.pretrained import find
from mlip.runtime import precision_scope
from mlip.units import tensor_from_voigt

MODELS = ("nequix-oam-1", "nequix-mp-1", "nequix-oam-1-pft")
SMALL = NequIPConfig(elements=(1, 8, 14), hidden="6x0e + 4x1o", max_ell=2, n_layers=2, cutoff=4.0, radial_hidden=(8, 8))


@pytest.fixture(scope="module")
def structures(shared) -> dict:
    found = read_structures(shared / "goldens/m3gnet/structures.extxyz", ":")
    return {atoms.info["name"]: atoms for atoms in found}


@pytest.fixture(scope="module", params=MODELS)
def published(request, shared) -> tuple[str, Potential]:
    return request.param, convert(shared / f"goldens/nequix/{request.param}.nqx")


def golden(shared, name: str) -> dict:
    with np.load(shared / f"goldens/nequix/{name}.npz") as archive:
        return dict(archive)


def test_energies_forces_and_stresses_are_those_of_its_own_code_in_float64(published, shared, structures):
    name, potential = published
    expected = golden(shared, f"{name}_pub_float64")
    names = [key.removesuffix("/energy") for key in expected if key.endswith("/energy")]
    assert len(names) == 34
    found = potential.predict([structures[one] for one in names], dtype="float64")
    for one, ours in zip(names, found, strict=True):
        assert abs(ours["energy"] - expected[f"{one}/energy"]) / len(structures[one]) < 1e-8, one
        np.testing.assert_allclose(ours["forces"], expected[f"{one}/forces"], atol=1e-7, err_msg=one)
        if np.isfinite(ours["stress"]).all():  # theirs of a molecule is zero
            stress = tensor_from_voigt(ours["stress"])
            np.testing.assert_allclose(stress, expected[f"{one}/stress"], atol=1e-8, err_msg=one)


def test_in_float32_what_rounding_leaves_is_as_small_as_in_its_own_code(shared, structures):
    potential = convert(shared / "goldens/nequix/nequix-oam-1.nqx")
    exact, rounded = golden(shared, "nequix-oam-1_pub_float64"), golden(shared, "nequix-oam-1_pub_float32")
    names = [key.removesuffix("/energy") for key in exact if key.endswith("/energy")]
    ours, theirs = [], []
    for one, found in zip(names, potential.predict([structures[one] for one in names]), strict=True):
        n = len(structures[one])
        ours.append(abs(found["energy"] - exact[f"{one}/energy"]) / n)
        theirs.append(abs(rounded[f"{one}/energy"] - exact[f"{one}/energy"]) / n)
        np.testing.assert_allclose(found["forces"], exact[f"{one}/forces"], atol=2e-4, err_msg=one)
    assert max(ours) < max(1e-5, 2 * max(theirs))


@pytest.mark.parametrize("structure", ["hand_CsCl_2atom_skewed", "hand_MoS2_mono_vac15"])
def test_every_layer_gives_what_its_own_code_gives(published, shared, structures, structure):
    name, potential = published
    expected = golden(shared, f"{name}_intermediates_float64")
    of = {key.removeprefix(f"{structure}/"): value for key, value in expected.items() if key.startswith(structure)}
    order = np.argsort(of["receivers"], kind="stable")
    numbers = structures[structure].numbers
    with precision_scope("float64"):
        graph = jraph.GraphsTuple(
            nodes={"species": jnp.asarray(numbers)},
            edges={"vectors": jnp.asarray(of["vectors"][order])},
            senders=jnp.asarray(of["senders"][order]),
            receivers=jnp.asarray(of["receivers"][order]),
            globals={},
            n_node=np.array([len(numbers)]),
            n_edge=np.array([len(order)]),
        )
        edges = jax.jit(lambda graph: edges_of(potential.config, graph))(graph)
        is_edge = np.linalg.norm(edges.blocks.vectors, axis=1) < potential.cutoff
        np.testing.assert_allclose(np.asarray(edges.radial)[is_edge], of["radial_basis"][order], atol=1e-12)
        np.testing.assert_allclose(np.asarray(edges.harmonics)[is_edge], of["spherical_harmonics"][order], atol=1e-12)

        def layers(params, graph):
            return potential.model.apply(
                {"params": params}, graph, capture_intermediates=lambda module, _: type(module).__name__ == "Layer"
            )

        energies, state = jax.jit(layers)(potential.cast("float64"), graph)
        for layer in range(potential.config.n_layers):
            features = state["intermediates"][f"layer_{layer}"]["__call__"][0]
            rows = [np.asarray(chunk).swapaxes(1, 2).reshape(len(numbers), -1) for chunk in features.values()]
            np.testing.assert_allclose(np.concatenate(rows, axis=1), of[f"layer{layer}_features"], atol=1e-10)
        np.testing.assert_allclose(np.asarray(energies), of["readout"][:, 0], atol=1e-10)


def test_records_are_those_that_its_own_code_lists(shared):
    listed = json.loads((shared / "goldens/nequix/nequix-oam-1_leaves.json").read_text())
    assert [leaf.shape for leaf in leaves(NequIPConfig())] == [tuple(shape) for _, shape, _ in listed]


def test_the_entry_tells_of_the_published_potential_what_it_is(published):
    name, potential = published
    entry = find(name)
    assert entry.converter == "nequix"
    assert len(potential.elements) == entry.elements == 89


def test_written_back_it_has_the_same_records(published, shared, tmp_path):
    name, potential = published
    out = export(potential, "nequix", tmp_path / "again.nqx")
    theirs = _records((shared / f"goldens/nequix/{name}.nqx").read_bytes(), len(leaves(potential.config)))
    ours = _records(out.read_bytes(), len(leaves(potential.config)))
    for one, other in zip(theirs, ours, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert convert(out).fingerprint == potential.fingerprint


def _records(content: bytes, n: int) -> list[np.ndarray]:
    stream = io.BytesIO(content)
    stream.readline()
    return [np.load(stream, allow_pickle=False) for _ in range(n)]


@pytest.fixture
def small() -> Potential:
    energies = {"H": -1.0, "O": -2.0, "Si": -3.0}
    return Potential(
        SMALL, init_parameters(SMALL), PotentialMetadata(reference_energies=energies, scale=0.8, shift=0.1)
    )


@pytest.fixture
def content(small, tmp_path) -> bytes:
    return export(small, "nequix", tmp_path / "small.nqx").read_bytes()


def refusal(path) -> str:
    with pytest.raises(MlipError) as caught:
        convert(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_any_network_of_its_kind_goes_there_and_back(small, content, tmp_path):
    again = convert(tmp_path / "small.nqx", functional="PBE")
    assert again.config == SMALL
    assert (again.metadata.scale, again.metadata.shift, again.functional) == (0.8, 0.1, "PBE")
    for one, other in zip(jax.tree.leaves(small.params), jax.tree.leaves(again.params), strict=True):
        np.testing.assert_array_equal(one, other)
    by_element = SMALL.model_copy(update={"skip": "element", "norm": False})
    potential = Potential(by_element, init_parameters(by_element), small.metadata)
    assert convert(export(potential, "nequix", tmp_path / "other.nqx")).config == by_element


def test_it_is_known_by_its_first_line_whatever_it_is_called(content, tmp_path):
    path = tmp_path / "renamed.bin"
    path.write_bytes(content)
    assert convert(path).config == SMALL


@pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.999])
def test_a_truncated_file_is_refused(content, tmp_path, share):
    path = tmp_path / "cut.nqx"
    path.write_bytes(content[: int(share * len(content))])
    assert "the file ends" in refusal(path) or "first line is not a JSON object" in refusal(path)


def test_files_that_are_something_else_are_refused(tmp_path):
    path = tmp_path / "other.nqx"
    for other in (b"", b"PK\x03\x04 and more", b"[1, 2]\n", b"\xff\xfe\x00" * 50):
        path.write_bytes(other)
        assert "is no checkpoint of Nequix: its first line is not a JSON object" in refusal(path)


def changed(content: bytes, **values) -> bytes:
    line, rest = content.split(b"\n", 1)
    config = json.loads(line) | values
    return json.dumps({key: value for key, value in config.items() if value is not None}).encode() + b"\n" + rest


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lmax": None}, "lmax is missing"),
        ({"lmax": "two"}, "lmax = 'two' in the config is of the wrong type"),
        ({"n_layers": True}, "n_layers = 'True' in the config is of the wrong type"),
        ({"scale": float("nan")}, "scale = nan"),
        ({"hidden_irreps": "6x0e + 4x7y"}, "'4x7y' is not like 64x1o"),
        ({"hidden_irreps": "6x0e + 4x1e"}, "1e is made by none|hidden_irreps with 1e are not implemented"),
        ({"hidden_irreps": "6x0e + 5x1o"}, r"linear_2 0e has the shape \(3, 10\), and by the config \(3, 11\)"),
        ({"radial_polynomial_p": 5.5}, "only whole numbers"),
        ({"radial_mlp_layers": 0}, "radial_mlp_layers = 0 is not implemented"),
        ({"add_repulsion": True}, "add_repulsion = True is not implemented"),
        ({"atomic_numbers": [1, 8, 999]}, "are no elements"),
        ({"atomic_numbers": [1, 8]}, r"atom_energies has the shape \(3,\), and by the config \(2,\)"),
        ({"n_layers": 1}, "has the shape|has more records than its config asks for"),
        ({"index_weights": True}, "skip"),
        ({"layer_norm": False}, "has the shape"),
    ],
)
def test_a_config_that_the_records_do_not_fit_is_refused(content, tmp_path, values, message):
    path = tmp_path / "odd.nqx"
    path.write_bytes(changed(content, **values))
    with pytest.raises(MlipError, match=message):
        convert(path)


def with_record(content: bytes, place: int, array: np.ndarray, **options) -> bytes:
    line, _ = content.split(b"\n", 1)
    records = _records(content, len(leaves(SMALL)))
    records[place] = array
    stream = io.BytesIO()
    for record in records:
        np.save(stream, record, **options)
    return line + b"\n" + stream.getvalue()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([None, 1, "a"], object), "atom_energies is an array of object"),
        (np.array([1, 2, 3]), "is an array of int64, not of float32"),
        (np.zeros((3, 1), np.float32), r"has the shape \(3, 1\)"),
        (np.array([1, np.inf, 2], np.float32), "not finite"),
    ],
)
def test_a_foreign_record_is_refused_and_never_unpickled(content, tmp_path, array, message):
    path = tmp_path / "odd.nqx"
    path.write_bytes(with_record(content, 0, array, allow_pickle=True))
    assert "atom_energies" in refusal(path)
    with pytest.raises(MlipError, match=message):
        convert(path)


def test_a_record_that_claims_to_be_huge_is_refused_before_memory_is_taken(content, tmp_path):
    line, rest = content.split(b"\n", 1)
    path = tmp_path / "huge.nqx"
    path.write_bytes(line + b"\n" + rest.replace(b"(3,)", b"(9999999999999,)", 1).replace(b" " * 12, b"", 1))
    assert "atom_energies has the shape (9999999999999,), and by the config (3,)" in refusal(path)


def test_more_records_than_the_config_asks_for_are_refused(content, tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.zeros(3, np.float32))
    path = tmp_path / "longer.nqx"
    path.write_bytes(content + stream.getvalue())
    assert "has more records than its config asks for" in refusal(path)
    path.write_bytes(content + b"\n")  # as nequix-mp-1 ends
    assert convert(path).config == SMALL


def test_an_element_that_it_lacks_is_named(small):
    from ase.build import bulk

    with pytest.raises(MlipError, match="does not know Cu"):
        small.predict([bulk("Cu")])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding": 4}, "no network with embedding = 4"),
        ({"hidden": "6x0e + 4x1o + 4x1e"}, "no network with the irreps"),
        ({"radial_hidden": (8, 4)}, "no network with radial_hidden"),
        ({"cutoff_function": "xplor", "cutoff_on": 3.0}, "no network with cutoff_function = 'xplor'"),
        ({"heads": ("a",), "head_biases": True}, "biases of heads"),
    ],
)
def test_a_network_that_nequix_has_not_is_not_written(small, tmp_path, changes, message):
    config = NequIPConfig(**(SMALL.model_dump() | changes))
    potential = Potential(config, init_parameters(config), small.metadata)
    with pytest.raises(MlipError, match=message):
        export(potential, "nequix", tmp_path / "out.nqx")
    assert not (tmp_path / "out.nqx").exists()


def test_nothing_is_overwritten_unasked(small, content, tmp_path):
    with pytest.raises(MlipError, match="exists"):
        export(small, "nequix", tmp_path / "small.nqx")
    assert export(small, "nequix", tmp_path / "small.nqx", force=True).is_file()
