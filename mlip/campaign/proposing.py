"""Proposals from chosen candidates, relaxed with the potential: each is proposed, or gets a reason why it is not."""

from collections.abc import Mapping, Sequence
from typing import Any

from ase import Atoms

from mlip.campaign.campaign_recipe import CampaignRecipe
from mlip.campaign.duplicates import Known, reduced_formula
from mlip.campaign.folder import RoundFolder, read_json, write_json
from mlip.data import Store
from mlip.dft.records import Proposal
from mlip.relaxation.result import CERTAINTY
from mlip.relaxation.results_file import read_results
from mlip.screening.plan import Kept
from mlip.screening.relaxed import relax_kept

PROPOSED, DUPLICATE = "proposed", "duplicate"
"""Verdicts on relaxed candidates; any other verdict is the reason of a failed relaxation."""
_RELAXED = ("converged", "max_steps")


def propose(
    recipe: CampaignRecipe, folder: RoundFolder, chosen: Sequence[Kept], *, cluster: str | None, progress: bool
) -> None:
    """Relax the chosen candidates, and write a verdict on each to `folder.proposals`."""
    records = relax_kept(recipe.relax, chosen, folder.relaxations, cluster=cluster, progress=progress)
    write_json(folder.proposals, _judged(recipe, folder, records))


def proposals_of(folder: RoundFolder) -> list[Proposal]:
    """The structures to hand over."""
    records = {record["candidate"]: record for record in read_results(folder.relaxations)[1]}
    return [
        Proposal(one["id"], relaxed_atoms(records[one["candidate"]]))
        for one in read_json(folder.proposals)
        if one["verdict"] == PROPOSED
    ]


def _judged(recipe: CampaignRecipe, folder: RoundFolder, records: Mapping[int, Mapping[str, Any]]) -> list[dict]:
    relaxed = {number: relaxed_atoms(record) for number, record in records.items() if record["reason"] in _RELAXED}
    known = Known(recipe.duplicates, {reduced_formula(atoms.numbers) for atoms in relaxed.values()})
    with Store(folder.entries) as store:
        for material in store.materials():
            if material.dimensionality != 3 or not known.is_of_interest(material.formula):
                continue
            if (frame := store.relaxed_frame(material)) is not None:
                known.add(material.id, Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=True))
    judged = []
    for place, one in enumerate(read_json(folder.chosen)["chosen"]):
        record = records[one["candidate"]]
        verdict = {**one, "id": f"{recipe.name}-r{folder.number:03d}-{place:06d}", "relaxation": record["reason"]}
        atoms = relaxed.get(one["candidate"])
        if atoms is None:
            judged.append(verdict | {"verdict": record["reason"], "message": record.get("message")})
            continue
        verdict |= {key: record[key] for key in CERTAINTY if record.get(key) is not None}
        if (same := known.same_as(atoms)) is not None:
            judged.append(verdict | {"verdict": DUPLICATE, "duplicate_of": same})
            continue
        known.add(verdict["id"], atoms)
        judged.append(verdict | {"verdict": PROPOSED})
    return judged


def relaxed_atoms(record: Mapping[str, Any]) -> Atoms:
    """The final structure of a recorded relaxation."""
    return Atoms(record["numbers"], record["positions"], cell=record["cell"], pbc=record["pbc"])
