"""Any ASE calculator as a potential, `ase:MODULE:CLASS?key=value&key=value`; it evaluates one structure at a time.

The module is imported and its class (or function) called with the arguments, so naming a calculator runs its code. A
value is parsed as JSON if possible (`3`, `1e-3`, `true`, `null`, `[1,2]`), otherwise taken as text; write & as %26.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, PropertyNotImplementedError
from ase.data import chemical_symbols
from jaxtyping import Float

from mlip.data.records import Frame
from mlip.errors import MlipError
from mlip.functionals import UNKNOWN
from mlip.pretrained import PretrainedEntry, find, known
from mlip.pretrained.registry import is_known
from mlip.pretrained.resolving import CALCULATOR

_FORM = "ase:MODULE:CLASS?key=value, such as ase:ase.calculators.emt:EMT"


@dataclass(frozen=True)
class ForeignSpec:
    """Module, class and arguments of an ASE calculator named by the user."""

    module: str
    factory: str
    """Name of the class or function in the module."""
    arguments: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "ForeignSpec":
        """Parse ase:MODULE:CLASS?key=value.

        Raises:
            MlipError: the text does not have this form.
        """
        if not is_foreign(text):
            raise MlipError("names no calculator of ASE", where=text, fix=_FORM)
        path, _, query = text.removeprefix(CALCULATOR).partition("?")
        module, _, factory = path.partition(":")
        if not all(part.isidentifier() for part in module.split(".")) or not factory.isidentifier():
            raise MlipError("names no module and class", where=text, fix=_FORM)
        arguments: dict[str, Any] = {}
        for part in query.split("&") if query else []:
            key, equals, value = part.partition("=")
            if not equals or not key.isidentifier():
                raise MlipError(f"{part!r} is no key=value", where=text, fix=_FORM)
            if key in arguments:
                raise MlipError(f"{key} is given twice", where=text)
            arguments[key] = _value(unquote(value))
        return cls(module, factory, arguments)

    def __str__(self) -> str:
        query = "&".join(f"{key}={_text(value)}" for key, value in self.arguments.items())
        return f"{CALCULATOR}{self.module}:{self.factory}" + (f"?{query}" if query else "")

    def open(self) -> BaseCalculator:
        """Import the module and create the calculator.

        Raises:
            MlipError: the module or class does not exist, or creating the calculator fails.
        """
        try:
            make = getattr(import_module(self.module), self.factory)
        except ImportError as error:
            raise MlipError(
                f"cannot be imported: {_one_line(error)}", where=str(self), fix="install its package beside mlip"
            ) from None
        except AttributeError:
            raise MlipError(f"the module {self.module} has no {self.factory}", where=str(self), fix=_FORM) from None
        try:
            calculator = make(**self.arguments)
        except Exception as error:  # third-party code may raise anything
            raise MlipError(f"cannot be made: {_one_line(error)}", where=str(self)) from None
        if not hasattr(calculator, "get_property"):
            raise MlipError(f"makes a {type(calculator).__name__}, which is no calculator of ASE", where=str(self))
        return calculator


def is_foreign(text: str) -> bool:
    """Whether the text has the prefix of an ASE calculator."""
    return text.startswith(CALCULATOR)


def foreign_name(potential: Any) -> str | None:
    """The text ase:MODULE:CLASS for a potential that only an ASE calculator can evaluate; None for mlip's own
    potentials.

    Args:
        potential: what the user gave as a potential: such a text, the name of a registered potential that mlip cannot
            convert, or anything else.
    """
    if not isinstance(potential, str | os.PathLike):
        return None
    text = os.fspath(potential)
    if is_foreign(text):
        return text
    if is_known(text) and not Path(text).exists():
        entry = find(text)
        return entry.ase if entry.converter is None else None
    return None


def check_no_precision(dtype: str | None) -> None:
    """Check that no precision was requested for an ASE calculator.

    Raises:
        MlipError: `dtype` is not None.
    """
    if dtype is not None:
        raise MlipError(
            "a calculator of ASE has its own precision",
            where=f"dtype={dtype}",
            fix="leave it out, or give the calculator an argument: ase:MODULE:CLASS?key=value",
        )


@dataclass(frozen=True, eq=False)
class ForeignPotential:
    """An ASE calculator with the prediction methods of a `Potential`; evaluates one structure at a time."""

    spec: ForeignSpec
    calculator: BaseCalculator

    @classmethod
    def open(cls, text: str) -> "ForeignPotential":
        """Create a potential from the text that names an ASE calculator.

        Args:
            text: ase:MODULE:CLASS?key=value.

        Raises:
            MlipError: see `ForeignSpec.parse` and `ForeignSpec.open`.
        """
        spec = ForeignSpec.parse(text)
        return cls(spec, spec.open())

    @property
    def name(self) -> str:
        """Name in tables: that of the registered potential, otherwise that of the class."""
        return self.spec.factory if self._entry is None else self._entry.name

    @property
    def functional(self) -> str:
        """Functional of a registered potential; "unknown" for any other calculator."""
        return UNKNOWN if self._entry is None else self._entry.functional

    @cached_property
    def _entry(self) -> PretrainedEntry | None:
        """Registry entry with this calculator and these arguments, if there is one."""
        named = {entry.ase: entry for entry in known().values() if entry.ase is not None}
        return next((entry for text, entry in named.items() if ForeignSpec.parse(text) == self.spec), None)

    @cached_property
    def identity(self) -> dict[str, str]:
        """Identity of the calculator: name, text, package, and a SHA-256 hash of text, package and the files among its
        arguments.

        Weights inside a package are identified only by the package's version.
        """
        package = _package(self.spec.module)
        content = hashlib.sha256(f"{self.spec} {package}".encode())
        for value in self.spec.arguments.values():
            if isinstance(value, str) and Path(value).is_file():
                content.update(hashlib.sha256(Path(value).read_bytes()).digest())
        return {"name": self.name, "ase": str(self.spec), "package": package, "sha256": content.hexdigest()}

    @property
    def reference_energies_by_z(self) -> Float[np.ndarray, "119"]:
        """Zeros by atomic number, eV: a calculator returns total energies and no reference energies."""
        return np.zeros(len(chemical_symbols))

    def check_elements(self, numbers: Iterable[int], where: str | None = None) -> None:
        """Accept all elements: the calculator itself raises an error for those that it does not know."""

    def predict(self, structures: Sequence[Atoms | Frame]) -> list[dict[str, Any]]:
        """Energies, forces and stresses of structures, in their order; none is modified.

        Returns:
            A dict for each structure: `energy` eV, `forces` (n, 3) eV/A, `stress` (6,) eV/A^3 (NaN if the cell has no
            volume or the calculator gives no stress).

        Raises:
            MlipError: the calculator failed; names the structure by its index.
        """
        return [self.evaluate(structure, where=f"structure {k}") for k, structure in enumerate(structures)]

    def try_predict(self, structures: Sequence[Atoms | Frame]) -> list[dict[str, Any] | MlipError]:
        """Predictions like those of `predict`, with the error in place of a structure for which the calculator
        failed."""
        return [self._tried(structure) for structure in structures]

    def _tried(self, structure: Atoms | Frame) -> dict[str, Any] | MlipError:
        try:
            return self.evaluate(structure)
        except MlipError as error:
            return error

    def evaluate(self, structure: Atoms | Frame, where: str | None = None) -> dict[str, Any]:
        """Energy, forces and stress of one structure, in the format of `predict`.

        Raises:
            MlipError: the calculator failed; includes its error message.
        """
        atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
        atoms.calc = self.calculator
        try:
            energy = float(atoms.get_potential_energy())
            forces = np.array(atoms.get_forces(), np.float64)
            stress = self._stress(atoms)
        except Exception as error:  # third-party code may raise anything: an unknown element, an isolated atom
            raise MlipError(f"{self.name} failed: {_one_line(error)}", where=where) from None
        return {"energy": energy, "forces": forces, "stress": stress}

    @staticmethod
    def _stress(atoms: Atoms) -> np.ndarray:
        if abs(atoms.cell.volume) == 0:
            return np.full(6, np.nan)
        try:
            return np.array(atoms.get_stress(), np.float64)
        except (PropertyNotImplementedError, NotImplementedError):
            return np.full(6, np.nan)


def _package(module: str) -> str:
    """Name and version of the distribution that provides a module; the module's own name if no distribution does."""
    top = module.partition(".")[0]
    names = packages_distributions().get(top, [])
    try:
        return " ".join(f"{name} {version(name)}" for name in dict.fromkeys(names)) or top
    except PackageNotFoundError:
        return top


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("%", "%25").replace("&", "%26")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
