"""ALEXANDRIA over OPTIMADE, from a real OPTIMADE server on this machine."""

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest

from mlip.data import Store
from mlip.data.build import BuildSettings, build
from mlip.data.readers import optimade
from mlip.data.readers.optimade import fetch_pages, query_of
from mlip.data.readers.sources import read_source
from mlip.errors import MlipError


@pytest.fixture(scope="module")
def fixture(shared) -> Path:
    return shared / "data" / "alexandria" / "fixture_optimade_structures_page.json.gz"


@pytest.fixture(scope="module")
def expected(fixture) -> dict[str, dict]:
    """Attributes by id."""
    with gzip.open(fixture) as stream:
        return {one["id"]: one["attributes"] for one in json.load(stream)["data"]}


@pytest.fixture(scope="module")
def server(fixture):
    """The address of a server that gives six structures a page."""
    pytest.importorskip("optimade.client")
    pytest.importorskip("mongomock")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = Path(__file__).with_name("optimade_server.py")
    command = [sys.executable, str(script), str(fixture), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            while (line := process.stdout.readline()) != "ready\n":
                assert line, "the OPTIMADE server did not start"
            wait_for(port)
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the OPTIMADE server does not answer")


class Relay(ThreadingHTTPServer):
    """Between client and server: hands requests on, but does `faults` to them first, by their number."""

    daemon_threads = True

    def __init__(self, server: str):
        super().__init__(("127.0.0.1", 0), RelayHandler)
        self.server_address_behind, self.address = server, f"127.0.0.1:{self.server_port}"
        self.faults: dict[int, int] = {}
        self.requests: list[str] = []


class RelayHandler(BaseHTTPRequestHandler):
    server: Relay

    def do_GET(self):
        relay = self.server
        relay.requests.append(self.path)
        if fault := relay.faults.get(len(relay.requests)):
            return self.answer(fault, b"{}")
        try:
            with urlopen(f"http://{relay.server_address_behind}{self.path}") as response:
                body = response.read().replace(relay.server_address_behind.encode(), relay.address.encode())
        except HTTPError as error:
            return self.answer(error.code, error.read())
        return self.answer(200, body)

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def relay(server, monkeypatch):
    monkeypatch.setattr(optimade, "_BACKOFF", 0.001)
    relay = Relay(server)
    thread = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield relay
    relay.shutdown()
    relay.server_close()
    thread.join()


def test_every_structure_of_all_pages_is_in_the_store(server, expected, tmp_path):
    build([f"optimade+http://{server}?page_limit=6"], tmp_path / "store.h5")
    with Store(tmp_path / "store.h5") as store:
        materials = list(store.materials())
        assert {m.id for m in materials} == set(expected)
        assert len(materials) == len(expected) == 20
        for m in materials:
            wanted, frame = expected[m.id], store.frame(m.frames[0])
            assert m.functional == wanted["_alexandria_xc_functional"]
            assert frame.energy == wanted["_alexandria_energy"]
            assert np.allclose(frame.forces, wanted["_alexandria_forces"], atol=1e-6)
            assert np.allclose(frame.positions, wanted["cartesian_site_positions"])
            assert m.properties["e_above_hull"] == wanted["_alexandria_hull_distance"]
            assert m.properties["spg"] == wanted["_alexandria_space_group"]
        assert store.metadata["kind"] == "bulk entries"
        assert len(store.metadata["sources"]) == 4  # pages
    assert {p.name for p in tmp_path.iterdir()} <= {"store.h5", "store.h5.findings.jsonl"}


def test_a_filter_is_the_servers_work(server, expected, tmp_path):
    build([f'optimade+http://{server}?filter=nsites=3 AND elements HAS "Ac"'], tmp_path / "store.h5")
    wanted = {id for id, one in expected.items() if one["nsites"] == 3 and "Ac" in one["elements"]}
    assert 0 < len(wanted) < len(expected)
    with Store(tmp_path / "store.h5") as store:
        assert {m.id for m in store.materials()} == wanted


def test_a_server_that_fails_now_and_then_is_asked_again(relay, expected, tmp_path):
    relay.faults = {2: 500, 3: 429, 5: 503}
    build([f"optimade+http://{relay.address}?page_limit=6"], tmp_path / "store.h5")
    with Store(tmp_path / "store.h5") as store:
        assert sorted(m.id for m in store.materials()) == sorted(expected)
    assert len(relay.requests) == 4 + 3


def test_an_interrupted_query_goes_on_at_its_page(relay, expected, tmp_path):
    source = f"optimade+http://{relay.address}?page_limit=6"
    relay.faults = dict.fromkeys(range(3, 30), 500)
    with pytest.raises(MlipError, match=r"no answer.*repeat the command"):
        build([source], tmp_path / "store.h5")
    assert not (tmp_path / "store.h5").exists()
    relay.faults = {}
    n_before = len(relay.requests)
    build([source], tmp_path / "store.h5")
    assert len(relay.requests) - n_before == 2  # of four pages
    with Store(tmp_path / "store.h5") as store:
        assert sorted(m.id for m in store.materials()) == sorted(expected)


def test_a_filter_that_is_none_is_refused_with_the_parsers_words(server, tmp_path):
    with pytest.raises(MlipError, match="no answer") as error:
        fetch_pages(query_of(f"optimade+http://{server}?filter=elements HAVE Al"), tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "base", "filter_"),
    [
        ("optimade://pbe", "https://alexandria.icams.rub.de/pbe", ""),
        ("optimade://pbesol?filter=nelements=2", "https://alexandria.icams.rub.de/pbesol", "nelements=2"),
        (
            'optimade://pbe?filter=elements HAS ALL "Al","Co"',
            "https://alexandria.icams.rub.de/pbe",
            'elements HAS ALL "Al","Co"',
        ),
        ("optimade+https://example.org/db/", "https://example.org/db", ""),
    ],
)
def test_a_source_names_server_and_filter(source, base, filter_):
    query = query_of(source)
    assert (query.base_url, query.filter) == (base, filter_)


@pytest.mark.parametrize("source", ["optimade://", "optimade://pbe?filters=x", "optimade://pbe?page_limit=many"])
def test_a_source_that_asks_nothing_is_one_line(source):
    with pytest.raises(MlipError, match="optimade://pbe"):
        query_of(source)


def test_without_the_client_the_way_to_get_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optimade.client", None)
    with pytest.raises(MlipError, match=r"pip install 'alexandria-mlip\[optimade\]'"):
        build(["optimade://pbe"], tmp_path / "store.h5", BuildSettings())


def test_faults_of_structures_are_skipped_by_id(fixture, tmp_path):
    with gzip.open(fixture) as stream:
        good, *others = json.load(stream)["data"][:6]
    changes = {
        "no energy": {"_alexandria_energy": None},
        "bad coordinates": {"lattice_vectors": [[1.0, 0.0, 0.0]]},
        "disordered site": {"species": [{"name": "Ac", "chemical_symbols": ["Ac", "Al"], "concentration": [0.5, 0.5]}]},
        "unknown element": {"species_at_sites": ["X"]},
    }
    for one, (reason, change) in zip(others, changes.items(), strict=False):
        one["id"], one["attributes"] = reason, one["attributes"] | change
    page = tmp_path / f"page{optimade.PAGE_SUFFIX}"
    page.write_text(json.dumps({"data": [*others[:4], good], "next": None}))
    *skipped, entry = read_source(page)
    assert [one.reason for one in skipped] == list(changes)
    assert all(one.material_id == one.reason for one in skipped)
    assert entry.material_id == good["id"]
