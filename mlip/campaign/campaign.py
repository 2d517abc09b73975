"""A campaign: rounds of screening, calculation and training in one folder, until all are done or one waits for DFT."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from mlip.campaign.campaign_recipe import CampaignRecipe
from mlip.campaign.campaign_round import Campaign, run_round
from mlip.campaign.energies import EnergyScale, check_corrections, check_level, phases_of
from mlip.campaign.entries import FORMATION_ENERGY, in_blocks, start_entries
from mlip.campaign.folder import CampaignFolder, read_json, write_json
from mlip.campaign.references import settle_elements
from mlip.campaign.report import write_campaign_report
from mlip.campaign.status import campaign_status
from mlip.data import Store
from mlip.dft.handover import calculated_functional
from mlip.dft.recipe import SurrogateRecipe
from mlip.errors import MlipError
from mlip.files.one_writer import one_writer
from mlip.files.output_paths import make_folder
from mlip.files.whole_file import whole_file
from mlip.hull.convex_hull import Phases
from mlip.hull.growing import GrowingHull, joined
from mlip.hull.references import References, read_references
from mlip.recipe_reading import read_recipe


def run_campaign(recipe: CampaignRecipe, *, cluster: str | None = None, progress: bool = True) -> dict[str, Any]:
    """Begin or resume a campaign, and run it to its last round, or until it waits for external calculations.

    Args:
        cluster: cluster for predictions and relaxations, in the notation of `mlip.cluster.client`; None: this process.

    Returns:
        The status, as from `campaign_status`.

    Raises:
        MlipError: the folder has a campaign of another recipe, another process works there, the start's store has
            changed, or energies of several levels of theory would be combined in the hull; also errors of the steps.
    """
    folder = CampaignFolder(recipe.out)
    make_folder(recipe.out)
    refusal = MlipError("another process works at this campaign now", where=str(recipe.out))
    with one_writer(recipe.out / ".lock", refusal):
        _enter(recipe, folder)
        campaign = _opened(recipe, folder, cluster, progress)
        if campaign is not None:
            for number in range(1, recipe.rounds + 1):
                if not run_round(campaign, number):
                    break
                write_campaign_report(folder.path)
    return campaign_status(folder.path)


def close_stage(path: Path) -> None:
    """Give up calculations that are not finished, so that the stage that waits for them continues without them.

    Raises:
        MlipError: there is no campaign, or it does not wait for calculations.
    """
    status, folder = campaign_status(path), CampaignFolder(path)
    if status["waiting_for"] is None:
        raise MlipError("waits for no calculation", where=str(path))
    stage = folder.references if status["stage"] == "references" else folder.rounds[-1]
    stage.closed.touch()


def _enter(recipe: CampaignRecipe, folder: CampaignFolder) -> None:
    if folder.recipe.exists():
        recipe.check_same(read_recipe(folder.recipe, CampaignRecipe), folder.path)
    elif folder.rounds or folder.start.exists():
        raise MlipError("has rounds and no recipe.yaml", where=str(folder.path), fix="restore it, or set out=ANOTHER")
    with whole_file(folder.recipe) as partial:
        recipe.save(partial)


def _opened(recipe: CampaignRecipe, folder: CampaignFolder, cluster: str | None, progress: bool) -> Campaign | None:
    """The campaign before its first round; None while its references wait for calculations."""
    start = _settle_start(recipe, folder)
    corrected = recipe.start.corrections is not None
    scale, notes = EnergyScale(None, corrected), [start["note"]] if start["note"] else []
    if start["are_formation_energies"]:
        found = settle_elements(recipe, folder.references, progress=progress)
        if found is None:
            return None
        scale = EnergyScale(found["elements"], corrected)
        notes += _note_on_check(found["check"])
    return Campaign(recipe, folder, scale, tuple(notes), cluster, progress)


def _settle_start(recipe: CampaignRecipe, folder: CampaignFolder) -> dict[str, Any]:
    """Facts about the start. The first call writes the start's hull to the folder; later calls only check the store.

    Raises:
        MlipError: the start's store has changed since, energies of several levels of theory would be combined in the
            hull, the energies of the elements are unknown, or the store has no entry.
    """
    where = f"start.entries: {recipe.start.entries}"
    with Store(recipe.start.entries) as store:
        content = store.content_sha256
    if folder.start.exists():
        known = read_json(folder.start)
        if known["content_sha256"] != content:
            raise MlipError(
                "its content is not what it was when the campaign was begun",
                where=where,
                fix="restore the store, or begin another campaign: set out=ANOTHER",
            )
        return known
    references = read_references(recipe.start.hull)
    note = _checked_note(recipe, references)
    hull, n_entries, left_out = _begin_hull(recipe, references)
    if not n_entries:
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common()) or "it is empty"
        fix = f"entries with {FORMATION_ENERGY}" if references.are_formation_energies else "entries with energies"
        raise MlipError(f"has no entry to begin with: {why}", where=where, fix=fix)
    hull.save(folder.start_hull)
    known = {
        "content_sha256": content,
        "entries": n_entries,
        "left_out": dict(left_out),
        "are_formation_energies": references.are_formation_energies,
        "note": note,
    }
    write_json(folder.start, known)
    return known


def _checked_note(recipe: CampaignRecipe, references: References) -> str | None:
    """Check the references before anything is calculated; returns a note on levels of theory, or None.

    Raises:
        MlipError: the energies of calculations could not be combined with the hull's.
    """
    check_corrections(references, recipe.start.corrections is not None)
    is_surrogate = isinstance(recipe.dft, SurrogateRecipe)
    note = check_level(references, calculated_functional(recipe.dft), is_surrogate=is_surrogate)
    if not references.are_formation_energies:
        pure = {symbol for composition in references.compositions if len(composition) == 1 for symbol in composition}
        if missing := [symbol for symbol in recipe.elements.symbols if symbol not in pure]:
            raise MlipError(
                f"no reference phase of the elements {', '.join(missing)}",
                where="start.hull",
                fix=f"add one of each, or elements.exclude=[{','.join([*recipe.elements.exclude, *missing])}]",
            )
    elif recipe.start.elements is None:
        raise MlipError(
            "the hull's references are formation energies, and nothing gives the energies of the elements",
            where="start.elements",
            fix="start.elements=calculate, or a JSON file {symbol: eV/atom}",
        )
    return note


def _note_on_check(check: dict[str, Any] | None) -> list[str]:
    if check is None:
        return []
    return [
        f"formation energies of {check['finished']} of the start's entries, calculated again, differ from theirs by "
        f"{1000 * check['mean_difference']:+.0f} meV/atom on average, {1000 * check['mean_absolute_difference']:.0f} "
        "in size"
    ]


def _begin_hull(recipe: CampaignRecipe, references: References) -> tuple[GrowingHull, int, Counter[str]]:
    """The hull of the references and of the start's entries with other ids, the number of entries, and the reasons why
    materials are left out. The first of several phases with one id is taken."""
    phases = Phases.of(references.compositions, references.energies.corrected)  # as computed if uncorrected
    place: dict[str, int] = {}
    for k, name in enumerate(references.ids):
        place.setdefault(name, k)
    ids, every = list(place), phases.take(np.array(list(place.values()), int))
    n_entries, left_out = 0, Counter[str]()
    with Store(recipe.start.entries) as store:
        for block in in_blocks(start_entries(store, references.are_formation_energies, left_out)):
            n_entries += len(block)
            own = [entry for entry in block if place.setdefault(entry.id, -1) < 0]
            if own:
                ids += [entry.id for entry in own]
                energies = np.array([entry.energy for entry in own])
                every = joined(every, phases_of([entry.frame for entry in own], energies))
    hull = GrowingHull.begin(ids, every, are_formation_energies=references.are_formation_energies)
    return hull, n_entries, left_out
