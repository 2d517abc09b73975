"""What users give as a potential: files, names, checkpoints, addresses; and that every door takes a name."""

import shutil
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import mlip
from mlip.convert import convert
from mlip.errors import MlipError
from mlip.pretrained import find, resolve, resolving
from mlip.pretrained.obtaining import converted_file
from tests.weights_server import digest_of, entry_of

PICKLE = b"PK\x03\x04 mace.modules"


@pytest.fixture
def conversions(monkeypatch):
    """Sources and options of what would be converted."""
    from mlip.pretrained import obtaining

    done = []

    def pretend(source: Path, out: Path, options: list[str], where: str) -> None:
        done.append((source, options))
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(b"converted")

    monkeypatch.setattr(obtaining, "convert", pretend)
    monkeypatch.setattr(resolving, "convert", pretend)
    return done


def test_a_file_of_ours_is_itself_whatever_it_is_called(cache, tmp_path):
    for name in ("mine.safetensors", "m3gnet", "mine.model", "mine.pt"):
        path = tmp_path / name
        path.write_bytes((16).to_bytes(8, "little") + b'{"a": 1}        ')
        assert resolve(path) == resolve(str(path)) == path


def test_a_name_in_the_cache_is_its_file(cache):
    path = converted_file(find("m3gnet"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"converted")
    assert resolve("m3gnet") == resolve(Path("M3GNet-MP-2021.2.8")) == path


def test_an_unrelated_folder_of_a_potentials_name_does_not_hide_it(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m3gnet").mkdir()
    test_a_name_in_the_cache_is_its_file(cache)


@pytest.mark.parametrize("given", ["m3gent", "mace-omat", "some_potential"])
def test_what_is_neither_a_file_nor_a_name_is_one_line(cache, given):
    with pytest.raises(MlipError, match=f"{given}: no such potential: neither a file nor a name .*`mlip models`"):
        resolve(given)


def test_a_wrong_name_lists_near_ones(cache):
    with pytest.raises(MlipError, match=r"did you mean m3gnet or"):
        mlip.load("m3gent")


@pytest.mark.parametrize("given", ["absent.safetensors", "runs/absent", "store.h5", "./m3gnet"])
def test_what_looks_like_a_path_is_left_to_whoever_reads_it(cache, given):
    assert resolve(given) == Path(given)
    with pytest.raises(MlipError, match="no such potential"):
        mlip.load(given)


def test_a_pickle_of_unknown_origin_says_the_command(cache, tmp_path, conversions):
    path = tmp_path / "their.model"
    path.write_bytes(PICKLE)
    with pytest.raises(MlipError, match=rf"mlip convert {path} their.safetensors --trust-pickle, if you trust"):
        resolve(path)
    assert conversions == []


def test_a_pickle_whose_checksum_is_pinned_is_converted_once_whatever_it_is_called(
    cache, tmp_path, register, conversions, capsys
):
    entry = entry_of({"tiny.model": PICKLE})
    register(entry.model_copy(update={"source": entry.source.model_copy(update={"is_pickle": True})}))
    path = tmp_path / "20231203mace128L1_epoch199model"  # as mace-torch's cache calls it
    path.write_bytes(PICKLE)
    first = resolve(path)
    assert first == resolve(path) == resolve("tiny")
    assert conversions == [(path, ["--trust-pickle"])]
    assert "MIT" in capsys.readouterr().err


def test_a_published_file_of_a_network_that_is_not_implemented_says_so(cache, tmp_path, register):
    path = tmp_path / "tiny.pth"
    path.write_bytes(PICKLE)
    register(entry_of({"tiny.pth": PICKLE}, converter=None))
    with pytest.raises(MlipError, match="tiny: is known by name, and not readable yet"):
        resolve(path)


def test_a_published_file_of_nequix_is_a_potential(cache, shared, conversions):
    path = shared / "goldens/nequix/nequix-mp-1.nqx"
    assert resolve(path).name == "nequix-mp-1.safetensors"
    assert conversions == [(path, ["--functional", "PBE"])]


def test_a_published_folder_that_is_safe_to_read_is_converted_once(cache, tmp_path, conversions, capsys):
    for folder, names in (
        ("tf", ("m3gnet.index", "m3gnet.json", "m3gnet.data-00000-of-00001")),
        ("matgl", ("model.json", "state.pt", "model.pt")),
    ):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(name.encode())
        first = resolve(tmp_path / folder)
        assert first == resolve(str(tmp_path / folder))
        assert capsys.readouterr().err.count("converted once") == 1
        assert conversions == [(tmp_path / folder, [])]
        conversions.clear()


def test_a_folder_whose_content_changed_is_another_potential(cache, tmp_path, conversions):
    for name in ("model.json", "state.pt"):
        (tmp_path / name).write_bytes(b"one")
    first = resolve(tmp_path)
    (tmp_path / "state.pt").write_bytes(b"two")
    assert resolve(tmp_path) != first


@pytest.mark.parametrize("make", [str, Path])
def test_an_address_that_is_registered_is_the_potential_of_that_name(cache, conversions, make):
    path = converted_file(find("mace-mpa-0-medium"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"converted")
    assert resolve(make(find("mace-mpa-0-medium").source.files[0].urls[0])) == path


@pytest.mark.parametrize("url", ["https://a.b/their.model", "http://a.b/c", "ftp://a.b/c", "file:///etc/passwd"])
def test_any_other_address_says_what_to_do(cache, url):
    with pytest.raises(MlipError, match=r"is a URL, not a file \(fetch it: curl"):
        resolve(url)


def serve_goldens(server, shared) -> None:
    for file in find("m3gnet").source.files:
        server.files[f"/{file.sha256}"] = (shared / "goldens/m3gnet/checkpoint" / file.name).read_bytes()


def test_the_published_m3gnet_by_name_is_the_converted_one_and_the_second_time_needs_no_network(
    server, shared, capsys, monkeypatch
):
    serve_goldens(server, shared)
    start = time.perf_counter()
    potential = mlip.load("m3gnet")
    first = time.perf_counter() - start
    assert len(server.requests) == 3
    assert "BSD-3-Clause" in capsys.readouterr().err
    expected = convert(shared / "goldens/m3gnet/checkpoint")
    assert potential.metadata == expected.metadata
    jax.tree.map(np.testing.assert_array_equal, potential.params, expected.params)
    server.requests.clear()
    monkeypatch.setenv("MLIP_OFFLINE", "1")
    start = time.perf_counter()
    again = mlip.load("M3GNet")
    assert time.perf_counter() - start < first
    assert server.requests == []
    assert again.metadata == potential.metadata
    calculator = mlip.MLIPCalculator("m3gnet")
    assert calculator.potential.metadata == potential.metadata


def test_a_truncated_mirror_never_becomes_a_potential(server, shared, monkeypatch):
    serve_goldens(server, shared)
    data = find("m3gnet").source.files[1]
    server.files[f"/{data.sha256}"] = server.files[f"/{data.sha256}"][:-1]
    monkeypatch.setattr(resolving, "obtain", _without_publishers(resolving.obtain, monkeypatch))
    with pytest.raises(MlipError, match="it has 927,817 bytes, and 927,818 were published"):
        mlip.load("m3gnet")


def _without_publishers(obtain, monkeypatch):
    from mlip.pretrained import obtaining

    def check(url):
        if "127.0.0.1" not in url:
            raise MlipError("not asked in tests", where=url)

    monkeypatch.setattr(obtaining, "check_address", check)
    return obtain


def test_a_folder_of_the_published_m3gnet_is_loaded_as_it_is(cache, shared, tmp_path):
    shutil.copytree(shared / "goldens/m3gnet/checkpoint", tmp_path / "MP-2021.2.8-EFS")
    assert (
        mlip.load(tmp_path / "MP-2021.2.8-EFS").metadata.provenance["sha256"] == find("m3gnet").source.files[1].sha256
    )


def test_digests_are_of_the_whole_file(tmp_path):
    (tmp_path / "a").write_bytes(PICKLE)
    assert resolving._digest(tmp_path / "a") == digest_of(PICKLE)
