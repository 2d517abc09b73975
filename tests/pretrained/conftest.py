"""A cache of the test's own, a server that is its mirror, and a registry of the test's entries alone."""

import threading

import pytest

from mlip.data import download
from mlip.pretrained import registry
from mlip.pretrained.entry import PretrainedEntry
from tests.bundled_potential import NAME, write_registry
from tests.weights_server import WeightsServer


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of this test's cache; the network is this machine alone."""
    monkeypatch.setenv("MLIP_CACHE", str(tmp_path / "cache"))
    for name in ("MLIP_MIRROR", "MLIP_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def server(cache, monkeypatch):
    """Named by $MLIP_MIRROR."""
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.001)
    server = WeightsServer()
    monkeypatch.setenv("MLIP_MIRROR", server.url)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def register(monkeypatch):
    """Makes entries the only ones that are known."""

    def make_known(*entries: PretrainedEntry) -> None:
        monkeypatch.setattr(registry, "_entries", lambda: list(entries))
        _forget()

    yield make_known
    monkeypatch.undo()
    _forget()


@pytest.fixture
def bundled(cache, tmp_path, monkeypatch):
    """File of the weights of the one potential that is known, which is the default and comes with mlip; offline."""
    monkeypatch.setattr(registry, "_FOLDER", tmp_path / "registry")
    monkeypatch.setattr(registry, "DEFAULT", NAME)
    monkeypatch.setenv("MLIP_OFFLINE", "1")
    _forget()
    yield write_registry(tmp_path / "registry")
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    for function in (registry.known, registry._names, registry.entry_of_digest):
        function.cache_clear()
