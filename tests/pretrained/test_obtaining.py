"""A name becomes a file: from a server on this machine that is good, or cuts, lies, stalls and redirects."""

import multiprocessing
import time
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from mlip.data import download
from mlip.errors import MlipError
from mlip.files.one_writer import one_writer
from mlip.pretrained import conversion, obtain, obtaining
from tests.weights_server import digest_of, entry_of

CONTENT = bytes(range(256)) * 40
TWO = {"weights.bin": CONTENT, "config.json": b'{"units": 4}'}


@pytest.fixture(autouse=True)
def conversions(monkeypatch):
    """What would be converted: the sources are put together instead."""
    done = []

    def put_together(source: Path, out: Path, options: list[str], where: str) -> None:
        done.append((source, options))
        out.parent.mkdir(parents=True, exist_ok=True)
        files = sorted(source.iterdir()) if source.is_dir() else [source]
        out.write_bytes(b"".join(file.read_bytes() for file in files if not file.name.startswith(".")))

    monkeypatch.setattr(obtaining, "convert", put_together)
    return done


def offer(server, entry, files) -> None:
    server.files = {f"/{entry.name}/{name}": content for name, content in files.items()}


def test_a_good_download_is_converted_once_and_needs_no_network_again(server, register, conversions, capsys):
    entry = entry_of(TWO)
    register(entry)
    offer(server, entry, TWO)
    path = obtain("tiny")
    assert path.read_bytes() == TWO["config.json"] + TWO["weights.bin"]
    assert path.name == "tiny.safetensors"
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("MIT (https://publisher.invalid/LICENSE); cite doi:10.0/0") == 1
    server.requests.clear()
    assert obtain("Smallest") == path
    assert server.requests == []
    assert len(conversions) == 1
    assert capsys.readouterr().err == ""


def test_a_mirror_may_offer_files_by_their_checksum(server, register):
    register(entry_of(TWO))
    server.files = {f"/{digest_of(content)}": content for content in TWO.values()}
    assert obtain("tiny").is_file()
    assert len(server.requests) == 2


def test_the_converter_is_told_the_options_and_to_trust_a_pickle_whose_checksum_is_pinned(
    server, register, conversions, capsys
):
    files = {"tiny.model": CONTENT}
    entry = entry_of(files, options={"functional": "PBE", "head": "default"})
    entry = entry.model_copy(update={"source": entry.source.model_copy(update={"is_pickle": True})})
    register(entry)
    offer(server, entry, files)
    obtain("tiny")
    ((source, options),) = conversions
    assert source.name == "tiny.model"
    assert options == ["--functional", "PBE", "--head", "default", "--trust-pickle"]
    assert "can run code as it is read, and is read since its SHA-256 is the pinned one" in capsys.readouterr().err


def test_what_is_not_a_pickle_is_not_trusted_as_one(server, register, conversions):
    entry = entry_of(TWO)
    register(entry)
    offer(server, entry, TWO)
    obtain("tiny")
    assert conversions[0][1] == []


def test_a_license_that_is_not_open_is_shown_with_its_terms(server, register, capsys):
    academic = {"id": "LicenseRef-ASL", "url": "https://publisher.invalid/ASL", "redistribution": "academics"}
    entry = entry_of(TWO, license=academic)
    register(entry)
    offer(server, entry, TWO)
    obtain("tiny")
    assert "academic non-commercial use only" in capsys.readouterr().err


def cut(handler):
    handler.reply(200, CONTENT[:100], length=len(CONTENT))


def short_and_proud_of_it(handler):
    handler.reply(200, CONTENT[:100])


def long(handler):
    handler.reply(200, CONTENT * 2)


def endless(handler):
    """Announces no length."""
    handler.reply(200, CONTENT * 1000, length=False)


def another_file(handler):
    handler.reply(200, CONTENT[::-1])


def to_http(handler):
    handler.reply(302, headers={"Location": "http://publisher.invalid/weights.bin"})


def to_a_file(handler):
    handler.reply(302, headers={"Location": "file:///etc/passwd"})


def in_circles(handler):
    handler.reply(302, headers={"Location": handler.path})


def page(handler):
    handler.reply(200, b"<html>log in to the hotel</html>")


def silence(handler):
    time.sleep(1.0)


def trickle(handler):
    handler.reply(200, b"", length=len(CONTENT))
    for byte in CONTENT[:40]:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (cut, "announced 10,240 bytes"),
        (short_and_proud_of_it, "it has 100 bytes, and 10,240 were published"),
        (long, "it has 20,480 bytes, and 10,240 were published"),
        (endless, "it has more than the 10,240 bytes that were published"),
        (another_file, f"its sha256 is {digest_of(CONTENT[::-1])}, and {digest_of(CONTENT)} was published"),
        (to_http, "redirected to http://publisher.invalid/weights.bin, which is not https"),
        (to_a_file, "HTTP 302 .*edirection to url .file:///etc/passwd. is not allowed"),
        (in_circles, "HTTP 302 .*infinite loop"),
        (page, "it has 32 bytes"),
        (silence, "timed out"),
        (trickle, "fewer than 100 bytes a second"),
    ],
)
def test_a_server_that_lies_is_refused_and_leaves_nothing(
    server, register, conversions, cache, monkeypatch, lie, message
):
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    monkeypatch.setattr(obtaining, "ATTEMPTS", 2)
    entry = entry_of({"weights.bin": CONTENT})
    entry = entry.model_copy(update={"source": _without_urls(entry.source)})
    register(entry)
    server.answer = lie
    with pytest.raises(MlipError, match=f"tiny: cannot be fetched: .*{message}") as caught:
        obtain("tiny")
    assert "\n" not in str(caught.value)
    assert conversions == []
    assert [path.name for path in cache.rglob("*") if path.is_file() and path.suffix in (".bin", ".safetensors")] == []


def _without_urls(source):
    """As if the publisher's own address failed at once."""
    return source.model_copy(
        update={
            "files": tuple(file.model_copy(update={"urls": ("http://publisher.invalid/x",)}) for file in source.files)
        }
    )


def test_a_download_that_was_cut_goes_on_where_it_was(server, register):
    entry = entry_of({"weights.bin": CONTENT})
    register(entry)
    offer(server, entry, {"weights.bin": CONTENT})
    server.files[f"/{digest_of(CONTENT)}"] = CONTENT
    ranges = []

    def once(handler):
        server.answer = lambda later: ranges.append(later.headers["Range"]) or _serve(server, later)
        cut(handler)

    server.answer = once
    assert obtain("tiny").read_bytes() == CONTENT
    assert ranges == ["bytes=100-"]


def _serve(server, handler):
    server.answer = None
    handler.do_GET()


def test_plain_http_is_for_this_machine_and_the_users_mirror_alone(monkeypatch):
    monkeypatch.setenv("MLIP_MIRROR", "http://weights.cluster:8000/mlip")
    for url in ("https://a.b/c", "http://127.0.0.1:1/c", "http://localhost/c", "http://weights.cluster:8000/mlip/c"):
        obtaining.check_address(url)
    for url in (
        "http://a.b/c",
        "http://weights.cluster/c",
        "ftp://a.b/c",
        "file:///etc/passwd",
        "http://127.0.0.1.b/c",
    ):
        with pytest.raises(MlipError, match="is not https"):
            obtaining.check_address(url)


def test_the_publisher_is_asked_when_the_mirror_has_not_the_file(server, register, monkeypatch):
    entry = entry_of({"weights.bin": CONTENT})
    files = tuple(f.model_copy(update={"urls": (f"{server.url}/publisher",)}) for f in entry.source.files)
    register(entry.model_copy(update={"source": entry.source.model_copy(update={"files": files})}))
    server.files = {"/publisher": CONTENT}
    assert obtain("tiny").read_bytes() == CONTENT
    assert server.requests == [f"/{digest_of(CONTENT)}", "/tiny/weights.bin", "/publisher"]


def test_a_source_in_the_cache_that_was_altered_is_fetched_again(server, register, cache):
    entry = entry_of(TWO)
    register(entry)
    offer(server, entry, TWO)
    converted = obtain("tiny")
    converted.unlink()
    (cache / "pretrained/sources/tiny/weights.bin").write_bytes(b"x" * len(CONTENT))
    server.requests.clear()
    assert obtain("tiny").read_bytes() == TWO["config.json"] + CONTENT
    assert all("config.json" not in path for path in server.requests)


def test_offline_says_what_would_be_fetched_and_where_to_put_it(server, register, monkeypatch, cache):
    register(entry_of(TWO))
    monkeypatch.setenv("MLIP_OFFLINE", "1")
    with pytest.raises(MlipError, match=r"tiny: \$MLIP_OFFLINE is set, and weights.bin is not in the cache") as caught:
        obtain("tiny")
    assert "mlip fetch tiny" in str(caught.value)
    assert str(cache / "pretrained/sources/tiny") in str(caught.value)
    assert server.requests == []


def test_offline_is_content_with_sources_that_were_put_there_by_hand(register, monkeypatch, cache):
    register(entry_of(TWO))
    monkeypatch.setenv("MLIP_OFFLINE", "1")
    folder = cache / "pretrained/sources/tiny"
    folder.mkdir(parents=True)
    for name, content in TWO.items():
        (folder / name).write_bytes(content)
    assert obtain("tiny").is_file()


def test_an_update_of_mlip_converts_again_without_fetching(server, register, conversions, monkeypatch):
    entry = entry_of(TWO)
    register(entry)
    offer(server, entry, TWO)
    first = obtain("tiny")
    server.requests.clear()
    monkeypatch.setattr(obtaining, "CONVERSION", obtaining.CONVERSION + 1)
    second = obtain("tiny")
    assert first != second
    assert len(conversions) == 2
    assert server.requests == []


def test_a_potential_without_a_published_checksum_is_fetched_by_hand_and_the_command_is_told(server, register):
    entry = entry_of(TWO, options={"functional": "r2SCAN", "aggregate": "neighbor"})
    files = tuple(file.model_copy(update={"sha256": None}) for file in entry.source.files)
    register(entry.model_copy(update={"source": entry.source.model_copy(update={"files": files})}))
    with pytest.raises(
        MlipError, match=r"mlip convert SOURCE tiny.safetensors --functional r2SCAN --aggregate neighbor"
    ):
        obtain("tiny")
    assert server.requests == []


def test_a_network_that_is_not_implemented_says_how_it_runs_in_ase(server, register):
    register(entry_of(TWO, converter=None, ase="ase:tiny:Calculator"))
    with pytest.raises(MlipError, match=r"tiny: is known by name, and not readable yet .*ase:tiny:Calculator"):
        obtain("tiny")
    assert server.requests == []


def packaged(**changes):
    entry = entry_of({"weights.bin": CONTENT})
    (file,) = entry.source.files
    file = file.model_copy(update={"urls": (), "path": "pretrained/weights.bin"} | changes)
    source = entry.source.model_copy(update={"files": (file,), "package": "tinypackage", "install": "tiny==1"})
    return entry.model_copy(update={"source": source})


@pytest.fixture
def tinypackage(tmp_path, monkeypatch):
    folder = tmp_path / "site/tinypackage"
    (folder / "pretrained").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('it was imported')")
    (folder / "pretrained/weights.bin").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def test_weights_of_an_installed_package_are_found_without_importing_it(cache, register, tinypackage):
    register(packaged())
    assert obtain("tiny").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "pretrained/other.bin"}, "the installed tinypackage has no pretrained/other.bin"),
        ({"sha256": "0" * 64}, f"its sha256 is {digest_of(CONTENT)}, and 0000"),
    ],
)
def test_another_release_of_the_package_is_refused(cache, register, tinypackage, changes, message):
    register(packaged(**changes))
    with pytest.raises(MlipError, match=rf"tiny: .*{message}.* \(pip install 'tiny==1'\)"):
        obtain("tiny")


def test_a_package_that_is_not_installed_is_named(cache, register):
    register(packaged())
    with pytest.raises(MlipError, match="its weights are in the package tinypackage, which is not installed"):
        obtain("tiny")


def test_a_cache_that_nobody_may_write_to_is_one_line(register, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLIP_CACHE", str(tmp_path / "file"))
    register(entry_of(TWO))
    with pytest.raises(MlipError, match=r"cannot write here .*\$MLIP_CACHE"):
        obtain("tiny")


def _obtain_elsewhere(entry, start):
    from mlip.pretrained import registry

    def slow(source, out, options, where):
        with (out.parent.parent / "conversions").open("a") as file:
            file.write("x")
        time.sleep(0.2)
        out.parent.mkdir(exist_ok=True)
        out.write_bytes(b"converted")

    registry._entries = lambda: [entry]
    obtaining.convert = slow
    start.wait(120)
    assert obtain("tiny", tell=lambda line: None).read_bytes() == b"converted"


def test_of_several_processes_one_fetches_and_converts_and_the_others_wait(server, cache):
    entry = entry_of({"weights.bin": CONTENT})
    offer(server, entry, {"weights.bin": CONTENT})
    (cache / "pretrained/converted").mkdir(parents=True)
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    start = context.Barrier(2)
    processes = [context.Process(target=_obtain_elsewhere, args=(entry, start)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (cache / "pretrained/converted/conversions").read_text() == "x"
    assert server.requests.count("/tiny/weights.bin") == 1


def test_who_waits_too_long_says_for_whom(cache, register, monkeypatch):
    register(entry_of(TWO))
    monkeypatch.setattr(obtaining, "LOCK_TIMEOUT", 0.05)
    folder = obtaining.make_folder(cache / "pretrained/locks")
    with (
        one_writer(folder / "tiny.lock", MlipError("")),
        pytest.raises(MlipError, match="tiny: another process has been fetching it"),
    ):
        obtain("tiny")


def test_a_conversion_that_fails_gives_its_reason_and_the_command(tmp_path):
    source = tmp_path / "what.bin"
    source.write_bytes(b"nothing")
    out = tmp_path / "new/out.safetensors"
    with pytest.raises(
        MlipError, match=r"tiny: the conversion failed: .*no checkpoint that mlip can convert"
    ) as caught:
        conversion.convert(source, out, ["--functional", "PBE"], where="tiny")
    assert f"mlip convert {source} {out} --functional PBE" in str(caught.value)
    assert not out.exists()


def test_the_converting_process_takes_no_module_from_the_folder_it_is_started_in(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise RuntimeError('a trap')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MlipError, match="no such file or folder"):
        conversion.convert(tmp_path / "absent", tmp_path / "out.safetensors", [], where="tiny")


@pytest.mark.parametrize(
    ("old", "new", "is_followed"),
    [
        ("https://a.b/c", "https://d.e/f", True),
        ("https://a.b/c", "http://a.b/c", False),
        ("http://mirror:8000/c", "http://mirror:8000/d", True),
        ("http://mirror:8000/c", "http://other:8000/c", False),
        ("http://127.0.0.1:8000/c", "https://d.e/f", True),
    ],
)
def test_a_redirect_never_leaves_https_for_http_nor_one_plain_host_for_another(old, new, is_followed):
    request = urllib.request.Request(old)
    follow = partial(download._SafeRedirects().redirect_request, request, None, 302, "Found", {}, new)
    if is_followed:
        assert follow().full_url == new
    else:
        with pytest.raises(download._RefusedError, match="is not https"):
            follow()
