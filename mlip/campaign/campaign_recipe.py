"""The recipe of a campaign: everything that decides its rounds."""

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
"""Keys that do not touch the rounds that are done: a campaign may go on with other values of them."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StartRecipe(_Section):
    """Entries and hull before the first round."""

    entries: Path
    """Store of calculated crystals: prototypes, and what the first model learns from. Never modified."""
    hull: tuple[Path, ...]
    """Reference phases of the hull: stores, JSON of entries or of formation energies."""
    elements: Path | Literal["calculate"] | None = None
    """Energies of the elements, by which formation energies are made where the hull is of such: JSON {symbol:
    eV/atom}, of the same level as the calculations; or `calculate`: elementary crystals are calculated first."""
    corrections: Literal["mp2020"] | None = None
    """Corrections of energies: those of the Materials Project where the hull's references have them; null = on neither
    side."""
    check: NonNegativeInt = 0
    """Entries that are calculated again before the first round: how far are the formation energies from theirs?"""


class NewPrototypesRecipe(_Section):
    """Crystals whose elements are replaced: those of the entries so far, and further ones."""

    further: tuple[Path, ...] = ()
    """Sources before the entries: `aflow`, folders of CIF files, stores."""
    of_entries: bool = True
    """Each prototype among the entries so far counts."""
    sites: tuple[SiteCount, ...] = (2, 3)
    """Numbers of different elements that a prototype may have."""
    max_atoms: PositiveInt = 20
    """In its primitive cell."""


class ModelRecipe(_Section):
    """The property model that proposes."""

    recipe: str = "cgat-hull"
    """Recipe of `mlip train`, by name or file, of a model that predicts e_above_hull."""
    values: dict[str, Any] = Field(default_factory=dict)
    """Sections of that recipe with values in the place of its own: {train: {epochs: 20}}."""
    start: Path | None = None
    """Model of the first round: a file, or a name; null = it is trained on start.entries."""
    from_last: bool = True
    """Training goes on from the last model. false = it begins anew."""
    retrain_after: PositiveInt = 1000
    """New entries that are enough to train again."""
    test_at_most: PositiveInt = 5000
    """Entries of the test split on which each model is tested."""


class DuplicatesRecipe(_Section):
    """When two crystals are the same, as pymatgen's StructureMatcher has it."""

    ltol: PositiveFloat = 0.2
    """Fraction of a lattice vector's length."""
    stol: PositiveFloat = 0.3
    """Fraction of the free length per atom, (V/n)^(1/3)."""
    angle_tol: PositiveFloat = 5.0
    """Degrees."""


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
    """Candidates of each round that are chosen at random, to compare with; they are calculated and learned from."""
    relax: RelaxRecipe
    """Relaxation before the calculation."""
    duplicates: DuplicatesRecipe = DuplicatesRecipe()
    dft: DftRecipe
    lowest: float = -0.5
    """Calculations that come out lower than this above the hull are set aside as absurd, eV/atom."""
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of train, val and test, by composition."""
    name: str = Field("campaign", pattern=r"^[A-Za-z0-9][A-Za-z0-9_]{0,40}$")
    """First part of the ids of new entries: NAME-r001-000123."""
    seed: int = 0
    rounds: PositiveInt = 1
    """How many; more can be asked for later."""
    out: Path

    @field_validator("keep")
    @classmethod
    def _is_bounded(cls, keep: KeepRecipe) -> KeepRecipe:
        if keep.at_most is None:
            raise ValueError("at_most is how many calculations a round may ask for: set keep.at_most")
        return keep

    def screening(self, model: Path, entries: Path, symbols: tuple[str, ...], out: Path) -> ScreeningRecipe:
        """The screening of a round.

        Args:
            model: of the round.
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
        """Write as YAML that reads back to an equal recipe."""
        path.write_text(OmegaConf.to_yaml(OmegaConf.create(self.model_dump(mode="json"))), encoding="utf-8")

    def check_same(self, earlier: "CampaignRecipe", where: Path) -> None:
        """
        Raises:
            MlipError: a campaign that was begun with the earlier recipe cannot go on with this one; names the keys.
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
