"""Manifests of public data sets: addresses, sizes and checksums of their files, license and citation.

Each data set has one YAML file in `datasets/`. If only the server's folder shows which files there are (how many
shards), the manifest has a pattern of their names, and `mlip data fetch` reads the folder's listing.
"""

import re
from pathlib import Path
from typing import Literal

import yaml
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator

from mlip.errors import MlipError
from mlip.files.known_folders import packaged_files

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RemoteFile(_Strict):
    """A file to download; facts that are not published are None."""

    name: str
    """Name of the downloaded file."""
    url: str | None = None
    """Address of the file; None: the manifest's folder followed by the name."""
    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @field_validator("name")
    @classmethod
    def _is_plain(cls, name: str) -> str:
        return plain_name(name)


class Numbered(_Strict):
    """Numbered files: `pattern` contains {i} or {i:04d}, with i from 0 to count - 1."""

    pattern: str
    count: int


class Manifest(_Strict):
    """A public data set."""

    name: str
    title: str
    content: Literal["relaxation paths", "bulk entries", "frames", "table", "benchmark"]
    """A benchmark's files are read as they are, without a build."""
    functional: str
    dimensionality: int | None
    """1, 2 or 3; None for a set with several dimensionalities."""
    license: str = Field(validation_alias=AliasChoices("license", "licence"))
    citation: str
    homepage: str
    url: str
    """Address of the folder that holds the files; ends with /."""
    folder: str
    """Folder of the files under --out; its name states functional and dimensionality for `mlip data build`."""
    files: list[RemoteFile] = []
    numbered: list[Numbered] = []
    listed: list[str] = []
    """Regular expressions of the file names to look for in the folder's listing."""
    note: str = ""
    """Facts that are not known, and why."""

    def known_files(self) -> list[RemoteFile]:
        """All files except those of the listing."""
        counted = [RemoteFile(name=n.pattern.format(i=i)) for n in self.numbered for i in range(n.count)]
        return [*self.files, *counted]

    def url_of(self, file: RemoteFile) -> str:
        return file.url or self.url + file.name


def plain_name(name: str) -> str:
    """The name itself, if it is a plain file name without a folder; a ValueError otherwise."""
    if not _PLAIN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a plain file name")
    return name


def manifest_named(name: str) -> Manifest:
    """Manifest of a data set that mlip knows by name, or of the user's own file (*.yaml) by path.

    Raises:
        MlipError: there is no such manifest, or the file is not a manifest.
    """
    known = manifest_files()
    path = Path(name) if name.endswith((".yaml", ".yml")) else known.get(name)
    if path is None:
        raise MlipError(f"unknown data set {name!r}", fix=f"one of {', '.join(sorted(known))}; or a manifest.yaml")
    return read_manifest(path)


def read_manifest(path: Path) -> Manifest:
    try:
        return Manifest(**yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise MlipError(f"cannot be read ({error.strerror})", where=str(path)) from None
    except (yaml.YAMLError, TypeError) as error:
        raise MlipError(f"not a manifest ({str(error).splitlines()[0]})", where=str(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise MlipError(f"not a manifest: {key}: {first['msg']}", where=str(path)) from None


def manifest_files() -> dict[str, Path]:
    """Manifest files of the data sets that mlip knows, by name."""
    return {name: path for name, path in packaged_files("datasets").items() if "/" not in name}
