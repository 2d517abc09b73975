"""Data sets over HTTP from a server on this machine that does what servers do: break off, lie, and have enough."""

import hashlib
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlip.cli.data import app
from mlip.data import download
from mlip.data.fetch import fetch
from mlip.data.manifest import Manifest, RemoteFile, manifest_files, manifest_named, read_manifest
from mlip.errors import MlipError
from tests.conftest import REPOSITORY

CONTENT = bytes(range(256)) * 40
NAME = "pbe_0000.json.bz2"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT under every name; `faults` are done to one request after the other, and then no more."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.content, self.etag = CONTENT, '"one"'
        self.faults: list = []
        self.requests: list[tuple[str, str | None]] = []
        self.knows_ranges = True
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        with server.lock:
            server.requests.append((self.path, wanted))
            fault = server.faults.pop(0) if server.faults else None
        if not (fault and fault(self)):
            self.serve(wanted)

    def serve(self, wanted):
        server = self.server
        if self.path == "/folder/":
            return self.answer(
                200, b'<a href="../">up</a> <a href="pbe_0001.json.bz2">x</a> <a href="/etc/passwd">y</a>'
            )
        start = 0
        if wanted and server.knows_ranges and self.headers.get("If-Range") == server.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(server.content):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(server.content)}"})
        body = server.content[start:]
        span = {"Content-Range": f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"} if start else {}
        return self.answer(206 if start else 200, body, span)

    def answer(self, status, body, headers=(), length=None):
        self.send_response(status)
        for name, value in {"ETag": self.server.etag, **dict(headers)}.items():
            if value is not None:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True
        return True

    def log_message(self, *_):
        pass


def status(code, **headers):
    return lambda handler: handler.answer(
        code, b"no", {name.replace("_", "-"): value for name, value in headers.items()}
    )


def cut_after(n):
    """The whole length is announced, and the connection ends after n bytes (from where the range begins)."""

    def fault(handler):
        wanted = handler.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and handler.server.knows_ranges else 0
        rest = handler.server.content[start:]
        span = {"Content-Range": f"bytes {start}-{len(handler.server.content) - 1}/{len(handler.server.content)}"}
        return handler.answer(206 if start else 200, rest[:n], span if start else {}, length=len(rest))

    return fault


def wrong_byte(handler):
    return handler.answer(200, b"\xff" + handler.server.content[1:])


def redirect(handler):
    return handler.answer(302, b"", {"Location": f"/elsewhere{handler.path}"})


def hang_up(handler):
    handler.connection.close()
    return True


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.001)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def manifest_of(server, **fields) -> Manifest:
    about = {"title": "t", "functional": "PBE", "dimensionality": 3, "license": "l", "citation": "c", "homepage": "h"}
    values = {"name": "n", "content": "relaxation paths", "url": server.url, "folder": "pbe"}
    return Manifest(**about | values | (fields or {"files": [RemoteFile(name=NAME, sha256=SHA256)]}))


def fetched(out) -> bytes:
    return (out / "pbe" / NAME).read_bytes()


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ([], [None]),
        ([cut_after(3000)], [None, "bytes=3000-"]),
        ([cut_after(3000), cut_after(10), cut_after(0)], [None, "bytes=3000-", "bytes=3010-", "bytes=3010-"]),
        ([status(500), status(503), status(429, Retry_After="0")], [None] * 4),
        ([cut_after(100), status(429), hang_up], [None, *["bytes=100-"] * 3]),
        ([redirect], [None, None]),
        ([cut_after(100), redirect], [None, "bytes=100-", "bytes=100-"]),
        ([wrong_byte], [None, None]),
    ],
    ids=["well", "cut", "cut often", "busy", "cut and busy", "redirected", "cut and redirected", "a wrong byte"],
)
def test_what_ends_well_is_the_published_file(server, tmp_path, faults, ranges):
    server.faults = faults
    result = fetch(manifest_of(server), tmp_path)
    assert fetched(tmp_path) == CONTENT
    assert result.new == [NAME]
    assert [wanted for _, wanted in server.requests] == ranges
    assert {p.name for p in (tmp_path / "pbe").iterdir()} == {NAME, "SHA256SUMS"}
    assert (tmp_path / "pbe" / "SHA256SUMS").read_text() == f"{SHA256}  {NAME}\n"


def test_a_server_that_knows_no_ranges_sends_it_from_the_begin(server, tmp_path):
    server.knows_ranges = False
    server.faults = [cut_after(3000)]
    fetch(manifest_of(server), tmp_path)
    assert fetched(tmp_path) == CONTENT


@pytest.mark.parametrize("etag", ['"two"', None])
def test_a_file_that_changed_between_two_attempts_is_not_patched_together(server, tmp_path, etag):
    def change(handler):
        handler.server.content, handler.server.etag = CONTENT[::-1], etag
        return False

    server.faults = [cut_after(3000), change]
    fetch(manifest_of(server, files=[RemoteFile(name=NAME)]), tmp_path)
    assert fetched(tmp_path) == CONTENT[::-1]


@pytest.mark.parametrize(
    ("expected", "faults", "message"),
    [
        ({"sha256": SHA256}, [wrong_byte] * 2, f"its sha256 is [0-9a-f]*, and {SHA256} was published"),
        ({"md5": "0" * 32}, [], "its md5 is"),
        ({"bytes": 10}, [], "it has 10,240 bytes, and 10 were published"),
        ({}, [status(404)], "HTTP 404"),
        ({}, [status(500)] * 9, r"HTTP 500 .*6 times in a row.* it goes on here"),
        ({}, [lambda h: h.answer(200, CONTENT, {"ETag": None}, length=99_999)] * 9, "announced 99,999 bytes.* 10,240"),
    ],
    ids=["wrong twice", "md5", "size", "absent", "down", "a lie about the length"],
)
def test_what_is_not_the_published_file_never_gets_its_name(server, tmp_path, expected, faults, message):
    server.faults = faults
    with pytest.raises(MlipError, match=message):
        fetch(manifest_of(server, files=[RemoteFile(name=NAME, **expected)]), tmp_path)
    assert not (tmp_path / "pbe" / NAME).exists()


def test_an_interrupted_fetch_goes_on_in_the_next_process(server, tmp_path):
    server.faults = [cut_after(5000), *[status(503)] * 6]
    with pytest.raises(MlipError, match="503"):
        fetch(manifest_of(server), tmp_path)
    server.requests.clear()
    fetch(manifest_of(server), tmp_path)
    assert server.requests == [(f"/{NAME}", "bytes=5000-")]
    assert fetched(tmp_path) == CONTENT


def test_what_is_here_is_neither_fetched_nor_written_over(server, tmp_path):
    for _ in range(2):
        fetch(manifest_of(server), tmp_path)
    assert len(server.requests) == 1
    (tmp_path / "pbe" / NAME).write_bytes(b"mine")
    with pytest.raises(MlipError, match="nothing is overwritten"):
        fetch(manifest_of(server), tmp_path, check=True)
    (tmp_path / "pbe" / "SHA256SUMS").unlink()
    with pytest.raises(MlipError, match="nothing is overwritten"):  # of unknown origin: it is compared at once
        fetch(manifest_of(server), tmp_path)
    assert fetched(tmp_path) == b"mine"
    assert len(server.requests) == 1


def test_one_file_that_fails_does_not_stop_the_others(server, tmp_path):
    numbered = {"numbered": [{"pattern": "pbe_{i:04d}.json.bz2", "count": 5}]}
    server.faults = [status(404)]
    with pytest.raises(MlipError, match="404"):
        fetch(manifest_of(server, **numbered), tmp_path, n_parallel=3)
    again = fetch(manifest_of(server, **numbered), tmp_path, n_parallel=3)
    assert (len(again.new), len(again.there_already)) == (1, 4)
    assert max(Counter(path for path, _ in server.requests).values()) == 2


def test_files_of_a_listing_are_found_by_their_names(server, tmp_path):
    listed = {"url": f"{server.url}folder/", "listed": [r".+\.json\.bz2", "passwd"]}
    assert fetch(manifest_of(server, **listed), tmp_path).new == ["pbe_0001.json.bz2"]
    with pytest.raises(MlipError, match="lists no file like"):
        fetch(manifest_of(server, **listed | {"listed": ["x"]}), tmp_path)


def test_the_command_fetches_by_a_manifest_of_ones_own(server, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(manifest_of(server).model_dump(mode="json")))
    result = CliRunner().invoke(app, ["fetch", str(path), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "1 files fetched, 0 were there already" in result.output
    assert "License: l. Cite: c" in result.output
    result = CliRunner().invoke(app, ["fetch", str(path), "--out", str(tmp_path), "--json"])
    assert json.loads(result.stdout)["there_already"] == [NAME]


@pytest.mark.parametrize("name", sorted(manifest_files()))
def test_every_manifest_names_itself_and_where_its_files_are(name):
    manifest = read_manifest(manifest_files()[name])
    assert manifest.name == name
    assert manifest.url.startswith("https://")
    assert manifest.url.endswith("/")
    assert manifest.known_files() or manifest.listed
    assert not Path(manifest.folder).is_absolute()
    assert ".." not in manifest.folder


def built_alexandria() -> list[str]:
    manifests = {name: read_manifest(path) for name, path in sorted(manifest_files().items())}
    return [n for n, m in manifests.items() if n.startswith("alexandria") and m.content != "benchmark"]


@pytest.mark.parametrize("name", built_alexandria())
def test_names_of_fetched_files_tell_the_build_what_they_are(name):
    from mlip.data.readers.naming import dimensionality_by_name, functional_by_name

    manifest = read_manifest(manifest_files()[name])
    file = manifest.known_files()[0].name if manifest.known_files() else "alex_go_aaa_000.json.bz2"
    path = Path("data") / manifest.folder / file
    assert functional_by_name(path) == manifest.functional
    assert dimensionality_by_name("unknown", path) == manifest.dimensionality


def test_manifests_are_part_of_the_package():
    included = (REPOSITORY / "pyproject.toml").read_text()
    assert not [name for name in manifest_files() if f'"datasets/{name}.yaml"' not in included]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not a manifest"),
        ("[]", "not a manifest"),
        ("name: x", "not a manifest: title: Field required"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_manifest_is_one_line(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(MlipError, match=message) as error:
        manifest_named(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", ".hidden", "a/b", ""])
def test_a_file_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(ValueError, match="plain file name"):
        RemoteFile(name=name)


def test_an_unknown_data_set_names_the_known_ones():
    with pytest.raises(MlipError, match=r"one of alexandria-pbe, .*mptrj, wbm"):
        manifest_named("oqmd")
