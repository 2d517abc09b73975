"""From a name to a file: downloaded from the publisher, checked against its pinned SHA-256, converted once, and cached.

In the cache's folder `pretrained/`, `sources/NAME/` holds the publisher's files and `converted/KEY/NAME.safetensors`
the potential. KEY is a hash of the sources' checksums, the conversion's options and mlip's version. If $MLIP_OFFLINE is
set, nothing is downloaded. $MLIP_MIRROR is the address of a server that offers files as SHA256 or as NAME/FILE; it is
tried first. Weights that come with mlip are checked, and used where they are.
"""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

from mlip import __version__
from mlip.data.download import OnBytes, check_content, download
from mlip.data.manifest import RemoteFile
from mlip.errors import MlipError
from mlip.files.known_folders import cache_folder
from mlip.files.one_writer import one_writer
from mlip.pretrained.conversion import convert
from mlip.pretrained.entry import PretrainedEntry, WeightsFile
from mlip.pretrained.registry import find, weights_folder

CONVERSION = 1
"""Version of the converters, increased when they make a different potential from the same files."""

ATTEMPTS = 3
"""Number of successive attempts that may bring no byte; small, because a waiting script should fail soon."""

LOCK_TIMEOUT = 1800.0
"""Seconds that a process waits for another one that fetches or converts the same potential."""

LARGEST = 2**30
"""Largest size in bytes of a file whose size is not published."""

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")

Tell = Callable[[str], None]
"""Function that receives progress messages, one line at a time."""


def obtain(name: str, on_bytes: OnBytes | None = None, tell: Tell | None = None) -> Path:
    """Path of a registered potential in mlip's format, downloaded and converted if necessary.

    Args:
        on_bytes: receives the number of bytes of the current file that have arrived, and the total.
        tell: receives progress messages; by default they go to stderr.

    Raises:
        MlipError: the name is unknown, or the potential cannot be obtained, verified or converted.
    """
    entry = find(name)
    if entry.source.bundled:
        return _bundled(entry)
    path = converted_file(entry)
    if path.is_file():
        return path
    check_readable(entry)
    _check_fetchable(entry)
    tell = tell or to_stderr
    with _one_at_a_time(entry):
        if not path.is_file():  # another process may have made it meanwhile
            source = obtain_source(entry, on_bytes, tell)
            convert_known(entry, source, path, tell)
    return path


def converted_file(entry: PretrainedEntry) -> Path:
    """Path of the potential in mlip's format, whether or not it exists yet."""
    if entry.source.bundled:
        return weights_folder() / entry.source.files[0].name
    parts = [__version__, str(CONVERSION), str(entry.converter), *entry.options.arguments]
    parts += [f"{file.name}:{file.sha256}" for file in entry.source.files]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return cache_folder() / "pretrained" / "converted" / key / f"{entry.name}.safetensors"


def source_folder(entry: PretrainedEntry) -> Path:
    """Folder of the publisher's files, whether or not it exists yet."""
    return cache_folder() / "pretrained" / "sources" / entry.name


def check_readable(entry: PretrainedEntry) -> None:
    """Check that mlip can read the network.

    Raises:
        MlipError: mlip does not read this network.
    """
    if entry.converter is None:
        instead = f"its publisher's calculator is {entry.ase}; " if entry.ase else ""
        raise MlipError(
            "is known by name, and not readable yet",
            where=entry.name,
            fix=f"{instead}`mlip models` lists those that are",
        )


def _check_fetchable(entry: PretrainedEntry) -> None:
    """Check that the files can be downloaded automatically.

    Raises:
        MlipError: the checksums of the files are not published.
    """
    if not entry.is_fetchable:
        urls = ", ".join(url for file in entry.source.files for url in file.urls) or entry.source.homepage
        raise MlipError(
            "is not fetched by itself, as nobody has published its checksum",
            where=entry.name,
            fix=f"get {urls}, then {command_for(entry, 'SOURCE')}",
        )


def command_for(entry: PretrainedEntry, source: str) -> str:
    """Command that converts a checkpoint by hand."""
    trust = ["--trust-pickle"] if entry.source.is_pickle else []
    return " ".join(["mlip convert", source, f"{entry.name}.safetensors", *entry.options.arguments, *trust])


def obtain_source(entry: PretrainedEntry, on_bytes: OnBytes | None, tell: Tell) -> Path:
    """Path of the publisher's file, or of their folder if there are several. All checksums are verified.

    Raises:
        MlipError: a file cannot be obtained, or is not the published one.
    """
    get = _packaged if entry.source.package else _fetched
    paths = [get(entry, file, on_bytes, tell) for file in entry.source.files]
    return paths[0].parent if len(paths) > 1 else paths[0]


def convert_known(entry: PretrainedEntry, source: Path, out: Path, tell: Tell) -> None:
    """Convert a checkpoint whose checksums are the ones that are pinned for `entry`.

    Raises:
        MlipError: any error of `mlip convert`.
    """
    for line in license_lines(entry):
        tell(line)
    options = list(entry.options.arguments)
    if entry.source.is_pickle:
        tell(f"{entry.name}: its file can run code as it is read, and is read since its SHA-256 is the pinned one")
        options.append("--trust-pickle")
    convert(source, out, options, where=entry.name)


def license_lines(entry: PretrainedEntry) -> list[str]:
    """License and citations in one line, followed by the terms of a license that is not an open one."""
    line = f"{entry.title}: {entry.license.id} ({entry.license.url}); cite {', '.join(entry.citation)}"
    return [line, *(entry.license.text or "").strip().splitlines()]


def _fetched(entry: PretrainedEntry, file: WeightsFile, on_bytes: OnBytes | None, tell: Tell) -> Path:
    folder = source_folder(entry)
    target = folder / file.name
    expected = RemoteFile(name=file.name, bytes=file.bytes, sha256=file.sha256)
    if target.is_file():
        try:
            check_content(target, expected)
            return target
        except MlipError:
            target.unlink()  # safe: the cache is ours, and the publisher still has the file
    urls = [*_mirrored(entry, file), *file.urls]
    if os.environ.get("MLIP_OFFLINE", "0") not in ("", "0"):
        raise MlipError(
            f"$MLIP_OFFLINE is set, and {file.name} is not in the cache: it would come from {urls[0]}",
            where=entry.name,
            fix=f"`mlip fetch {entry.name}` where there is a network, then copy {folder} from there",
        )
    make_folder(folder)
    size = f" ({file.bytes / 1e6:.1f} MB)" if file.bytes else ""
    failures = []
    for url in urls:
        try:
            check_address(url)
            tell(f"{entry.name}: fetching {file.name}{size} from {urlsplit(url).netloc}")
            download(url, target, expected, _limited(file, on_bytes), ATTEMPTS)
            return target
        except MlipError as error:
            failures.append(f"{url}: {error.what}")
    raise MlipError(
        f"cannot be fetched: {'; '.join(failures)}",
        where=entry.name,
        fix=f"try again: it goes on where it was; or put {file.name} into {folder} yourself",
    )


def _mirrored(entry: PretrainedEntry, file: WeightsFile) -> list[str]:
    base = os.environ.get("MLIP_MIRROR", "").rstrip("/")
    return [f"{base}/{file.sha256}", f"{base}/{entry.name}/{quote(file.name)}"] if base else []


def check_address(url: str) -> None:
    """Check that an address may be used.

    Raises:
        MlipError: the address is not https, except for http on this machine or on the mirror that the user named.
    """
    parts, mirror = urlsplit(url), urlsplit(os.environ.get("MLIP_MIRROR", ""))
    is_ours = parts.hostname in _LOCAL_HOSTS or (parts.hostname and parts.netloc == mirror.netloc)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_ours):
        raise MlipError("is not https", where=url)


def _limited(file: WeightsFile, on_bytes: OnBytes | None) -> OnBytes:
    """Callback that calls `on_bytes`, and raises MlipError if a file of unknown size grows too large."""

    def told(done: int, total: int | None) -> None:
        if file.bytes is None and max(done, total or 0) > LARGEST:
            raise MlipError(f"has more than {LARGEST:,} bytes")
        if on_bytes:
            on_bytes(done, total or file.bytes)

    return told


def _bundled(entry: PretrainedEntry) -> Path:
    """Path of the file inside mlip.

    Raises:
        MlipError: the file is missing, or is not the one that came with this version.
    """
    (file,) = entry.source.files
    path = converted_file(entry)
    fix = "install mlip anew: pip install --force-reinstall --no-deps alexandria-mlip"
    if not path.is_file():
        raise MlipError(f"this installation of mlip has no {path}", where=entry.name, fix=fix)
    try:
        check_content(path, RemoteFile(name=file.name, bytes=file.bytes, sha256=file.sha256))
    except MlipError as error:
        raise MlipError(f"{path}: {error.what}", where=entry.name, fix=fix) from None
    return path


def _packaged(entry: PretrainedEntry, file: WeightsFile, on_bytes: OnBytes | None, tell: Tell) -> Path:
    """Path of a file inside an installed package, which is found without importing the package."""
    spec = importlib.util.find_spec(entry.source.package)
    fix = f"pip install '{entry.source.install or entry.source.package}'"
    if spec is None or not spec.submodule_search_locations:
        raise MlipError(
            f"its weights are in the package {entry.source.package}, which is not installed", where=entry.name, fix=fix
        )
    path = Path(next(iter(spec.submodule_search_locations))) / file.path
    if not path.is_file():
        raise MlipError(f"the installed {entry.source.package} has no {file.path}", where=entry.name, fix=fix)
    try:
        check_content(path, RemoteFile(name=file.name, bytes=file.bytes, sha256=file.sha256))
    except MlipError as error:
        raise MlipError(f"{path}: {error.what}", where=entry.name, fix=fix) from None
    return path


@contextmanager
def _one_at_a_time(entry: PretrainedEntry) -> Iterator[None]:
    """Context in which no other process fetches or converts this potential."""
    folder = make_folder(cache_folder() / "pretrained" / "locks")
    refusal = MlipError(f"another process has been fetching it for {LOCK_TIMEOUT / 60:.0f} minutes", where=entry.name)
    with one_writer(folder / f"{entry.name}.lock", refusal, LOCK_TIMEOUT):
        yield


def make_folder(folder: Path) -> Path:
    """Make a folder in the cache.

    Raises:
        MlipError: the place is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MlipError(f"cannot write here ({error.strerror})", where=str(folder), fix="set $MLIP_CACHE") from None
    return folder


def to_stderr(line: str) -> None:
    """Print a progress message to stderr, for callers that gave no `tell`."""
    print(f"mlip: {line}", file=sys.stderr)
