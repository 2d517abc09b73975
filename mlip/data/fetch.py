"""Download of a public data set into a folder: several files at a time, and none that is already here and intact.

The checksum of each downloaded file is recorded in the folder's SHA256SUMS (`sha256sum -c SHA256SUMS` reads it). Where
no checksum is published, it shows at least whether the file has changed since it was downloaded.
"""

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from mlip.data.download import TIMEOUT, check_content, download
from mlip.data.manifest import Manifest, RemoteFile, plain_name
from mlip.errors import MlipError
from mlip.files.output_paths import writing_to

SUMS = "SHA256SUMS"

OnFile = Callable[[str, int, int | None], None]
"""Function that receives a file's name, the number of its bytes that have arrived, and the total if it is known."""


@dataclass(slots=True)
class Fetched:
    """Outcome of fetching the files of a data set."""

    folder: Path
    new: list[str] = field(default_factory=list)
    there_already: list[str] = field(default_factory=list)


def fetch(
    manifest: Manifest,
    out: Path,
    *,
    n_parallel: int = 4,
    check: bool = False,
    only: str | None = None,
    on_file: OnFile | None = None,
) -> Fetched:
    """Download the missing files of a data set.

    Args:
        out: folder in which `manifest.folder` is made for the files.
        check: compare files that are already here with their checksums again.
        only: regular expression that selects names of files.

    Raises:
        MlipError: a file that is here is not the published one, and nothing is downloaded; or a file could not be
            downloaded, and the others are.
    """
    files = [file for file in _all_files(manifest) if only is None or re.search(only, file.name)]
    if not files:
        raise MlipError("no file of the data set has such a name", where=f"--only {only}")
    fetched = Fetched(out / manifest.folder)
    with writing_to(fetched.folder):
        fetched.folder.mkdir(parents=True, exist_ok=True)
    sums = _Sums(fetched.folder / SUMS)
    missing = []
    for file in files:
        (fetched.there_already if _is_there(fetched.folder / file.name, file, sums, check) else missing).append(file)
    fetched.there_already = [file.name for file in fetched.there_already]

    def get(file: RemoteFile) -> str:
        tell = on_file and (lambda done, total: on_file(file.name, done, total or file.bytes))
        sums.add(file.name, download(manifest.url_of(file), fetched.folder / file.name, file, tell))
        return file.name

    errors = []
    with ThreadPoolExecutor(n_parallel) as pool:
        try:
            for future in as_completed([pool.submit(get, file) for file in missing]):
                try:
                    fetched.new.append(future.result())
                except MlipError as error:
                    errors.append(error)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if errors:
        others = f"; and {len(errors) - 1} further files" if len(errors) > 1 else ""
        raise MlipError(f"{errors[0].what}{others}", where=errors[0].where, fix=errors[0].fix)
    return fetched


def _all_files(manifest: Manifest) -> list[RemoteFile]:
    known = manifest.known_files()
    names = {file.name for file in known}
    if not manifest.listed:
        return known
    listing = _listing(manifest.url)
    found = sorted(
        {name for name in listing if any(re.fullmatch(pattern, name) for pattern in manifest.listed)} - names
    )
    if not found:
        raise MlipError(
            f"lists no file like {', '.join(manifest.listed)}", where=manifest.url, fix=f"see {manifest.homepage}"
        )
    return [*known, *(RemoteFile(name=plain_name(name)) for name in found)]


def _listing(url: str) -> list[str]:
    """Names of the files that a server's listing of a folder links to."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            page = response.read(1 << 24).decode("utf-8", errors="replace")
    except (OSError, urllib.error.URLError) as error:
        raise MlipError(f"the folder's listing cannot be read ({error})", where=url) from None
    return [link for link in re.findall(r'href="\.?/?([^"/?#]+)"', page) if re.fullmatch(r"[\w.+-]+", link)]


def _is_there(path: Path, file: RemoteFile, sums: "_Sums", check: bool) -> bool:
    """Whether the file is here and intact.

    Raises:
        MlipError: the file is here, but differs from the published or the downloaded one.
    """
    if not path.exists():
        return False
    known = sums.of(file.name)
    if known and not check:
        return True
    try:
        digest = check_content(path, file)
        if known and digest != known:
            raise MlipError("is not the file that came: its checksum in SHA256SUMS is another", where=str(path))
    except MlipError as error:
        raise MlipError(
            error.what, where=str(path), fix="move it away to fetch it again; nothing is overwritten"
        ) from None
    sums.add(file.name, digest)
    return True


class _Sums:
    """Checksums in a folder's SHA256SUMS."""

    def __init__(self, path: Path):
        self._path = path
        self._lock = threading.Lock()
        lines = path.read_text().splitlines() if path.exists() else []
        self._sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}

    def of(self, name: str) -> str | None:
        return self._sums.get(name)

    def add(self, name: str, digest: str) -> None:
        with self._lock:
            if self._sums.get(name) != digest:
                self._sums[name] = digest
                with self._path.open("a") as stream:
                    stream.write(f"{digest}  {name}\n")
