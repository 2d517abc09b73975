"""Cache of the VASP runs of a hand-over, so that each file is read once: results of finished runs are kept in
.runs.jsonl.

A file whose size or time has changed is read again; all files are read again after an update of mlip.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from mlip.code_version import CODE_VERSION
from mlip.data.readers.vasp_run import VaspRun, read_run
from mlip.data.records import Frame
from mlip.data.workers import process_pool
from mlip.errors import MlipError
from mlip.files.journal import Journal, read_journal

_KNOWN = ".runs.jsonl"
_FEW = 64
"""Number of files below which starting processes does not pay off."""
_CHUNK = 8
_ARRAYS = {"numbers": np.int16, "first_cell": np.float64}
_OF_FRAME = {
    "numbers": np.int16,
    "positions": np.float64,
    "cell": np.float64,
    "pbc": bool,
    "forces": np.float64,
    "stress": np.float64,
}


class KnownRuns:
    """The runs in a folder.

    Args:
        workers: number of processes that read files.
    """

    def __init__(self, folder: Path, workers: int = 1):
        self.folder, self.workers = folder, workers
        self._known: dict[str, dict[str, Any]] = {}
        self._is_whole = False
        with suppress(OSError, MlipError, KeyError, TypeError):  # a lost cache is rebuilt from the runs
            for record in read_journal(folder / _KNOWN):
                self._known[record["file"]] = record
            self._is_whole = (folder / _KNOWN).read_bytes()[-1:] in (b"\n", b"")
        self._read: dict[Path, VaspRun | MlipError | None] = {}

    def read(self, paths: Sequence[Path]) -> None:
        """Read the runs that are not cached, and cache those that are complete."""
        new = []
        for path in paths:
            if (run := self._remembered(path)) is not None:
                self._read[path] = run
            else:
                new.append(path)
        if self.workers == 1 or len(new) < _FEW:
            self._keep(new, map(_read, new))
            return
        with process_pool(self.workers) as pool:
            self._keep(new, pool.map(_read, new, chunksize=_CHUNK))

    def __getitem__(self, path: Path) -> VaspRun | None:
        """The run of a vasprun.xml, as `read_run` returns it.

        Raises:
            MlipError: the error of `read_run` for this file.
        """
        run = self._read[path]
        if isinstance(run, MlipError):
            raise run
        return run

    def _remembered(self, path: Path) -> VaspRun | None:
        record = self._known.get(str(path.relative_to(self.folder)))
        if record is None or record.get("state") != _state(path):
            return None
        with suppress(KeyError, TypeError, ValueError):
            return _from_json(record["run"])
        return None

    def _keep(self, paths: Sequence[Path], runs) -> None:
        states = [_state(path) for path in paths]  # taken before reading: a file that changes meanwhile is read again
        journal = None
        with suppress(OSError, MlipError):  # the folder is read-only, or another process writes
            journal = Journal(self.folder / _KNOWN, durable=False) if paths else None
            if journal is not None and not self._is_whole:  # killed in the middle of a line
                journal.cut(0)
        try:
            for path, state, run in zip(paths, states, runs, strict=True):
                self._read[path] = run
                if journal is not None and isinstance(run, VaspRun) and run.is_complete:
                    name = str(path.relative_to(self.folder))
                    with suppress(ValueError):  # NaN is neither JSON nor a valid result
                        journal.append({"file": name, "state": state, "run": _as_json(run)})
        finally:
            if journal is not None:
                journal.close()


def _state(path: Path) -> list[Any] | None:
    """Size, time and code version by which a file is known to be unchanged; None if it cannot be read."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, CODE_VERSION]


def _read(path: Path) -> VaspRun | MlipError | None:
    try:
        return read_run(path)
    except MlipError as error:
        return error


def _as_json(run: VaspRun) -> dict[str, Any]:
    values = {field.name: getattr(run, field.name) for field in fields(VaspRun)}
    last = values.pop("last")
    if isinstance(last, Frame):
        arrays = {name: getattr(last, name) for name in _OF_FRAME}
        last = {name: None if array is None else array.tolist() for name, array in arrays.items()}
        last |= {"energy": run.last.energy, "ionic_step": run.last.ionic_step}
    values |= {name: values[name].tolist() for name in _ARRAYS}
    return json.loads(json.dumps(values | {"last": last, "hubbard": dict(run.hubbard)}))


def _from_json(values: dict[str, Any]) -> VaspRun:
    values = dict(values)
    last = values["last"]
    if isinstance(last, dict):
        arrays = {name: None if last[name] is None else np.array(last[name], kind) for name, kind in _OF_FRAME.items()}
        last = Frame(**arrays, energy=last["energy"], ionic_step=last["ionic_step"])
    values |= {name: np.array(values[name], kind) for name, kind in _ARRAYS.items()}
    values |= {"potcars": tuple(values["potcars"]), "kpoints": values["kpoints"] and tuple(values["kpoints"])}
    return VaspRun(**values | {"last": last})
