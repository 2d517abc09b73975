"""A screening recipe: all settings of a round."""

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
"""Maximum number of different elements of a prototype: 83 elements on 6 sites have 2.5e11 assignments."""

ELEMENTS = tuple(
    symbol
    for symbol in chemical_symbols[1:95]
    if symbol not in ("He", "Ne", "Ar", "Kr", "Xe", "Rn", "Po", "At", "Fr", "Ra", "Pm")
)
"""The 83 elements from H to Pu in ALEXANDRIA's crystals (no noble gas, no Po, At, Fr, Ra), without promethium."""


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
    """A store, a folder of CIF files, or `aflow`: pymatgen's set of AFLOW prototypes; or a list of these."""
    sites: tuple[SiteCount, ...] = (2, 3)
    """Allowed numbers of different elements in a prototype."""
    max_atoms: PositiveInt = 20
    """Maximum number of atoms in the primitive cell."""

    @property
    def sources(self) -> tuple[Path, ...]:
        """The sources, as a tuple."""
        return (self.source,) if isinstance(self.source, Path) else self.source


class ElementsRecipe(_Section):
    """Elements that replace those of a prototype."""

    among: Symbols = ELEMENTS
    exclude: Symbols = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """Symbols of the elements, by atomic number."""
        return tuple(s for s in chemical_symbols[1:] if s in self.among and s not in self.exclude)


class RulesRecipe(_Section):
    """Chemical rules that candidates must obey to be predicted (requires the extra `screening`)."""

    charge_neutral: bool = False
    """Require that some choice of oxidation states of ICSD 2024 (`smact`) is neutral."""
    pauling: bool = False
    """Require that in one of those choices the cations are less electronegative than the anions."""
    alloys: bool = True
    """Accept candidates that consist of metals only."""

    @model_validator(mode="after")
    def _pauling_needs_charges(self):
        if self.pauling and not self.charge_neutral:
            raise ValueError("pauling is a rule on neutral choices of charges: set charge_neutral too")
        return self


class KeepRecipe(_Section):
    """Criteria for candidates to pass; of each composition only the best one does."""

    below: float | dict[SiteCount, float]
    """Predicted distance to the hull to stay below, eV/atom; or one per number of elements: {2: 0.2, 3: 0.05}."""
    at_most: PositiveInt | None = None
    """Number of candidates to keep, those of lowest distance; null = all."""

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
        """Distance to the hull below which a candidate with this number of elements may pass, eV/atom."""
        return self.below[n_elements] if isinstance(self.below, dict) else self.below


class SieveRecipe(_Section):
    """A model of compositions that drops most candidates before the property model."""

    model: Path
    """Property model that predicts e_above_hull from compositions (CrabNet): a file, or a name."""
    below: float
    """Predicted distance to the hull from which a composition is dropped, eV/atom."""

    @property
    def model_file(self) -> Path:
        """The model's file."""
        return resolve(self.model)


class RelaxRecipe(_Section):
    """Relaxation of the candidates that pass."""

    potential: Path
    """A file, or a name from `mlip models`."""
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
    """Property model that predicts e_above_hull (CGAT, ALIGNN): a file, or a name from `mlip models`."""
    prototypes: PrototypesRecipe
    sieve: SieveRecipe | None = None
    """Sieve before the property model; null = the model predicts all candidates."""
    elements: ElementsRecipe = ElementsRecipe()
    rules: RulesRecipe = RulesRecipe()
    keep: KeepRecipe
    relax: RelaxRecipe | None = None
    """Relaxation with a potential; null = candidates are written as substituted."""
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
        """Write the recipe as YAML; reading it back gives an equal recipe."""
        path.write_text(OmegaConf.to_yaml(OmegaConf.create(self.model_dump(mode="json"))))
