"""Responses of structures in files, written to files; the implementation of `mlip eos`, `mlip elastic` and `mlip
phonons`.

Each response is appended to results.jsonl immediately, so that a killed run can continue where it stopped.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from mlip.errors import MlipError
from mlip.foreign import ForeignPotential, check_no_precision
from mlip.progress import count_bar
from mlip.relaxation.named import NamedPotential, open_named, precision_recorded
from mlip.relaxation.reading import StructureSource, identity_of_inputs, read_sources
from mlip.relaxation.results_file import ResultsFile
from mlip.response.elasticity import elastic_tensors
from mlip.response.eos import equations_of_state
from mlip.response.minima import ERROR, OK
from mlip.response.options import ElasticOptions, EosOptions, PhononOptions, ResponseOptions
from mlip.response.response_page import eos_page, phonon_page
from mlip.response.results import formula, structure_record
from mlip.response.vibrations import check_phonopy, phonons_of_each

_RESULTS, _PAGE = "results.jsonl", "report.html"


@dataclass(frozen=True)
class Kind:
    """A kind of response, with its options and the functions that compute, check and plot it."""

    options: type[ResponseOptions]
    compute: Callable[..., Iterator[tuple[int, Any]]]
    check: Callable[[], None] | None = None
    page: Callable[[Sequence[Mapping[str, Any]], str, Path], None] | None = None


KINDS = {
    "eos": Kind(EosOptions, equations_of_state, page=eos_page),
    "elastic": Kind(ElasticOptions, elastic_tensors),
    "phonons": Kind(PhononOptions, phonons_of_each, check=check_phonopy, page=phonon_page),
}


def respond_to_files(
    kind: str,
    potential: str | PathLike,
    files: Sequence[str | PathLike],
    out: str | PathLike,
    *,
    force: bool = False,
    progress: bool = True,
    dtype: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Responses of every frame of every file: records to OUT/results.jsonl as they end, figures to OUT/report.html.

    Structures already in OUT/results.jsonl are not computed again. A file or frame that cannot be read also has a
    record, with the reason error.

    Args:
        kind: eos, elastic or phonons.
        force: start over if OUT already has results.
        options: fields of the options of this kind.

    Returns:
        `potential`: name, functional and, if it was given by name, license; counts: number of structures
        (`structures`), how many were computed now (`computed_now`), how many ended for each reason (`reasons`); `page`,
        the path of the figures or None; and the records (`records`).

    Raises:
        MlipError: the potential does not exist, no file has a structure, an option is out of range, or OUT has results
            of another potential, other inputs or options.
    """
    how, out = KINDS[kind], Path(out)
    checked = how.options.of(options if dtype is None else options | {"dtype": dtype})
    if how.check is not None:
        how.check()
    named = open_named(potential)
    if isinstance(named.potential, ForeignPotential):
        check_no_precision(dtype)
    sources = read_sources(files)
    if force:
        for name in (_RESULTS, _PAGE):
            (out / name).unlink(missing_ok=True)
    if (out / _PAGE).exists() and not (out / _RESULTS).exists():
        raise MlipError(f"exists, without a {_RESULTS}", where=str(out / _PAGE), fix="another --out, or --force")
    with ResultsFile(out / _RESULTS, _protocol(kind, named, files, len(sources), checked)) as results:
        missing = _compute(how, named, sources, checked, results, progress)
        records = sorted(results.records, key=lambda record: record["structure"])
    if how.page is not None:
        how.page(records, named.name, out / _PAGE)
    return {
        "potential": named.facts,
        "structures": len(records),
        "computed_now": missing,
        "reasons": dict(Counter(record["reason"] for record in records).most_common()),
        "page": None if how.page is None else str(out / _PAGE),
        "records": records,
    }


def _compute(
    how: Kind,
    named: NamedPotential,
    sources: Sequence[StructureSource],
    options: ResponseOptions,
    results: ResultsFile,
    progress: bool,
) -> int:
    """Append records of all structures without one; returns their number."""
    done = {record["structure"] for record in results.records}
    missing = [k for k in range(len(sources)) if k not in done]
    readable = [k for k in missing if sources[k].atoms is not None]
    for k in missing:
        if sources[k].atoms is None:
            results.append(_place(k, sources[k]) | {"formula": "", "reason": ERROR, "message": sources[k].message})
    with count_bar(progress) as bar:
        task = bar.add_task("structures", total=len(sources), completed=len(sources) - len(readable))
        for index, result in how.compute([sources[k].atoms for k in readable], named.potential, options):
            k = readable[index]
            atoms = sources[k].atoms
            about = {"formula": formula(atoms), "potential": named.name, "initial": structure_record(atoms)}
            results.append(_place(k, sources[k]) | about | result.as_record())
            bar.advance(task)
    return len(missing)


def _place(index: int, source: StructureSource) -> dict[str, Any]:
    return {"structure": index, "file": source.file, "frame": source.frame}


def _protocol(kind: str, named: NamedPotential, files, n_structures: int, options: ResponseOptions) -> dict[str, Any]:
    """Settings that must be equal for records of two runs to share a file."""
    known = asdict(options)
    is_ours = not isinstance(named.potential, ForeignPotential)
    return {
        "response": {"kind": kind, **known, "dtype": precision_recorded({"dtype": options.dtype} if is_ours else {})},
        "potential": named.record,
        "inputs": identity_of_inputs(files, n_structures),
    }


def is_failure(record: Mapping[str, Any]) -> bool:
    """Whether a record has no response, or one with a reason other than ok."""
    return record["reason"] != OK
