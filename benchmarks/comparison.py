"""What a comparison of programs says: how many times faster, whether both computed the same, and the table of it.

A record is a case with the times of all who took part, and a comparison for each pair of ours and a peer.
"""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

import numpy as np
from cases import Case
from rich.console import Console
from rich.table import Table
from side_by_side import Outcome

QUIET = 0.1
"""Cores that other processes may keep busy while a side is timed."""


def compare(case: Case, name: str, peer: str, outcomes: dict[str, Outcome], same_weights: bool) -> dict[str, Any]:
    """How many times faster we are than a peer, and whether both computed the same."""
    mine, theirs = outcomes[name], outcomes[peer]
    comparison = {"ours": name, "peer": peer}
    if mine.error or theirs.error:
        return comparison | {"error": mine.error or theirs.error}
    comparison["ratio"] = round(median(theirs.seconds) / median(mine.seconds), 2)
    comparison["ratio_of_minima"] = round(min(theirs.seconds) / min(mine.seconds), 2)
    if same_weights:
        comparison["differences"] = differences(mine.check, theirs.check, case.n_atoms)
    return comparison


def differences(mine: dict[str, Any], theirs: dict[str, Any], n_atoms: list[int]) -> dict[str, float]:
    """Largest difference of each quantity that both sides gave: energies in eV/atom, forces in eV/A, stresses in
    eV/A^3, all others relatively."""
    found = {}
    for key in mine.keys() & theirs.keys():
        a, b = np.array(mine[key]), np.array(theirs[key])
        scale = {"energy": np.array(n_atoms), "forces": 1.0, "stress": 1.0}.get(key, np.abs(b))
        found[key] = float(np.max(np.abs(a - b) / scale))
    return {key: float(f"{found[key]:.2g}") for key in sorted(found)}


def excesses(found: Mapping[str, float], tolerances: Mapping[str, float]) -> list[str]:
    """In what two sides differ by more than they may; NaN is more."""
    return [f"differ in {key} by {value}" for key, value in found.items() if not value <= tolerances[key]]


def faults(records: list[dict[str, Any]], tolerances: Mapping[str, float]) -> list[str]:
    """Where two sides that hold the same weights computed different things, or one failed."""
    found = []
    for record in records:
        case = record["case"]
        found += [f"{case}: {name}: {time['error']}" for name, time in record["times"].items() if "error" in time]
        for comparison in record["comparisons"]:
            names = f"{comparison['ours']} and {comparison['peer']}"
            found += [f"{case}: {names} {excess}" for excess in excesses(comparison.get("differences", {}), tolerances)]
    return found


def show(records: list[dict[str, Any]], title: str, tolerances: Mapping[str, float], console: Console) -> None:
    """The table, what is wrong, and whether the times can be trusted."""
    console.print(table(records, title))
    for fault in faults(records, tolerances):
        console.print(f"FAULT {fault}", markup=False)
    if loud := [record["case"] for record in records if not was_quiet(record)]:
        console.print(
            f"[bold]Not to be trusted[/]: other processes ran meanwhile, in {len(loud)} of {len(records)} cases"
        )


def was_quiet(record: dict[str, Any]) -> bool:
    return all(time.get("cores_busy_elsewhere", 0.0) <= QUIET for time in record["times"].values())


def table(records: list[dict[str, Any]], title: str) -> Table:
    """A line for every pair of ours and a peer; for ours alone where there is no peer."""
    result = Table(title=f"{title}: ms, medians", title_justify="left")
    has_memory = any("memory_mb" in time for record in records for time in record["times"].values())
    for heading in HEADINGS + (MEMORY_HEADINGS if has_memory else ()):
        result.add_column(heading, justify="left" if heading in ("", "ours", "peer") else "right")
    for record in records:
        for cells, memory in _rows(record):
            result.add_row(*cells, *(memory if has_memory else ()))
        result.add_section()
    return result


def markdown(records: list[dict[str, Any]], title: str) -> str:
    """The same table in Markdown, without the memory."""
    lines = [f"**{title}: ms, medians**", ""]
    lines += ["| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
    lines += ["| " + " | ".join(cells) + " |" for record in records for cells, _ in _rows(record)]
    if loud := sum(not was_quiet(record) for record in records):
        busiest = max(time.get("cores_busy_elsewhere", 0.0) for record in records for time in record["times"].values())
        lines += ["", f"Other processes ran meanwhile in {loud} of {len(records)} cases, on {busiest} cores at most."]
    return "\n".join(lines) + "\n"


HEADINGS = ("", "atoms", "edges", "ours", "ms", "1/s", "peer", "ms", "times faster", "of minima", "max dE eV/atom")
MEMORY_HEADINGS = ("MB", "peer MB")


def document(report: dict[str, Any], title: str, introduction: str) -> str:
    """All tables of a report in Markdown: its `machine`, and the `title`, `sides` and `cases` of each of its `runs`."""
    where = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in report["machine"].items())
    packages = {}
    for run in report["runs"]:
        for side in run["sides"].values():
            packages |= side["versions"]
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    tables = [markdown(run["cases"], run["title"]).rstrip() for run in report["runs"]]
    return "\n\n".join([f"# {title}", introduction, f"{where}; {versions}.", *tables]) + "\n"


def _rows(record: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], tuple[str, str]]]:
    """Cells of each pair, and its memory."""
    for line in record["comparisons"] or [{"ours": name} for name in record["times"]]:
        mine, theirs = record["times"][line["ours"]], record["times"].get(line.get("peer"), {})
        rate = 1000 * record["structures"] / mine["median_ms"] if "median_ms" in mine else None
        cells = (
            record["case"],
            f"{record['atoms']:,}",
            f"{record['edges']:,}",
            line["ours"],
            _number(mine.get("median_ms"), ".2f"),
            _number(rate, ",.0f" if rate and rate >= 100 else ".1f"),
            line.get("peer", "-"),
            _number(theirs.get("median_ms"), ".2f"),
            _number(line.get("ratio"), ".1f"),
            _number(line.get("ratio_of_minima"), ".1f"),
            _number(line.get("differences", {}).get("energy"), ".0e"),
        )
        yield cells, tuple(_number(time.get("memory_mb"), ",.0f") for time in (mine, theirs))


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
