"""A potential given to a command by file, name or ase:MODULE:CLASS, and its identification in records."""

import hashlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from mlip.foreign import ForeignPotential, check_no_precision, foreign_name
from mlip.potential import Potential, open_potential
from mlip.pretrained import find, resolve
from mlip.pretrained.registry import is_known

_ITS_OWN = "the calculator's"


@dataclass(frozen=True)
class NamedPotential:
    """An opened potential and its origin."""

    potential: Potential | ForeignPotential
    source: str | Path
    """File of the potential, or text of a calculator; either can be used to open it again."""
    record: dict[str, str]
    """Entry in the header of a results file: name and sha256, and more for a calculator."""
    license: str | None = None
    """License from the registry, if the potential was given by a registered name."""

    @property
    def name(self) -> str:
        return Path(self.record["name"]).stem if isinstance(self.potential, Potential) else self.record["name"]

    @property
    def facts(self) -> dict[str, str | None]:
        """Name, functional and license, for display."""
        return {"name": self.name, "functional": self.potential.functional, "license": self.license}

    def precision(self, dtype: str | None) -> dict[str, str]:
        """Option `dtype` for relaxations, by default float32; empty for a calculator.

        Raises:
            MlipError: `dtype` is given for a calculator.
        """
        if isinstance(self.potential, Potential):
            return {"dtype": dtype or "float32"}
        check_no_precision(dtype)
        return {}


def facts_of(potential: Potential | ForeignPotential) -> dict[str, str | None]:
    """Name, functional and license as stated by the potential itself; the name defaults to that of its model."""
    if isinstance(potential, ForeignPotential):
        return {"name": potential.name, "functional": potential.functional, "license": None}
    provenance = potential.metadata.provenance
    name = provenance.get("name", potential.config.model)
    return {"name": name, "functional": potential.functional, "license": provenance.get("license")}


def open_named(potential: str | PathLike) -> NamedPotential:
    """Open a potential from a file, a name, or ase:MODULE:CLASS.

    Raises:
        MlipError: see `mlip.pretrained.resolve`, `open_potential` and `ForeignPotential.open`.
    """
    asked = str(potential)
    license_id = find(asked).license.id if is_known(asked) and not Path(asked).exists() else None
    text = foreign_name(potential)
    if text is not None:
        opened = ForeignPotential.open(text)
        return NamedPotential(opened, text, opened.identity, license_id)
    path = resolve(potential)  # records name the file, however the potential was given
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return NamedPotential(open_potential(path), path, {"name": path.name, "sha256": digest}, license_id)


def precision_recorded(options: dict[str, Any]) -> str:
    """Precision as stored in headers, including that of a calculator."""
    return options.get("dtype", _ITS_OWN)
