"""Download of one file over HTTP: resumed by range requests if the connection breaks, verified, and put in place whole.

The bytes grow in `.NAME.part`. The server's validator of the file (its ETag) is kept beside them and sent with each
further request (`If-Range`), so that a file that has changed since is downloaded anew instead of being patched
together.
"""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlip import __version__
from mlip.data.manifest import RemoteFile
from mlip.errors import MlipError
from mlip.files.checksum import checksum_of
from mlip.files.whole_file import put_in_place

BLOCK_BYTES = 1 << 20
TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as broken."""

SLOWEST = 100
"""Bytes per second, over TIMEOUT seconds, below which a server is given up."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 120.0
"""First and longest pause between attempts, seconds. Pauses double, unless the server states when to come back."""

FRUITLESS_ATTEMPTS = 6
"""Number of attempts in a row without a byte after which the server is given up."""

_BUSY = {408, 425, 429, 500, 502, 503, 504}
"""HTTP status codes after which another attempt may succeed."""

OnBytes = Callable[[int, int | None], None]
"""Function that receives the number of bytes that have arrived, and the total if it is known."""


class _RefusedError(Exception):
    """The server will not give the file, now or later."""


class _InterruptedError(Exception):
    """An attempt failed, but the next one may succeed. `wait`: pause that the server asks for, seconds."""

    def __init__(self, why: str, wait: float | None = None):
        super().__init__(why)
        self.wait = wait


def download(
    url: str,
    target: Path,
    expected: RemoteFile,
    on_bytes: OnBytes | None = None,
    attempts: int = FRUITLESS_ATTEMPTS,
) -> str:
    """Download a file that is not there yet; returns its SHA-256.

    Args:
        attempts: number of attempts in a row without a byte after which the server is given up.

    Raises:
        MlipError: the server refuses or no longer answers, or its file is not the published one.
    """
    part = _Part(target)
    failures = wrong = 0
    while True:
        before = part.size
        try:
            _continue(url, part, expected, on_bytes)
            _check_size(part.size, expected)
            digest = check_content(part.path, expected)
        except _RefusedError as error:
            raise MlipError(str(error), where=url) from None
        except MlipError as error:
            part.forget()
            wrong += 1
            if wrong == 2:  # once may be a fault of the transfer; twice is the file
                raise MlipError(
                    error.what, where=url, fix="has a new version been published? see the manifest"
                ) from None
        except _InterruptedError as interruption:
            failures = 0 if part.size > before else failures + 1
            if failures >= attempts:
                raise MlipError(
                    f"{interruption} ({failures} times in a row)", where=url, fix="repeat the command: it goes on here"
                ) from None
            time.sleep(_pause(failures, interruption.wait))
        else:
            put_in_place(part.path, target)
            part.forget()
            return digest


def check_content(path: Path, expected: RemoteFile) -> str:
    """SHA-256 of a file whose size and checksums are checked against the published ones, if there are any.

    Raises:
        MlipError: the file differs from the published one.
    """
    _check_size(path.stat().st_size, expected)
    for kind, published in (("md5", expected.md5), ("sha256", expected.sha256)):
        if published and (found := checksum_of(path, kind)) != published:
            raise MlipError(f"its {kind} is {found}, and {published} was published", where=str(path))
    return expected.sha256 or checksum_of(path)


def _check_size(n_bytes: int, expected: RemoteFile) -> None:
    if expected.bytes is not None and n_bytes != expected.bytes:
        raise MlipError(f"it has {n_bytes:,} bytes, and {expected.bytes:,} were published", where=expected.name)


class _Part:
    """Downloaded part of a file, with the server's validator for it."""

    def __init__(self, target: Path):
        self.path = target.with_name(f".{target.name}.part")
        self._about = target.with_name(f".{target.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def validator(self) -> str | None:
        """ETag or date to which range requests are bound; None if it is not known."""
        try:
            return json.loads(self._about.read_text())["validator"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def begin(self, validator: str | None) -> None:
        """Start again from the first byte."""
        self.path.write_bytes(b"")
        self._about.write_text(json.dumps({"validator": validator}))

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Redirect handler that allows https, and http only on a host that was already asked over http."""

    def redirect_request(self, request, response, code, message, headers, url):
        old, new = urlsplit(request.full_url), urlsplit(url)
        stays = (old.scheme, old.hostname) == (new.scheme, new.hostname)
        if new.scheme != "https" and not (stays and new.scheme == "http"):
            raise _RefusedError(f"redirected to {url}, which is not https")
        return super().redirect_request(request, response, code, message, headers, url)


def _continue(url: str, part: _Part, expected: RemoteFile, on_bytes: OnBytes | None) -> None:
    """Request the missing bytes once.

    Raises:
        MlipError: the server announces, or sends, another number of bytes than was published.
        _InterruptedError: the connection broke.
        _RefusedError: another request makes no sense.
    """
    if part.size and part.validator is None:
        part.forget()  # without a validator, the rest may be of another version of the file
    try:
        with _open(url, part) as response:
            total = _take_up(response, part)
            if total is not None:
                _check_size(total, expected)  # before its bytes fill the disk
            _copy(response, part, total, expected, on_bytes)
    except urllib.error.HTTPError as error:
        _on_status(error, part)
    except (OSError, http.client.HTTPException) as error:
        raise _InterruptedError(f"the connection broke ({_reason(error)})") from None


def _open(url: str, part: _Part) -> Any:
    headers = {"User-Agent": f"alexandria-mlip/{__version__}", "Accept-Encoding": "identity"}
    if part.size:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": part.validator}
    opener = urllib.request.build_opener(_SafeRedirects)
    return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)


def _take_up(response: Any, part: _Part) -> int | None:
    """Prepare the part for the bytes of the response; returns the size of the whole file if the server states it."""
    length = response.headers.get("Content-Length")
    if response.status == 206:
        start, total = _content_range(response.headers.get("Content-Range", ""))
        if start != part.size:
            part.forget()
            raise _InterruptedError("the server sent another range than was asked for")
        return total
    # Last-Modified alone satisfies the standard, but it is the same for two uploads within one second.
    part.begin(response.headers.get("ETag") or response.headers.get("Last-Modified"))
    return int(length) if length and length.isdigit() else None


def _content_range(text: str) -> tuple[int, int | None]:
    """First byte and total size in a Content-Range header: 'bytes 100-199/1000' -> (100, 1000)."""
    try:
        span, total = text.removeprefix("bytes ").split("/")
        return int(span.split("-")[0]), None if total == "*" else int(total)
    except ValueError:
        return -1, None


def _copy(response: Any, part: _Part, total: int | None, expected: RemoteFile, on_bytes: OnBytes | None) -> None:
    size = part.size
    since, size_then = time.monotonic(), size
    with part.path.open("ab") as stream:
        while block := response.read1(BLOCK_BYTES):
            stream.write(block)
            size += len(block)
            if expected.bytes is not None and size > expected.bytes:  # a server that announced nothing, or lied
                raise MlipError(f"it has more than the {expected.bytes:,} bytes that were published")
            if (elapsed := time.monotonic() - since) > TIMEOUT:
                if size - size_then < SLOWEST * elapsed:
                    raise _RefusedError(f"sends fewer than {SLOWEST} bytes a second; another time it may be faster")
                since, size_then = time.monotonic(), size
            if on_bytes:
                on_bytes(size, total)
        stream.flush()
        os.fsync(stream.fileno())
    if total is not None and size != total:
        raise _InterruptedError(f"the server announced {total:,} bytes, and ended after {size:,}")


def _on_status(error: urllib.error.HTTPError, part: _Part) -> None:
    if error.code == 416:  # beyond the end: the part is complete, or of another file
        _, total = _content_range(error.headers.get("Content-Range", "").replace("*/", "0-0/"))
        if total is not None and total == part.size:
            return
        part.forget()
        raise _InterruptedError("the file became shorter")
    if error.code in _BUSY:
        wait = error.headers.get("Retry-After", "")
        raise _InterruptedError(f"HTTP {error.code} {error.reason}", float(wait) if wait.isdigit() else None)
    raise _RefusedError(f"HTTP {error.code} {' '.join(str(error.reason).split())}")


def _pause(failures: int, wait: float | None) -> float:
    return min(FIRST_PAUSE * 2**failures if wait is None else wait, LONGEST_PAUSE)


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None)
    return str(inner or error) or type(error).__name__
