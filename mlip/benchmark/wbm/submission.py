"""The files of a submission to Matbench Discovery, with its file names and columns (contributing.md of
janosh/matbench-discovery):

    DATE-geo-opt.jsonl.gz      a line per structure: material_id, structure (pymatgen's), energy, converged, n_steps
    DATE-discovery.csv.gz      material_id, e_form_per_atom; empty where there is no prediction
    KEY.yml                    settings and metrics; the submitter adds authors, licenses and links

and DATE-geo-opt-symprec=...-spglib=....csv.gz, the comparison of each structure with DFT's. A gzip file may consist of
several members, so those of parts are concatenated unchanged.
"""

import csv
import gzip
import io
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import spglib
import yaml

from mlip.benchmark.wbm.geometry import SYMPRECS
from mlip.errors import MlipError
from mlip.files.checksum import checksum_of
from mlip.files.whole_file import whole_file

_KEY = re.compile(r"[a-z0-9]+([-.][a-z0-9]+)*")
_HEADER = """# Metrics computed by mlip; symmetry by spglib {spglib}. Whoever submits adds authors, dates, licenses,
# links, training sets, architecture, and the URLs of the uploaded files
# (https://github.com/janosh/matbench-discovery/blob/main/contributing.md).
"""


def model_key_of(name: str) -> str:
    """A potential's name as a model key: lower-case letters, digits, hyphens and dots."""
    key = re.sub(r"[^a-z0-9.]+", "-", name.lower())
    return re.sub(r"[-.]{2,}", "-", key).strip("-.") or "model"


def check_model_key(key: str) -> None:
    """Check that Matbench Discovery accepts a model key.

    Raises:
        MlipError: the key has other characters than lower-case letters, digits, hyphens and dots.
    """
    if not _KEY.fullmatch(key):
        raise MlipError(f"is {key!r}", where="--model-key", fix=f"small letters and hyphens: {model_key_of(key)}")


@contextmanager
def gzip_text(path: Path) -> Iterator[TextIO]:
    """Open a gzip text file that is written whole or not at all; the same text gives the same bytes."""
    with whole_file(path) as partial, partial.open("wb") as raw, _compressed(raw) as stream:
        yield stream


@contextmanager
def _compressed(raw: io.BufferedWriter) -> Iterator[TextIO]:
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        yield text


def write_structures(path: Path, lines: Iterable[Mapping[str, Any] | None]) -> int:
    """Write the submitted structures of a part, one at a time; None is a failed one. Returns the number written."""
    n = 0
    with gzip_text(path) as file:
        for line in lines:
            if line is not None:
                file.write(json.dumps(line, allow_nan=False) + "\n")
                n += 1
    return n


def join_members(path: Path, parts: Sequence[Path]) -> None:
    """Concatenate several gzip files into one."""
    with whole_file(path) as partial, partial.open("wb") as joined:
        for part in parts:
            with part.open("rb") as member:
                shutil.copyfileobj(member, joined)


def write_predictions(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write formation energies, eV/atom, rounded to four decimals as the publishers do; every material has a line."""
    with gzip_text(path) as file:
        write = csv.writer(file, lineterminator="\n").writerow
        write(("material_id", "e_form_per_atom"))
        for row in rows:
            value = row.get("e_form")
            write((row["material_id"], "" if value is None else round(value, 4)))


def analysis_name(date: str, symprec: str) -> str:
    """Name of the file with the comparison of structures."""
    return f"{date}-geo-opt-symprec={symprec}-spglib={spglib.__version__}.csv.gz"


def write_analysis(path: Path, symprec: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the comparison of every submitted structure with DFT's, under the publishers' columns."""
    with gzip_text(path) as file:
        write = csv.writer(file, lineterminator="\n").writerow
        columns = ("spg_num", "n_sym_ops", "symprec", "spg_num_diff", "n_sym_ops_diff")
        write(("material_id", *columns, "structure_rmsd_vs_dft", "max_pair_dist"))
        for row in rows:
            if "symmetry" not in row:
                continue
            group = row["symmetry"][symprec]["relaxed"] or ("", "")
            change = symmetry_change(row, symprec) or ("", "")
            write((row["material_id"], *group, SYMPRECS[symprec], *change, row["rmsd"], row["max_distance"]))


def symmetry_change(row: Mapping[str, Any], symprec: str) -> tuple[int, int] | None:
    """Changes of space group number and number of operations, relaxed minus DFT's; None where spglib found no symmetry
    for one of the structures."""
    relaxed, dft = row["symmetry"][symprec]["relaxed"], row["symmetry"][symprec]["dft"]
    return None if relaxed is None or dft is None else (relaxed[0] - dft[0], relaxed[1] - dft[1])


def write_model_file(
    path: Path, name: str, settings: Mapping[str, Any], metrics: Mapping[str, Any], remark: str | None = None
) -> None:
    """Write the model's YAML with the keys that a run can fill.

    Args:
        path: its stem is the model's key.
        settings: settings of the relaxation.
        metrics: metrics under "geo_opt" and "discovery".
        remark: first line of the file, as a comment.
    """
    text = yaml.safe_dump(
        {
            "model_name": name,
            "model_key": path.stem,
            "test_task": "IS2RE-SR",
            "hyperparams": {"evaluation": dict(settings)},
            "metrics": dict(metrics),
        },
        sort_keys=False,
        allow_unicode=True,
    )
    with whole_file(path) as partial:
        first = "" if remark is None else f"# {remark}\n"
        partial.write_text(first + _HEADER.format(spglib=spglib.__version__) + text, encoding="utf-8")


def file_reference(path: Path, key: str) -> dict[str, Any]:
    """Reference to a file, in the form of the model's YAML."""
    family = key.split("-", 1)[0].replace(".", "_")
    return {
        "name": f"models/{family}/{key}/{path.name}",
        "url": None,
        "size": path.stat().st_size,
        "md5": checksum_of(path, "md5"),
    }
