"""Calculations before the first round: elemental crystals, whose energies set the scale of formation energies, and some
of the start's entries again, to measure how far formation energies differ."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from mlip.campaign.calculating import calculated, finished, write_outcomes
from mlip.campaign.campaign_recipe import CampaignRecipe
from mlip.campaign.energies import EnergyScale, symbols_of
from mlip.campaign.entries import Entry, start_entries
from mlip.campaign.folder import StageFolder, read_json, write_json
from mlip.data import Store
from mlip.data.split import nested_choice
from mlip.dft.records import Outcome, Proposal
from mlip.errors import MlipError
from mlip.relaxation import relax
from mlip.screening.prototypes import aflow_crystals
from mlip.screening.substitution import with_elements

_MOST_ATOMS = 12
"""Maximum number of atoms of the elemental crystals of AFLOW's set that are tried."""
_TRIED = 4
"""Number of crystals of each element that are calculated: those of lowest energy by the potential."""
_CHECK = "check-"


def read_element_energies(path: Path) -> dict[str, float]:
    """Read energies of elements, eV/atom, from JSON {symbol: energy}.

    Raises:
        MlipError: the file cannot be read, has another layout, an unknown element, or an energy that is not finite.
    """
    layout = "a JSON object {symbol: eV/atom}"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        energies = {str(symbol): float(energy) for symbol, energy in values.items()}
    except OSError as error:
        raise MlipError(f"cannot be read ({error.strerror})", where=f"start.elements: {path}", fix=layout) from None
    except (ValueError, TypeError, AttributeError):
        raise MlipError("is no list of energies", where=f"start.elements: {path}", fix=layout) from None
    if strangers := sorted(set(energies) - set(chemical_symbols[1:])):
        raise MlipError(f"no elements: {', '.join(strangers)}", where=f"start.elements: {path}", fix=layout)
    if not np.isfinite(list(energies.values())).all():
        raise MlipError("has energies that are not finite", where=f"start.elements: {path}")
    return energies


def settle_elements(recipe: CampaignRecipe, folder: StageFolder, *, progress: bool) -> dict[str, Any] | None:
    """Energies of the elements and the check of the start's entries, calculated once and kept in `folder.elements`.

    Returns:
        {"elements": {symbol: eV/atom}, "check": ...}; None while calculations are not settled.

    Raises:
        MlipError: the energy of an element is unknown, for example because none of its calculations finished.
    """
    if folder.elements.exists():
        return read_json(folder.elements)
    folder.path.mkdir(parents=True, exist_ok=True)
    is_calculated = recipe.start.elements == "calculate"
    if not folder.proposals.exists():
        with folder.timed("elements"):
            crystals = _elementary(recipe) if is_calculated else {}
        records = {name: _as_record(atoms) for name, atoms in crystals.items()}
        for name, entry in _checked(recipe).items():
            records[_CHECK + name] = _as_record(_atoms(entry)) | {"energy": entry.energy}
        write_json(folder.proposals, records)
    records = read_json(folder.proposals)
    proposals = [Proposal(name, _of_record(record)) for name, record in records.items()]
    with folder.timed("dft"):
        outcomes = calculated(recipe.dft, proposals, folder, progress=progress)
    if outcomes is None:
        return None
    write_outcomes(folder, outcomes, {})
    elements = _lowest(outcomes) if is_calculated else read_element_energies(Path(str(recipe.start.elements)))
    if missing := [symbol for symbol in recipe.elements.symbols if symbol not in elements]:
        raise MlipError(
            f"no energy of {', '.join(missing)}: none of their crystals was calculated to the end"
            if is_calculated
            else f"no energy of {', '.join(missing)}",
            where="start.elements",
            fix=f"elements.exclude=[{','.join(missing)}], or give their energies in a JSON file",
        )
    scale = EnergyScale(elements, recipe.start.corrections is not None)
    found = {"elements": elements, "check": _comparison(outcomes, records, scale)}
    write_json(folder.elements, found)
    return found


def _elementary(recipe: CampaignRecipe) -> dict[str, Atoms]:
    """Candidates for the ground state of each element: crystals of AFLOW's set and of the start, the lowest by the
    potential."""
    prototypes = [
        (name, atoms) for name, atoms in aflow_crystals() if len(set(atoms.numbers)) == 1 and len(atoms) <= _MOST_ATOMS
    ]
    tried = [(symbol, _atoms(entry)) for entry in _start(recipe) for symbol in _only_element(entry)]
    for symbol in recipe.elements.symbols:
        z = atomic_numbers[symbol]
        tried += [(symbol, with_elements(atoms, np.full(len(atoms), z))) for _, atoms in prototypes]
    results = relax([atoms for _, atoms in tried], recipe.relax.file, progress=False, **_options(recipe))
    found: dict[str, list[tuple[float, Atoms]]] = {symbol: [] for symbol in recipe.elements.symbols}
    for (symbol, _), result in zip(tried, results, strict=True):
        if not result.failed:
            found[symbol].append((result.energy / len(result.atoms), result.atoms))
    return {
        f"{symbol}-{place}": Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        for symbol, of_element in found.items()
        for place, atoms in enumerate(_distinct(of_element)[:_TRIED])
    }


def _distinct(of_element: list[tuple[float, Atoms]]) -> list[Atoms]:
    """Structures by ascending energy; of those with equal energy and volume per atom only the first."""
    kept: list[tuple[float, float, Atoms]] = []
    for energy, atoms in sorted(of_element, key=lambda one: one[0]):
        volume = atoms.get_volume() / len(atoms)
        if not any(abs(energy - e) < 1e-3 and abs(volume - v) < 1e-2 * v for e, v, _ in kept):
            kept.append((energy, volume, atoms))
    return [atoms for _, _, atoms in kept]


def _options(recipe: CampaignRecipe) -> dict[str, Any]:
    return recipe.relax.model_dump(exclude={"potential"}) | {"symmetry": False}


def _start(recipe: CampaignRecipe) -> Iterator[Entry]:
    """Crystals of the start that only have the campaign's elements."""
    allowed = set(recipe.elements.symbols)
    with Store(recipe.start.entries) as store:
        for entry in start_entries(store, are_formation_energies=True):
            if entry.dimensionality == 3 and symbols_of(entry.frame) <= allowed:
                yield entry


def _only_element(entry: Entry) -> frozenset[str]:
    """The symbol of an elemental crystal; empty for a compound."""
    symbols = symbols_of(entry.frame)
    return symbols if len(symbols) == 1 else frozenset()


def _checked(recipe: CampaignRecipe) -> dict[str, Entry]:
    """Compounds of the start that are calculated again."""
    if not recipe.start.check:
        return {}
    ids = [entry.id for entry in _start(recipe) if not _only_element(entry)]
    wanted = {ids[k] for k in nested_choice(ids, min(recipe.start.check, len(ids)))}
    chosen = [entry for entry in _start(recipe) if entry.id in wanted]
    return {f"{place:04d}": entry for place, entry in enumerate(chosen)}


def _lowest(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Lowest energy of the crystals of each element, eV/atom."""
    found: dict[str, float] = {}
    for outcome in finished(outcomes):
        if not outcome.id.startswith(_CHECK):
            symbol = outcome.id.partition("-")[0]
            energy = outcome.frame.energy / len(outcome.frame)
            found[symbol] = min(energy, found.get(symbol, np.inf))
    return found


def _comparison(
    outcomes: Sequence[Outcome], records: Mapping[str, Mapping[str, Any]], scale: EnergyScale
) -> dict[str, Any] | None:
    """Differences of the formation energies calculated now from the start's, eV/atom; None if none finished."""
    differences = [
        scale.energy(outcome.frame) - records[outcome.id]["energy"]
        for outcome in finished(outcomes)
        if outcome.id.startswith(_CHECK)
    ]
    if not differences:
        return None
    return {
        "asked_for": sum(name.startswith(_CHECK) for name in records),
        "finished": len(differences),
        "mean_difference": round(float(np.mean(differences)), 5),
        "mean_absolute_difference": round(float(np.mean(np.abs(differences))), 5),
    }


def _atoms(entry: Entry) -> Atoms:
    frame = entry.frame
    return Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=True)


def _as_record(atoms: Atoms) -> dict[str, Any]:
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
    }


def _of_record(record: Mapping[str, Any]) -> Atoms:
    return Atoms(record["numbers"], record["positions"], cell=record["cell"], pbc=True)
