"""The recipe of a campaign: all settings of its rounds."""

from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from mlip.dft.recipe import DftRecipe
from mlip.errors import MlipError
from mlip.screening.screening_recipe import (
    ElementsRecipe,
    KeepRecipe,
    PrototypesRecipe,
    RelaxRecipe,
    RulesRecipe,
    ScreeningRecipe,
    SieveRecipe,
    SiteCount,
)

MAY_CHANGE = ("out", "rounds", "dft.cluster")
"""Keys that do not affect finished rounds: a campaign may continue with other values of them."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StartRecipe(_Section):
    """Entries and hull before the first round."""

    entries: Path
    """Store of calculated crystals: prototypes, and training data of the first model. Never modified."""
    hull: tuple[Path, ...]
    """Reference phases of the hull: stores, JSON of entries or of formation energies."""
    elements: Path | Literal["calculate"] | None = None
    """Energies of the elements, needed if the hull's references are formation energies: a JSON file {symbol: eV/atom}
    at the level of theory of the calculations; or `calculate`, to calculate elemental crystals first."""
    corrections: Literal["mp2020"] | None = None
    """Corrections of energies: `mp2020` if the hull's references have the Materials Project's; null = none on either
    side."""
    check: NonNegativeInt = 0
    """Number of entries to calculate again before the first round, to compare formation energies with the start's."""


class NewPrototypesRecipe(_Section):
    """Crystals whose elements are replaced: those of the entries so far, and further ones."""

    further: tuple[Path, ...] = ()
    """Sources read before the entries: `aflow`, folders of CIF files, stores."""
    of_entries: bool = True
    """Use each prototype among the entries so far."""
    sites: tuple[SiteCount, ...] = (2, 3)
    """Allowed numbers of different elements in a prototype."""
    max_atoms: PositiveInt = 20
    """Maximum number of atoms in the primitive cell."""


class ModelRecipe(_Section):
    """The property model that selects candidates."""

    recipe: str = "cgat-hull"
    """Recipe of `mlip train`, by name or file, for a model that predicts e_above_hull."""
    values: dict[str, Any] = Field(default_factory=dict)
    """Sections of that recipe with values that replace its own: {train: {epochs: 20}}."""
    start: Path | None = None
    """Model of the first round: a file or a name; null = train it on start.entries."""
    from_last: bool = True
    """Initialize training from the last model; false = from scratch."""
    retrain_after: PositiveInt = 1000
    """Number of new entries after which the model is trained again."""
    test_at_most: PositiveInt = 5000
    """Maximum number of entries of the test split on which each model is tested."""


class DuplicatesRecipe(_Section):
    """Tolerances of pymatgen's StructureMatcher, by which two crystals are the same."""

    ltol: PositiveFloat = 0.2
    """Tolerance of lattice vector lengths, as a fraction."""
    stol: PositiveFloat = 0.3
    """Tolerance of sites, as a fraction of the free length per atom, (V/n)^(1/3)."""
    angle_tol: PositiveFloat = 5.0
    """Tolerance of angles, degrees."""


class CampaignRecipe(_Section):
    """Rounds of candidates, calculations and training."""

    start: StartRecipe
    prototypes: NewPrototypesRecipe = NewPrototypesRecipe()
    elements: ElementsRecipe = ElementsRecipe()
    rules: RulesRecipe = RulesRecipe()
    model: ModelRecipe = ModelRecipe()
    sieve: SieveRecipe | None = None
    keep: KeepRecipe
    random: NonNegativeInt = 0
    """Number of candidates in each round that are chosen at random, calculated and trained on, for comparison."""
    relax: RelaxRecipe
    """Relaxation before the calculation."""
    duplicates: DuplicatesRecipe = DuplicatesRecipe()
    dft: DftRecipe
    lowest: float = -0.5
    """Distance to the hull below which a calculation is set aside as absurd, eV/atom."""
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of train, val and test; all entries of a composition are in one split."""
    name: str = Field("campaign", pattern=r"^[A-Za-z0-9][A-Za-z0-9_]{0,40}$")
    """First part of the ids of new entries: NAME-r001-000123."""
    seed: int = 0
    rounds: PositiveInt = 1
    """Number of rounds; may be increased later."""
    out: Path

    @field_validator("keep")
    @classmethod
    def _is_bounded(cls, keep: KeepRecipe) -> KeepRecipe:
        if keep.at_most is None:
            raise ValueError("at_most is how many calculations a round may ask for: set keep.at_most")
        return keep

    def screening(self, model: Path, entries: Path, symbols: tuple[str, ...], out: Path) -> ScreeningRecipe:
        """The screening recipe of a round.

        Args:
            model: model of the round.
            entries: store of the entries so far.
            symbols: elements that the model knows.
        """
        new = self.prototypes
        sources = (*new.further, *([entries] if new.of_entries else []))
        return ScreeningRecipe(
            model=model,
            prototypes=PrototypesRecipe(source=sources, sites=new.sites, max_atoms=new.max_atoms),
            sieve=self.sieve,
            elements=ElementsRecipe(among=symbols),
            rules=self.rules,
            keep=self.keep,
            out=out,
        )

    def save(self, path: Path) -> None:
        """Write the recipe as YAML; reading it back gives an equal recipe."""
        path.write_text(OmegaConf.to_yaml(OmegaConf.create(self.model_dump(mode="json"))), encoding="utf-8")

    def check_same(self, earlier: "CampaignRecipe", where: Path) -> None:
        """Check that a campaign that was begun with the earlier recipe can continue with this one.

        Raises:
            MlipError: keys other than `MAY_CHANGE` differ; the message names them.
        """
        then, now = (_flat(recipe.model_dump(mode="json")) for recipe in (earlier, self))
        changed = [
            f"{key} was {then.get(key)} and is {now.get(key)}"
            for key in sorted(then.keys() | now.keys())
            if key not in MAY_CHANGE and then.get(key) != now.get(key)
        ]
        if changed:
            raise MlipError(
                f"the campaign was begun with another recipe: {'; '.join(changed)}",
                where=str(where),
                fix="go on with the recipe as it was, or set out=ANOTHER; rounds and dft.cluster may change",
            )


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {name: values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{name}.{key}" if name else str(key))
    return found
