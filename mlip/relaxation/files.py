"""Structures from files, relaxed, into files: the library side of `mlip relax`."""

import json
from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from mlip.errors import MlipError
from mlip.relaxation.cell import CellChoice
from mlip.relaxation.queue import relax


def relax_files(
    potential: str | PathLike,
    files: Sequence[str | PathLike],
    out: str | PathLike,
    *,
    fmax: float = 0.05,
    steps: int = 500,
    cell: CellChoice = "auto",
    dtype: str = "float32",
    progress: bool = True,
) -> dict[str, Any]:
    """Relax every frame of every file; write OUT/relaxed.extxyz and OUT/results.jsonl in their order.

    A structure that failed stands in relaxed.extxyz as it was when it failed, with its reason in `info`.

    Returns:
        counts: structures, and how many ended for which reason.

    Raises:
        MlipError: a file that is absent, holds nothing, or that ASE cannot read.
    """
    sources = [(str(path), k, atoms) for path in files for k, atoms in enumerate(read_structures(path))]
    results = relax([atoms for *_, atoms in sources], potential, fmax, steps, cell, dtype=dtype, progress=progress)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "results.jsonl").open("w") as file:
        for (path, k, _), result in zip(sources, results, strict=True):
            file.write(json.dumps({"file": path, "frame": k, **result.as_record()}, allow_nan=False) + "\n")
    relaxed = [result.atoms for result in results]
    for atoms, result, (path, k, _) in zip(relaxed, results, sources, strict=True):
        atoms.info |= {"source": path, "frame": k, "reason": result.reason, "converged": result.converged}
    ase.io.write(out / "relaxed.extxyz", relaxed, format="extxyz")
    return {"structures": len(results), "reasons": dict(Counter(r.reason for r in results).most_common())}


def read_structures(path: str | PathLike) -> list[Atoms]:
    """All frames of a file in any format that ASE reads.

    Raises:
        MlipError: absent, empty, or unreadable.
    """
    where = str(path)
    if not Path(path).is_file():
        raise MlipError("no such file", where=where)
    try:
        frames = ase.io.read(path, index=":")
    except Exception as error:  # every format of ASE fails in its own way
        raise MlipError(f"ASE cannot read it ({type(error).__name__}: {error})", where=where) from None
    if not frames:
        raise MlipError("holds no structure", where=where)
    return frames


def parse_cell_choice(text: str) -> CellChoice:
    """auto, all, none, or six digits 0 and 1: xx yy zz yz xz xy.

    Raises:
        MlipError: anything else.
    """
    words: dict[str, CellChoice] = {"auto": "auto", "all": True, "none": False}
    if text in words:
        return words[text]
    if len(text) == 6 and set(text) <= {"0", "1"}:
        return np.array([digit == "1" for digit in text])
    raise MlipError(f"unknown cell choice {text!r}", where="--cell", fix="auto, all, none, or a mask such as 110001")
