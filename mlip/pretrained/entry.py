"""Schema of a YAML file of this folder: one published potential."""

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LICENSES = Path(__file__).parent / "licenses"

Converter = Literal["m3gnet", "matgl", "mace", "mattersim", "nequix", "sevennet", "chgnet"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class License(_Strict):
    """Under which terms the weights are published."""

    id: str
    """SPDX identifier, or LicenseRef-NAME of one that SPDX does not list."""
    url: str
    redistribution: str
    """Who may pass the weights on, and how."""

    @property
    def text(self) -> str | None:
        """The terms that a user must know before using the weights, of a license that is not an open one."""
        path = _LICENSES / f"{self.id.removeprefix('LicenseRef-')}.txt"
        return path.read_text(encoding="utf-8") if path.is_file() else None


class WeightsFile(_Strict):
    """One file of a published checkpoint."""

    name: str
    """Name that the converter expects."""
    urls: tuple[str, ...] = ()
    """Where the publisher offers it, tried in this order."""
    path: str | None = None
    """Where it lies inside the installed package of `WeightsSource.package`."""
    bytes: int | None = Field(default=None, gt=0)
    sha256: str | None = None
    """None: published nowhere, so the file is not fetched by itself."""

    @field_validator("name")
    @classmethod
    def _is_plain(cls, name: str) -> str:
        if not _FILE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a plain file name")
        return name

    @field_validator("sha256")
    @classmethod
    def _is_digest(cls, digest: str | None) -> str | None:
        if digest is not None and not _SHA256.fullmatch(digest):
            raise ValueError(f"{digest!r} is no SHA-256 in lower-case hexadecimal digits")
        return digest

    @field_validator("urls")
    @classmethod
    def _are_https(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        if insecure := [url for url in urls if not url.startswith("https://")]:
            raise ValueError(f"{insecure[0]} is not https")
        return urls

    @field_validator("path")
    @classmethod
    def _is_inside(cls, path: str | None) -> str | None:
        if path is not None and (path.startswith("/") or ".." in path.split("/")):
            raise ValueError(f"{path!r} is not a path inside a package")
        return path


class WeightsSource(_Strict):
    """Where the weights come from: files at a publisher's, or files inside an installed package."""

    homepage: str
    files: tuple[WeightsFile, ...] = Field(min_length=1)
    package: str | None = None
    """Import name of the Python package that ships the files."""
    install: str | None = None
    """Requirement that pip installs to have that package, such as "sevenn==0.13.0"."""
    is_pickle: bool = False
    """Whether reading the files runs code that is in them; the pinned SHA-256 makes that acceptable."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> "WeightsSource":
        for file in self.files:
            if (self.package is None) != (file.path is None) or (self.package is not None and file.urls):
                raise ValueError(f"{file.name}: files of a package have a path, others URLs")
        return self


class ConvertOptions(_Strict):
    """Options of `mlip convert` for the checkpoint."""

    functional: str | None = None
    aggregate: Literal["center", "neighbor"] | None = None
    head: str | None = None
    predicts: str | None = None

    @property
    def arguments(self) -> list[str]:
        """The options as they stand on the command line."""
        return [part for key, value in self.model_dump().items() if value is not None for part in (f"--{key}", value)]


class MeasuredErrors(_Strict):
    """Mean absolute errors on a public set, as mlip's own benchmarks measured them."""

    data: str
    materials: int
    energy: float | None = None
    """meV/atom, of labeled structures."""
    forces: float | None = None
    """eV/A."""
    stress: float | None = None
    """GPa."""
    relaxed_volume: float | None = None
    """A^3/atom, after relaxation."""
    relaxed_energy: float | None = None
    """meV/atom, after relaxation."""


class PretrainedEntry(_Strict):
    """A published potential."""

    name: str
    title: str
    """Name that its publisher uses."""
    aliases: tuple[str, ...] = ()
    family: str
    functional: str
    """As the potential's file names it."""
    hubbard_u: str = ""
    """Which part of the training data has a +U correction; empty: none."""
    dispersion: str = ""
    """Dispersion correction of the training data; empty: none."""
    elements: int | None = None
    """How many elements it knows, where that is published."""
    training_data: str
    parameters: int | None = None
    citation: tuple[str, ...] = Field(min_length=1)
    license: License
    source: WeightsSource
    converter: Converter | None
    """The reader of `mlip convert`; None: mlip cannot read this network yet."""
    options: ConvertOptions = ConvertOptions()
    ase: str | None = None
    """How the publisher's own ASE calculator is named, ase:MODULE:CLASS?key=value."""
    errors: tuple[MeasuredErrors, ...] = ()
    note: str = ""

    @field_validator("name", "aliases")
    @classmethod
    def _are_plain(cls, names: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in (names,) if isinstance(names, str) else names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a plain name in lower case")
        return names

    @property
    def names(self) -> tuple[str, ...]:
        """Its name, and its other names."""
        return (self.name, *self.aliases)

    @property
    def is_fetchable(self) -> bool:
        """Whether all files can be had and checked without the user's help."""
        return all(file.sha256 is not None and (file.urls or file.path) for file in self.source.files)

    @property
    def bytes(self) -> int | None:
        """Size of all files together, if it is known."""
        sizes = [file.bytes for file in self.source.files]
        return None if None in sizes else sum(sizes)

    @property
    def state(self) -> Literal["ready", "by hand", "not readable yet"]:
        """State for `mlip fetch`, which can fetch and convert it, convert what the user has fetched, or nothing yet."""
        if self.converter is None:
            return "not readable yet"
        return "ready" if self.is_fetchable else "by hand"
