"""results.jsonl: a header that identifies the run, then a line for every structure, appended and flushed.

A killed run continues where it stopped: structures in the file are done, and an incomplete line is dropped. A file with
results of another potential, store or protocol is rejected, never extended; one with only a header is replaced. The
header states the version of JAX; records added by another version state theirs.
"""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from mlip.errors import MlipError
from mlip.files.journal import Journal, whole_lines
from mlip.runtime import jax_facts

FORMAT_VERSION = 1


def read_results(path: str | os.PathLike) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and records of a results file; an incomplete last line is ignored.

    Raises:
        MlipError: the file does not exist, is not a results file, or has a damaged line.
    """
    header, records, _ = _read(Path(path))
    return header, records


class ResultsFile:
    """A results file opened for appending; a context manager.

    Args:
        path: the file; it and its folder are created if missing.
        protocol: what makes results comparable: potential, store, settings. JSON-serializable.

    Raises:
        MlipError: the file holds results of another protocol, or another process appends to it.
    """

    def __init__(self, path: str | os.PathLike, protocol: dict[str, Any]):
        self.path = Path(path)
        self.records: list[dict[str, Any]] = []
        self._jax = jax_facts()
        self._jax_of_header: dict[str, Any] | None = None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(self.path)
        try:
            self._go_on({"mlip_results": FORMAT_VERSION, **json.loads(json.dumps(protocol)), "jax": self._jax})
        except BaseException:
            self._journal.close()
            raise

    def _go_on(self, header: dict[str, Any]) -> None:
        """Continue where an earlier process stopped, or write the header if there are no records."""
        if self.path.stat().st_size:
            found, self.records, complete = _read(self.path)
            if self.records:
                self._jax_of_header = found.get("jax")
                _check_same(header, found, self.path)
            self._journal.cut(complete if self.records else 0)
        if not self.records:
            self._jax_of_header = self._jax
            self._journal.append(header)

    def append(self, record: dict[str, Any]) -> None:
        if self._jax != self._jax_of_header:
            record = record | {"jax": self._jax}
        self.records.append(record)
        self._journal.append(record)

    def __enter__(self) -> "ResultsFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()


def _read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
    """Header, records, and the length of the complete lines in bytes."""
    if not path.is_file():
        raise MlipError("no such results file", where=str(path))
    parsed, complete = [], 0
    for record, line in whole_lines(path):
        parsed.append(record)
        complete += len(line)
    if not parsed or not isinstance(parsed[0], dict) or "mlip_results" not in parsed[0]:
        raise MlipError("is no results file of mlip", where=str(path), fix="choose another --out")
    if parsed[0]["mlip_results"] > FORMAT_VERSION:
        raise MlipError("written by a newer mlip", where=str(path), fix="pip install -U alexandria-mlip")
    return parsed[0], parsed[1:], complete


def _check_same(wanted: dict[str, Any], found: dict[str, Any], path: Path) -> None:
    for key in sorted((wanted.keys() | found.keys()) - {"jax"}):
        if wanted.get(key) != found.get(key):
            raise MlipError(
                f"holds results of another {key}: {'; '.join(_differences(wanted.get(key), found.get(key)))}",
                where=str(path),
                fix="choose another --out, or remove the file",
            )


def _differences(wanted: Any, found: Any, name: str = "") -> list[str]:
    """Descriptions of the differences, key by key if both values are mappings."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
        parts = (
            _differences(wanted.get(key), found.get(key), f"{name}.{key}" if name else key) for key in sorted(keys)
        )
        return [difference for part in parts for difference in part]
    return [f"{name + ' is ' if name else ''}{_short(found)}, not {_short(wanted)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."
