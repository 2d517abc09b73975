"""Shared code of `mlip eos`, `mlip elastic` and `mlip phonons`: run, print, exit status."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from mlip.cli.relax import introduce

_FEW = 40
"""Number of structures up to which the table shows all; for more it only shows those with a remark."""


def run(
    kind: str,
    arguments: Sequence[str],
    out: Path,
    columns: Mapping[str, tuple[str, str]],
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Compute and print; exits with status 1 if a structure has a remark.

    Args:
        columns: key of a record -> title and format of its column.
        options: keyword arguments of `mlip.response.response_files.respond_to_files`.
    """
    from mlip.pretrained import split_potential
    from mlip.response.response_files import is_failure, respond_to_files

    potential, files = split_potential(arguments)
    if not as_json:
        introduce(potential)
    summary = respond_to_files(kind, potential, files, out, progress=not as_json, **options)
    records = summary.pop("records")
    remarked = [record for record in records if is_failure(record)]
    if as_json:
        import json

        told = ("structure", "file", "frame", "formula", "reason", "message")
        failed = [{key: record[key] for key in told} for record in remarked]
        print(json.dumps(summary | {"failed": failed}))
    else:
        _print(summary, records if len(records) <= _FEW else remarked, columns, out)
    if remarked:
        raise typer.Exit(1)


def numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """Parse numbers separated by commas; None if the option was not given.

    Raises:
        MlipError: the text is not a list of numbers.
    """
    from mlip.errors import MlipError

    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise MlipError(f"is {text!r}", where=option, fix="numbers separated by commas") from None


def known(**options: Any) -> dict[str, Any]:
    """The options that were given; the library has defaults for the others."""
    return {name: value for name, value in options.items() if value is not None}


def _print(summary: dict[str, Any], records, columns: Mapping[str, tuple[str, str]], out: Path) -> None:
    import sys

    from mlip.cli.tables import console, print_table

    shown = console(width=None if sys.stdout.isatty() else 160)  # wide enough for logs
    if records:
        header = ("structure", "formula", "reason", *(title for title, _ in columns.values()))
        print_table(shown, "", header, [_cells(record, columns) for record in records])
    for record in records:
        if record["message"]:
            print(f"{_place(record)}: {record['reason']}: {record['message']}")
    print(", ".join(str(path) for path in (out / "results.jsonl", summary["page"]) if path))
    reasons = ", ".join(f"{count} {reason}" for reason, count in summary["reasons"].items())
    print(f"{summary['structures']} structures ({summary['computed_now']} computed now): {reasons}")


def _cells(record: Mapping[str, Any], columns: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    values = (record.get(key) for key in columns)
    shown = (
        "-" if value is None else format(value, kind) for value, (_, kind) in zip(values, columns.values(), strict=True)
    )
    return Path(_place(record)).name, record["formula"], record["reason"], *shown


def _place(record: Mapping[str, Any]) -> str:
    return record["file"] if not record["frame"] else f"{record['file']}@{record['frame']}"
