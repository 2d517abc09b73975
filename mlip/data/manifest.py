"""Manifests of public data sets: where their files are, how large, with which checksum, license and citation.

One YAML file a data set in `datasets/`. Where a server's folder tells more than anybody has published of it (how many
shards there are), the manifest has the pattern of the names, and `mlip data fetch` reads the folder's listing.
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
    """A file to fetch. What is not published is None."""

    name: str
    """Name of the file here."""
    url: str | None = None
    """None: the manifest's folder and the name."""
    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @field_validator("name")
    @classmethod
    def _is_plain(cls, name: str) -> str:
        return plain_name(name)


class Numbered(_Strict):
    """Files whose names count: `pattern` with {i} or {i:04d}, i from 0 to count - 1."""

    pattern: str
    count: int


class Manifest(_Strict):
    """A public data set."""

    name: str
    title: str
    content: Literal["relaxation paths", "bulk entries", "frames", "table"]
    functional: str
    dimensionality: int | None
    """None: of several."""
    license: str = Field(validation_alias=AliasChoices("license", "licence"))
    citation: str
    homepage: str
    url: str
    """The folder that the files are in; ends with /."""
    folder: str
    """Where they go under --out: names that tell functional and dimensionality to `mlip data build`."""
    files: list[RemoteFile] = []
    numbered: list[Numbered] = []
    listed: list[str] = []
    """Regular expressions of names that are looked for in the folder's listing."""
    note: str = ""
    """Facts that are not known, and why."""

    def known_files(self) -> list[RemoteFile]:
        """All but those of the listing."""
        counted = [RemoteFile(name=n.pattern.format(i=i)) for n in self.numbered for i in range(n.count)]
        return [*self.files, *counted]

    def url_of(self, file: RemoteFile) -> str:
        return file.url or self.url + file.name


def plain_name(name: str) -> str:
    """The name, if it is that of a file and of no place elsewhere."""
    if not _PLAIN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a plain file name")
    return name


def manifest_named(name: str) -> Manifest:
    """A data set of mlip's by its name, or a manifest of the user's by its path (*.yaml).

    Raises:
        MlipError: there is none, or it is not a manifest.
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
    """Name -> file of the data sets that mlip knows."""
    return {name: path for name, path in packaged_files("datasets").items() if "/" not in name}
