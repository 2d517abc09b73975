"""Run suites, each in its own folder, and write one page and one JSON file for all, with rows of other potentials."""

import html
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any

import ase

from mlip.benchmark.suites import NAMES
from mlip.benchmark.suites.data_files import content_of
from mlip.benchmark.suites.rows import FORMAT, Row, comparison, kept_rows
from mlip.benchmark.suites.suite import Report, Request, Suite, suite_called
from mlip.benchmark.tables import Table
from mlip.code_version import CODE_VERSION
from mlip.errors import MlipError
from mlip.files.whole_file import whole_file
from mlip.relaxation.named import NamedPotential, open_named
from mlip.report.page import write_page
from mlip.report.pieces import facts
from mlip.response.results import for_json
from mlip.runtime import jax_facts

ALL = "all"


@dataclass(frozen=True)
class SuitesRun:
    """The results of finished suites."""

    row: Row
    table: Table
    failed: dict[str, str]
    """Suite that could not be run -> reason."""


def run_suites(
    name: str,
    potential: str | PathLike,
    out: str | PathLike,
    *,
    quick: bool = False,
    data: Sequence[str | PathLike] = (),
    others: Sequence[Row] = (),
    allow_functional_mismatch: bool = False,
    progress: bool = True,
) -> SuitesRun:
    """Run a suite, or all of them, and write OUT/suites.json, suites.md and report.html. Finished suites are not
    repeated.

    Args:
        name: a suite, or "all". With "all", a suite that cannot be run (a calculator without dimers, phonopy missing)
            is left out with its reason; alone, it raises.
        quick: use fewer of the built-in structures.
        data: stores or files with references; each suite takes those that it can use, and its built-in structures if
            there are none.
        others: rows to compare with, besides those in the package.

    Raises:
        MlipError: there is no such suite or potential, no suite can use the data, they are of another functional, or a
            single suite cannot be run.
    """
    suites = {one: suite_called(one) for one in (NAMES if name == ALL else (name,))}
    named = open_named(potential)
    taken = _shared_out(suites, [Path(path) for path in data])
    found, failed, sections = {}, {}, {}
    for one, suite in suites.items():
        request = Request(named, Path(out) / one, quick, taken[one], progress, allow_functional_mismatch)
        try:
            found[one], sections[suite.title] = _run_or_read(one, suite, request)
        except MlipError as error:
            if name != ALL:
                raise
            failed[one] = str(error)
            sections[suite.title] = f"<p>left out: {html.escape(str(error))}</p>"
    row = _row(named, quick, found, failed)
    table = comparison(row, [*kept_rows(), *others], suites)
    folder = Path(out)
    (folder / "suites.json").write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    table.save(folder)
    overview = _facts(row) + table.to_html()
    title = "Benchmark suites" if name == ALL else f"Benchmark suite: {name}"
    write_page(folder / "report.html", title, named.name, {"Overview": overview, **sections})
    return SuitesRun(row, table, failed)


def _shared_out(suites: dict[str, Suite], data: list[Path]) -> dict[str, tuple[Path, ...]]:
    """The files that each suite can use.

    Raises:
        MlipError: a file does not exist, or none of the suites can use it.
    """
    for path in data:
        if not path.exists():
            raise MlipError("no such file", where=str(path))
    taken = {name: tuple(path for path in data if suite.takes(path)) for name, suite in suites.items()}
    for path in data:
        if not any(path in paths for paths in taken.values()):
            raise MlipError(f"is nothing that a suite can use ({', '.join(suites)})", where=str(path))
    return taken


def _run_or_read(name: str, suite: Suite, request: Request) -> tuple[dict[str, Any], str]:
    """The suite's entry of the row and section of the page; read from disk if an earlier run had the same inputs."""
    request.out.mkdir(parents=True, exist_ok=True)
    path, page = request.out / "report.json", request.out / "section.html"
    key = {
        "potential": request.named.record,
        "quick": request.quick,
        "data": sorted(map(content_of, request.data)),
        "code": CODE_VERSION,
    }
    if path.exists() and page.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if earlier["of"] == key:
            return earlier["found"], page.read_text(encoding="utf-8")
    began = time.perf_counter()
    report = suite.run(request)
    found = for_json(
        {
            "metrics": report.metrics,
            "reasons": report.reasons,
            "left_out": report.left_out,
            "protocol": {"quick": request.quick, **report.protocol},
            "seconds": round(time.perf_counter() - began, 1),
        }
    )
    for table in report.tables:
        table.save(request.out)
    section = _section(report)
    page.write_text(section, encoding="utf-8")
    with whole_file(path) as partial:
        partial.write_text(json.dumps({"of": key, "suite": name, "found": found}, indent=1) + "\n", encoding="utf-8")
    return found, section


def _section(report: Report) -> str:
    reasons = {reason: str(count) for reason, count in report.reasons.items()}
    left_out = "".join(
        f"<p class='note'>{len(names)} left out, {html.escape(why)}: {html.escape(', '.join(names))}</p>"
        for why, names in report.left_out.items()
    )
    return facts(reasons) + "".join(table.to_html() for table in report.tables) + left_out + report.figures


def _row(named: NamedPotential, quick: bool, found: dict[str, Any], failed: dict[str, str]) -> Row:
    return {
        "mlip_suites": FORMAT,
        "potential": {**named.record, "name": named.name, "functional": named.potential.functional},
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"mlip": CODE_VERSION, "ase": ase.__version__, "python": platform.python_version(), **jax_facts()},
        "quick": quick,
        "suites": found,
        "not_run": failed,
    }


def _facts(row: Row) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items() if version)
    return facts(
        {
            "potential": row["potential"]["name"],
            "functional": row["potential"]["functional"],
            "date": row["date"],
            "versions": versions,
            "seconds": f"{sum(found['seconds'] for found in row['suites'].values()):.0f}",
        }
    )
