"""A potential as commands take it, by file, name or ase:MODULE:CLASS, and how records name it."""

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
    """A potential that was opened, and where it came from."""

    potential: Potential | ForeignPotential
    source: str | Path
    """Its file, or the text of a calculator: either opens it again."""
    record: dict[str, str]
    """Its entry in the header of a results file: name, sha256, and of a calculator more."""
    license: str | None = None
    """Entry of the registry, if it was asked for by a registered name."""

    @property
    def name(self) -> str:
        return Path(self.record["name"]).stem if isinstance(self.potential, Potential) else self.record["name"]

    @property
    def facts(self) -> dict[str, str | None]:
        """Facts that a user is to know of it."""
        return {"name": self.name, "functional": self.potential.functional, "license": self.license}

    def precision(self, dtype: str | None) -> dict[str, str]:
        """The option `dtype` of its relaxations: float32 where none is asked for, and none of a calculator.

        Raises:
            MlipError: one is asked of a calculator.
        """
        if isinstance(self.potential, Potential):
            return {"dtype": dtype or "float32"}
        check_no_precision(dtype)
        return {}


def facts_of(potential: Potential | ForeignPotential) -> dict[str, str | None]:
    """Name, functional and license, as far as the potential itself tells them; a network without a name has that of
    its model."""
    if isinstance(potential, ForeignPotential):
        return {"name": potential.name, "functional": potential.functional, "license": None}
    provenance = potential.metadata.provenance
    name = provenance.get("name", potential.config.model)
    return {"name": name, "functional": potential.functional, "license": provenance.get("license")}


def open_named(potential: str | PathLike) -> NamedPotential:
    """The potential of a file, a name, or ase:MODULE:CLASS.

    Raises:
        MlipError: as `mlip.pretrained.resolve`, `open_potential` and `ForeignPotential.open`.
    """
    asked = str(potential)
    license_id = find(asked).license.id if is_known(asked) and not Path(asked).exists() else None
    text = foreign_name(potential)
    if text is not None:
        opened = ForeignPotential.open(text)
        return NamedPotential(opened, text, opened.identity, license_id)
    path = resolve(potential)  # records name the file, whatever name it was asked by
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return NamedPotential(open_potential(path), path, {"name": path.name, "sha256": digest}, license_id)


def precision_recorded(options: dict[str, Any]) -> str:
    """The precision as headers have it, also where it is a calculator's."""
    return options.get("dtype", _ITS_OWN)
