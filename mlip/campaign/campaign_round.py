"""A round of a campaign, from the entries so far to an extended hull. Each step writes its file when it is done, so a
killed round resumes where it was, and nothing is calculated twice."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mlip.campaign.calculating import calculated, count_reasons, finished, write_outcomes
from mlip.campaign.campaign_recipe import CampaignRecipe
from mlip.campaign.choosing import BY_CHANCE, BY_MODEL, choose
from mlip.campaign.energies import EnergyScale, phases_of
from mlip.campaign.entries import Entry, results_in, start_entries, write_entries, write_results
from mlip.campaign.folder import CampaignFolder, RoundFolder, read_json, write_json
from mlip.campaign.model import settle_model
from mlip.campaign.proposing import DUPLICATE, PROPOSED, proposals_of, propose
from mlip.data import Store
from mlip.dft.handover import calculated_functional
from mlip.dft.records import Outcome
from mlip.errors import MlipError
from mlip.hull.convex_hull import Phases
from mlip.hull.growing import GrowingHull
from mlip.property_model import PropertyModel

ABSURD = "absurdly low energy"
NO_SCALE = "not on the hull's scale"


@dataclass(frozen=True)
class Campaign:
    """A campaign whose rounds can be run."""

    recipe: CampaignRecipe
    folder: CampaignFolder
    scale: EnergyScale
    notes: tuple[str, ...]
    cluster: str | None
    progress: bool


def run_round(campaign: Campaign, number: int) -> bool:
    """Run a round to its end, or until it waits for calculations.

    Returns:
        Whether the round is done.
    """
    recipe, folder = campaign.recipe, campaign.folder.round(number)
    if folder.is_done:
        return True
    folder.path.mkdir(parents=True, exist_ok=True)
    earlier = [campaign.folder.round(k) for k in range(1, number)]
    last = earlier[-1] if earlier else None
    hull = GrowingHull.load(last.hull if last else campaign.folder.start_hull)
    if not folder.entries.exists():
        with folder.timed("entries"):
            _write_entries(campaign, folder, earlier, hull)
    with folder.timed("train"):
        model = settle_model(recipe, folder, last, quiet=not campaign.progress)
    if not folder.proposals.exists():
        _propose(campaign, folder, earlier, model)
    with folder.timed("dft"):
        outcomes = calculated(recipe.dft, proposals_of(folder), folder, progress=campaign.progress)
    if outcomes is None:
        return False
    _close(campaign, folder, outcomes, hull)
    return True


def _propose(campaign: Campaign, folder: RoundFolder, earlier: Sequence[RoundFolder], model: Path) -> None:
    """Screen and relax candidates, and write the proposals to hand over."""
    recipe, how = campaign.recipe, {"cluster": campaign.cluster, "progress": campaign.progress}
    with folder.timed("screen"):
        symbols = known_symbols(recipe, model)
        screening = recipe.screening(model, folder.entries, symbols, folder.screening)
        seed = _seed(recipe, folder.number)
        chosen = choose(screening, folder, earlier, n_random=recipe.random, seed=seed, **how)
    with folder.timed("relax"):
        propose(recipe, folder, chosen, **how)


def _close(campaign: Campaign, folder: RoundFolder, outcomes: Sequence[Outcome], hull: GrowingHull) -> None:
    """Add the results to store and hull, and write the round's summary."""
    with folder.timed("hull"):
        entries, distances = _taken_in(campaign, folder, outcomes, hull)
        change = hull.add([entry.id for entry in entries], _phases(entries))
        hull.save(folder.hull)
        hull.save(campaign.folder.hull)
    after = np.maximum(hull.distances_of(_phases(entries)), 0.0) if entries else np.zeros(0)
    change_of_hull = {
        "entries": len(hull),
        "vertices": int(hull.is_vertex.sum()),
        "new_vertices": len(change.new_vertices),
        "fallen_vertices": len(change.fallen_vertices),
        "changed_distances": change.n_changed,
    }
    summary = _summary(campaign, folder, entries, distances, after.tolist(), change_of_hull)
    write_json(folder.summary, summary)


def _write_entries(campaign: Campaign, folder: RoundFolder, earlier: Sequence[RoundFolder], hull: GrowingHull) -> None:
    recipe = campaign.recipe
    with Store(recipe.start.entries) as start:
        entries: Iterator[Entry] = chain(
            start_entries(start, hull.are_formation_energies),
            *(results_in(one.results) for one in earlier if one.results.exists()),
        )
        settings = {"campaign": recipe.name, "round": folder.number}
        write_entries(folder.entries, entries, hull, recipe.split, recipe.seed, settings)


def known_symbols(recipe: CampaignRecipe, model: Path) -> tuple[str, ...]:
    """The recipe's elements that the model knows.

    Raises:
        MlipError: the model knows too few elements for the prototypes.
    """
    known = set(PropertyModel.load(model).elements)
    symbols = tuple(symbol for symbol in recipe.elements.symbols if symbol in known)
    if len(symbols) < max(recipe.prototypes.sites):
        raise MlipError(
            f"knows {len(symbols)} of the recipe's elements, and prototypes.sites asks for "
            f"{max(recipe.prototypes.sites)}",
            where=f"model: {model}",
        )
    return symbols


def _seed(recipe: CampaignRecipe, number: int) -> int:
    return int(np.random.SeedSequence([recipe.seed, number]).generate_state(1)[0])


def _taken_in(
    campaign: Campaign, folder: RoundFolder, outcomes: Sequence[Outcome], hull: GrowingHull
) -> tuple[list[Entry], dict[str, float]]:
    """The round's new entries, which are written to disk, and their distances to the hull before the round, eV/atom, by
    id. Other finished calculations are set aside with a reason."""
    recipe = campaign.recipe
    proposals = {one["id"]: one for one in read_json(folder.proposals)}
    level = calculated_functional(recipe.dft)
    set_aside: dict[str, tuple[str, str]] = {}
    entries: list[Entry] = []
    for outcome in finished(outcomes):
        try:
            energy = campaign.scale.energy(outcome.frame)
        except MlipError as error:
            set_aside[outcome.id] = (NO_SCALE, error.what)
            continue
        has_own_level = outcome.functional.endswith("+U") and level != outcome.functional
        if has_own_level and not campaign.scale.corrected:
            set_aside[outcome.id] = (
                "another level than the hull's",
                f"{outcome.functional}: without corrections its energy does not stand beside the hull's",
            )
            continue
        one = proposals[outcome.id]
        properties: dict[str, float | str] = {
            "chosen_by": one["by"],
            "prototype": one["prototype"],
            "round": float(folder.number),
        }
        if one["predicted"] is not None:
            properties["predicted_e_above_hull"] = float(one["predicted"])
        properties |= {f"energy_{functional}": energy for functional, energy in outcome.follow_ups.items()}
        entries.append(Entry(outcome.id, outcome.frame, energy, outcome.functional, 3, properties))
    heights = hull.distances_of(_phases(entries)) if entries else np.zeros(0)
    for entry, height in zip(entries, heights.tolist(), strict=True):
        if height < recipe.lowest:
            set_aside[entry.id] = (ABSURD, f"{height:.3f} eV/atom above the hull, below the recipe's {recipe.lowest}")
    kept = [entry for entry in entries if entry.id not in set_aside]
    distances = {entry.id: height for entry, height in zip(entries, heights.tolist(), strict=True)}
    write_outcomes(folder, outcomes, set_aside)
    if kept:
        write_results(folder.results, kept, {"campaign": recipe.name, "round": folder.number})
    return kept, {entry.id: distances[entry.id] for entry in kept}


def _phases(entries: Sequence[Entry]) -> Phases:
    return phases_of([entry.frame for entry in entries], np.array([entry.energy for entry in entries]))


def _summary(
    campaign: Campaign,
    folder: RoundFolder,
    entries: Sequence[Entry],
    before: dict[str, float],
    after: list[float],
    change_of_hull: dict[str, Any],
) -> dict[str, Any]:
    record, proposals = read_json(folder.chosen), read_json(folder.proposals)
    ways = {"proposed": BY_MODEL, "random": BY_CHANCE}
    outcomes = read_json(folder.outcomes)
    of_way = {one["id"]: one["by"] for one in proposals}
    model = read_json(folder.model_record)
    of_round = f"{campaign.recipe.name}-r{folder.number:03d}-"
    duplicate_of = [one["duplicate_of"] for one in proposals if one["verdict"] == DUPLICATE]
    later = dict(zip((entry.id for entry in entries), after, strict=True))

    def split(distances: dict[str, float]) -> dict[str, list[float]]:
        return {
            name: [round(value, 6) for one, value in distances.items() if of_way[one] == way]
            for name, way in ways.items()
        }

    return {
        "round": folder.number,
        "candidates": record["candidates"],
        "prototypes": record["prototypes"],
        "elements_left_out": sorted(set(campaign.recipe.elements.symbols) - set(record["elements"])),
        "predicted": record["predicted"],
        "below_cutoff": record["below_cutoff"],
        "kept": sum(one["by"] == BY_MODEL for one in record["chosen"]),
        "at_random": sum(one["by"] == BY_CHANCE for one in record["chosen"]),
        "pre_relaxation": dict(Counter(one["relaxation"] for one in proposals).most_common()),
        "do_not_trust": sum(bool(one.get("do_not_trust")) for one in proposals),
        "duplicates": len(duplicate_of),
        "known_already": sum(not same.startswith(of_round) for same in duplicate_of),
        "proposed": sum(one["verdict"] == PROPOSED for one in proposals),
        "outcomes": count_reasons(outcomes),
        "outcomes_of": {
            name: count_reasons([one for one in outcomes if of_way[one["id"]] == way]) for name, way in ways.items()
        },
        "distances": split(before),
        "distances_after": split(later),
        "hull": change_of_hull,
        "model": {key: model[key] for key in ("checksum", "test_mae", "n_train", "retrained")},
        "seconds": folder.seconds(),
        "functional": calculated_functional(campaign.recipe.dft),
        "note": "; ".join(campaign.notes) or None,
    }
