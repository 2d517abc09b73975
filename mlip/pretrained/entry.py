"""Schema of the YAML files in this folder. Each describes one potential, published by others or shipped with mlip."""

import re
from pathlib import Path
from typing import Literal

from ase.data import atomic_numbers
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator, model_validator

_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LICENSES = Path(__file__).parent / "licenses"

Converter = Literal["m3gnet", "matgl", "mace", "mattersim", "nequix", "sevennet", "chgnet", "mlip"]
"""Readers of `mlip convert`; "mlip" means that the file is in mlip's own format and needs no conversion."""

FEW_FRAMES = 100
"""Number of training frames below which the model card names an element as hardly known to the potential."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class License(_Strict):
    """License under which the weights are published."""

    id: str
    """SPDX identifier, or LicenseRef-NAME for a license that SPDX does not list."""
    url: str
    redistribution: str
    """Who may redistribute the weights, and under which conditions."""

    @property
    def text(self) -> str | None:
        """Terms that a user must know before using the weights; None for an open license."""
        path = _LICENSES / f"{self.id.removeprefix('LicenseRef-')}.txt"
        return path.read_text(encoding="utf-8") if path.is_file() else None


class WeightsFile(_Strict):
    """One file of a published checkpoint."""

    name: str
    """File name that the converter expects."""
    urls: tuple[str, ...] = ()
    """Addresses of the file at its publisher, tried in this order."""
    path: str | None = None
    """Path of the file inside the installed package `WeightsSource.package`."""
    bytes: int | None = Field(default=None, gt=0)
    sha256: str | None = None
    """SHA-256 of the file; None if it is not published, in which case the file is not downloaded automatically."""

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
    """Source of the weights: a publisher's files, files inside an installed package, or a file inside mlip."""

    homepage: str
    files: tuple[WeightsFile, ...] = Field(min_length=1)
    package: str | None = None
    """Import name of the Python package that ships the files."""
    install: str | None = None
    """pip requirement that provides the package, such as "sevenn==0.13.0"."""
    is_pickle: bool = False
    """Whether reading the files runs code that is in them, which the pinned SHA-256 makes acceptable."""
    bundled: bool = False
    """Whether the weights come with mlip, as one file in mlip's own format in `weights/`, beside the entry."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> "WeightsSource":
        if self.bundled:
            return self._checked_bundle()
        for file in self.files:
            if (self.package is None) != (file.path is None) or (self.package is not None and file.urls):
                raise ValueError(f"{file.name}: files of a package have a path, others URLs")
        return self

    def _checked_bundle(self) -> "WeightsSource":
        file = self.files[0]
        if len(self.files) > 1 or not file.name.endswith(".safetensors") or self.is_pickle:
            raise ValueError("mlip bundles one .safetensors file")
        if self.package or self.install or file.urls or file.path:
            raise ValueError(f"{file.name}: is inside mlip, and comes from nowhere else")
        if file.bytes is None or file.sha256 is None:
            raise ValueError(f"{file.name}: its bytes and sha256 are missing")
        return self


class ConvertOptions(_Strict):
    """Options of `mlip convert` for the checkpoint."""

    functional: str | None = None
    aggregate: Literal["center", "neighbor"] | None = None
    head: str | None = None
    predicts: str | None = None

    @property
    def arguments(self) -> list[str]:
        """The options as command-line arguments."""
        return [part for key, value in self.model_dump().items() if value is not None for part in (f"--{key}", value)]


class MeasuredErrors(_Strict):
    """Errors on a set of structures, measured by mlip's own benchmarks; mean absolute errors unless stated
    otherwise."""

    data: str
    materials: int
    labels: str = "DFT"
    """Origin of the reference energies, forces and stresses: DFT, or a potential (the teacher)."""
    energy: float | None = None
    """Error of the energies of labeled structures, meV/atom."""
    forces: float | None = None
    """Error of the forces on labeled structures, eV/A."""
    stress: float | None = None
    """Error of the stresses of labeled structures, GPa."""
    forces_slope: float | None = None
    """Slope of predicted against labeled forces (`mlip evaluate`); below 1 means softer than the labels."""
    relaxed_volume: float | None = None
    """Error of the volume after relaxation, A^3/atom."""
    relaxed_volume_percent: float | None = None
    """Mean absolute percentage error of volumes after relaxation, Table 3's MAPE."""
    relaxed_energy: float | None = None
    """Error of the energy after relaxation, meV/atom."""
    energy_outliers_percent: float | None = None
    """Percentage of relaxations with an energy off by more than 1.5 eV/atom."""
    failed_percent: float | None = None
    """Percentage of relaxations that gave no structure."""

    def __str__(self) -> str:
        values = ((name, getattr(self, key), unit) for key, (name, unit) in MEASURES.items())
        told = [f"{name} {value:g}{unit}" for name, value, unit in values if value is not None]
        against = "" if self.labels == "DFT" else f", against {self.labels}"
        return f"{', '.join(told)} (mean absolute, {self.materials:,} materials{against})"


MEASURES = {
    "energy": ("energy", " meV/atom"),
    "forces": ("forces", " eV/A"),
    "stress": ("stress", " GPa"),
    "forces_slope": ("slope of the forces", ""),
    "relaxed_volume": ("volume after relaxation", " A^3/atom"),
    "relaxed_volume_percent": ("relative volume after relaxation", " %"),
    "relaxed_energy": ("energy after relaxation", " meV/atom"),
    "energy_outliers_percent": ("energies that are outliers", " %"),
    "failed_percent": ("failed relaxations", " %"),
}
"""Names and units of the errors, in the order in which they are printed."""


class LearnedFrom(_Strict):
    """A data set or potential that the potential was trained on, directly or through its teacher."""

    what: str
    license: str
    """SPDX identifier of its license."""
    citation: tuple[str, ...] = Field(min_length=1)
    frames: int | None = None
    """Number of its structures that were used in training, if it is a set of structures."""


class ModelCard(_Strict):
    """Facts about a potential that we trained ourselves: its training data and teacher, and where not to use it."""

    teacher: str | None = None
    """Registered name of the potential whose energies, forces and stresses it was trained on."""
    learned_from: tuple[LearnedFrom, ...] = Field(min_length=1)
    made_by: str
    """Command in the repository that reproduces the potential."""
    warnings: tuple[str, ...] = Field(min_length=1)
    """Cases in which the potential should not be used, one sentence each."""
    frames_by_element: dict[str, NonNegativeInt]
    """Number of training frames that contain each element, by symbol."""

    @field_validator("frames_by_element")
    @classmethod
    def _are_elements(cls, frames: dict[str, int]) -> dict[str, int]:
        if unknown := sorted(set(frames) - (set(atomic_numbers) - {"X"})):
            raise ValueError(f"{unknown[0]!r} is no element")
        return dict(sorted(frames.items(), key=lambda item: atomic_numbers[item[0]]))

    @property
    def rare_elements(self) -> list[str]:
        """Symbols of elements with fewer than `FEW_FRAMES` training frames, by atomic number."""
        return [symbol for symbol, frames in self.frames_by_element.items() if frames < FEW_FRAMES]


class PretrainedEntry(_Strict):
    """A potential that is registered by name."""

    name: str
    title: str
    """Name that the publisher uses."""
    aliases: tuple[str, ...] = ()
    family: str
    functional: str
    """Functional of the training data, named as in the potential's file."""
    hubbard_u: str = ""
    """Part of the training data that has a +U correction; empty if none has."""
    dispersion: str = ""
    """Dispersion correction of the training data; empty if there is none."""
    elements: int | None = None
    """Number of elements that the potential knows; None if it is not published."""
    training_data: str
    parameters: int | None = None
    citation: tuple[str, ...] = Field(min_length=1)
    license: License
    source: WeightsSource
    converter: Converter | None
    """Reader of `mlip convert`; None if mlip cannot read this network yet."""
    options: ConvertOptions = ConvertOptions()
    ase: str | None = None
    """The publisher's own ASE calculator, as ase:MODULE:CLASS?key=value."""
    errors: tuple[MeasuredErrors, ...] = ()
    card: ModelCard | None = None
    """Model card, for a potential that we trained ourselves."""
    note: str = ""

    @field_validator("name", "aliases")
    @classmethod
    def _are_plain(cls, names: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in (names,) if isinstance(names, str) else names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a plain name in lower case")
        return names

    @model_validator(mode="after")
    def _is_ours_if_bundled(self) -> "PretrainedEntry":
        if self.source.bundled != (self.converter == "mlip"):
            raise ValueError("the converter of a bundled potential, and of no other, is mlip")
        if self.source.bundled and self.card is None:
            raise ValueError("a bundled potential has a model card")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Name and aliases of the potential."""
        return (self.name, *self.aliases)

    @property
    def is_fetchable(self) -> bool:
        """Whether all files can be obtained and verified without the user's help."""
        return all(file.sha256 is not None and (file.urls or file.path) for file in self.source.files)

    @property
    def bytes(self) -> int | None:
        """Total size of all files; None if it is not known."""
        sizes = [file.bytes for file in self.source.files]
        return None if None in sizes else sum(sizes)

    @property
    def state(self) -> Literal["in mlip", "ready", "by hand", "not readable yet"]:
        """State for `mlip fetch`: "in mlip" needs no fetching, "ready" can be fetched and converted, "by hand" can be
        converted once the user has downloaded it, and "not readable yet" cannot be converted."""
        if self.source.bundled:
            return "in mlip"
        if self.converter is None:
            return "not readable yet"
        return "ready" if self.is_fetchable else "by hand"
