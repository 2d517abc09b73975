"""A screening recipe: everything that decides a round."""

from pathlib import Path
from typing import Annotated, Any, Literal

from ase.data import chemical_symbols
from omegaconf import OmegaConf
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from mlip.pretrained import declared_name, resolve

MAX_SITES = 6
"""Different elements of a prototype: with 83 elements and 6 sites there are 2.5e11 assignments."""

ELEMENTS = tuple(
    symbol
    for symbol in chemical_symbols[1:95]
    if symbol not in ("He", "Ne", "Ar", "Kr", "Xe", "Rn", "Po", "At", "Fr", "Ra", "Pm")
)
"""83: H to Pu, as ALEXANDRIA's crystals have them (no noble gas, no Po, At, Fr, Ra), without promethium."""


def _are_symbols(symbols: tuple[str, ...]) -> tuple[str, ...]:
    if strangers := sorted(set(symbols) - set(chemical_symbols[1:])):
        raise ValueError(f"no elements: {', '.join(strangers)}")
    return symbols


Symbols = Annotated[tuple[str, ...], AfterValidator(_are_symbols)]
SiteCount = Annotated[int, Field(ge=1, le=MAX_SITES)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PrototypesRecipe(_Section):
    """Crystals whose elements are replaced."""

    source: Path | tuple[Path, ...] = Field(union_mode="left_to_right")
    """A store, a folder of CIF files, or `aflow`: pymatgen's set of AFLOW prototypes. A list: one after the other."""
    sites: tuple[SiteCount, ...] = (2, 3)
    """Numbers of different elements that a prototype may have."""
    max_atoms: PositiveInt = 20
    """In its primitive cell."""

    @property
    def sources(self) -> tuple[Path, ...]:
        """The source or sources."""
        return (self.source,) if isinstance(self.source, Path) else self.source


class ElementsRecipe(_Section):
    """Elements that take the places of a prototype's."""

    among: Symbols = ELEMENTS
    exclude: Symbols = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """By atomic number."""
        return tuple(s for s in chemical_symbols[1:] if s in self.among and s not in self.exclude)


class RulesRecipe(_Section):
    """Chemistry that candidates must obey before they are predicted (extra `screening`)."""

    charge_neutral: bool = False
    """Some choice of oxidation states of ICSD 2024 (`smact`) is neutral."""
    pauling: bool = False
    """In one of those choices the cations are less electronegative than the anions."""
    alloys: bool = True
    """Candidates of metals only obey."""

    @model_validator(mode="after")
    def _pauling_needs_charges(self):
        if self.pauling and not self.charge_neutral:
            raise ValueError("pauling is a rule on neutral choices of charges: set charge_neutral too")
        return self


class KeepRecipe(_Section):
    """Which candidates stay: of each composition the best one."""

    below: float | dict[SiteCount, float]
    """Predicted distance to the hull, eV/atom; or one for each number of elements: {2: 0.2, 3: 0.05}."""
    at_most: PositiveInt | None = None
    """The so many lowest; null = all."""

    @field_validator("below", mode="before")
    @classmethod
    def _is_a_number_or_a_mapping(cls, below: Any) -> Any:
        if isinstance(below, dict):
            return below
        try:
            return float(below)
        except (TypeError, ValueError):
            raise ValueError("input should be a valid number, or a mapping such as {2: 0.2, 3: 0.05}") from None

    def cutoff(self, n_elements: int) -> float:
        """Distance below which a candidate of so many elements may stay, eV/atom."""
        return self.below[n_elements] if isinstance(self.below, dict) else self.below


class SieveRecipe(_Section):
    """A model of compositions that spares the property model most candidates."""

    model: Path
    """Property model that predicts e_above_hull from compositions (CrabNet): a file, or a name."""
    below: float
    """Predicted distance to the hull, eV/atom, above which a composition is dropped."""

    @property
    def model_file(self) -> Path:
        """The model's file."""
        return resolve(self.model)


class RelaxRecipe(_Section):
    """How those that stay are relaxed."""

    potential: Path
    """A file, or a name that `mlip models` lists."""
    fmax: PositiveFloat = 0.05
    steps: PositiveInt = 500
    symmetry: bool = True
    """Keep the prototype's space group."""
    dtype: Literal["float32", "float64"] = "float32"

    @field_validator("potential")
    @classmethod
    def _by_its_own_name(cls, potential: Path) -> Path:
        return Path(declared_name(str(potential)))

    @property
    def file(self) -> Path:
        """The potential's file."""
        return resolve(self.potential)


class ScreeningRecipe(_Section):
    """One round of screening."""

    model: Path
    """Property model that predicts e_above_hull (CGAT, ALIGNN): a file, or a name that `mlip models` lists."""
    prototypes: PrototypesRecipe
    sieve: SieveRecipe | None = None
    """null = the model predicts all candidates."""
    elements: ElementsRecipe = ElementsRecipe()
    rules: RulesRecipe = RulesRecipe()
    keep: KeepRecipe
    relax: RelaxRecipe | None = None
    """null = candidates are written as substituted."""
    out: Path

    @model_validator(mode="after")
    def _elements_suffice(self):
        n = len(self.elements.symbols)
        if not self.prototypes.sites or n < max(self.prototypes.sites):
            raise ValueError(f"{n} elements do not suffice for prototypes.sites {list(self.prototypes.sites)}")
        return self

    @model_validator(mode="after")
    def _each_number_of_elements_has_a_cutoff(self):
        below = self.keep.below
        if isinstance(below, dict) and (missing := sorted(set(self.prototypes.sites) - below.keys())):
            raise ValueError(f"keep.below has no cutoff for {missing} elements, which prototypes.sites asks for")
        return self

    @property
    def model_file(self) -> Path:
        """The property model's file."""
        return resolve(self.model)

    def save(self, path: Path) -> None:
        """Write as YAML that reads back to an equal recipe."""
        path.write_text(OmegaConf.to_yaml(OmegaConf.create(self.model_dump(mode="json"))))
