"""Choice of the candidates to relax: the best of each composition by the model, and some at random for comparison."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mlip.campaign.folder import RoundFolder, read_json, write_json
from mlip.screening.outputs import write_histogram, write_list
from mlip.screening.plan import Kept, ScreeningPlan, plan_round
from mlip.screening.prediction import Predictor
from mlip.screening.round import screen_candidates
from mlip.screening.screening_recipe import ScreeningRecipe

BY_MODEL, BY_CHANCE = "model", "random"
_DRAWS = 200
"""Maximum number of batches drawn for random candidates, because the rules may forbid nearly all candidates."""


def choose(
    recipe: ScreeningRecipe,
    folder: RoundFolder,
    earlier: Sequence[RoundFolder],
    *,
    n_random: int,
    seed: int,
    cluster: str | None,
    progress: bool,
) -> list[Kept]:
    """The candidates to relax, those of the model first. The choice is recorded in `folder.chosen`.

    Args:
        earlier: rounds whose candidates are not chosen again.
        n_random: number of candidates drawn at random from those that the rules allow and no round has chosen.
    """
    plan = plan_round(recipe, allow_functional_mismatch=True, known=taken_in(earlier))
    if folder.chosen.exists():
        chosen = read_json(folder.chosen)["chosen"]
        return [plan.candidate(one["candidate"], one["predicted"]) for one in chosen]
    recipe.out.mkdir(parents=True, exist_ok=True)
    state = screen_candidates(plan, cluster=cluster, progress=progress)
    by_model = list(plan.kept(state.best))
    write_list(recipe.out / "candidates.csv", by_model)
    write_histogram(recipe.out, state.histogram, recipe.keep)
    numbers = random_candidates(plan, n_random, {one.number for one in by_model}, np.random.default_rng(seed))
    by_chance = _predicted(plan, numbers)
    chosen = [(one, BY_MODEL) for one in by_model] + [(one, BY_CHANCE) for one in by_chance]
    write_json(
        folder.chosen,
        {
            "candidates": len(plan.candidates),
            "predicted": state.n_allowed,
            "below_cutoff": state.n_below,
            "screening_seconds": round(state.seconds, 2),
            "prototypes": len(plan.prototypes.prototypes),
            "elements": list(recipe.elements.symbols),
            "notes": list(plan.functional_notes),
            "chosen": [_as_record(plan, one, by) for one, by in chosen],
        },
    )
    return [one for one, _ in chosen]


def taken_in(rounds: Sequence[RoundFolder]) -> dict[str, np.ndarray]:
    """Candidates chosen in these rounds: prototype's name -> atomic numbers on its sites, shape (k, sites)."""
    rows: dict[str, list[list[int]]] = {}
    for folder in rounds:
        for one in read_json(folder.chosen)["chosen"]:
            rows.setdefault(one["prototype"], []).append(one["numbers"])
    return {name: np.array(of_prototype) for name, of_prototype in rows.items()}


def random_candidates(plan: ScreeningPlan, n: int, taken: set[int], rng: np.random.Generator) -> Int[np.ndarray, " k"]:
    """Indices of n different random candidates that the rules allow and that are not taken; at most n."""
    found: dict[int, None] = {}
    for _ in range(_DRAWS):
        if len(found) >= n:
            break
        drawn = np.unique(rng.integers(len(plan.candidates), size=max(n, 1)))
        rng.shuffle(drawn)
        for number in drawn.tolist():
            if number not in found and number not in taken and _is_allowed(plan, number):
                found[number] = None
    return np.array(list(found)[:n], np.int64)


def _is_allowed(plan: ScreeningPlan, number: int) -> bool:
    place = plan.candidates.prototype_of(number)
    numbers = plan.candidates.numbers(place, np.array([number]))
    if plan.candidates.are_known(place, numbers)[0]:
        return False
    return bool(plan.rules.allow(numbers, plan.candidates.prototypes[place].atoms_of_site)[0])


def _predicted(plan: ScreeningPlan, numbers: Int[np.ndarray, " k"]) -> list[Kept]:
    """The candidates with the model's predictions, in the order of `numbers`."""
    if not len(numbers):
        return []
    predictor, found = Predictor(plan.model), {}
    places = np.array([plan.candidates.prototype_of(number) for number in numbers.tolist()])
    for place in np.unique(places).tolist():
        of_prototype = numbers[places == place]
        elements = plan.candidates.numbers(place, of_prototype)
        distances: Float[np.ndarray, " k"] = predictor.predict(plan.candidates.prototypes[place].graph, elements)
        found |= dict(zip(of_prototype.tolist(), distances.tolist(), strict=True))
    return [plan.candidate(number, found[number]) for number in numbers.tolist()]


def _as_record(plan: ScreeningPlan, one: Kept, by: str) -> Mapping[str, Any]:
    place = plan.candidates.prototype_of(one.number)
    (elements,) = plan.candidates.numbers(place, np.array([one.number]))
    predicted = one.distance if np.isfinite(one.distance) else None
    return {
        "candidate": one.number,
        "by": by,
        "prototype": one.prototype.name,
        "numbers": elements.tolist(),
        "predicted": predicted,
    }
