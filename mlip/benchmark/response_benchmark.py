"""Elastic moduli and heat capacities of many materials against labels: which fail, why, and the errors of the rest.

Records are appended as soon as they are computed, so that a killed run resumes. The table counts materials that failed,
are unstable or have imaginary modes.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mlip.benchmark.intervals import intervals_95
from mlip.benchmark.labeled_materials import JSON_ENDINGS, LabeledMaterial, read_labeled
from mlip.benchmark.published import RESPONSES, RESPONSES_CITATION
from mlip.benchmark.tables import Cell, Estimate, Table
from mlip.data import Store
from mlip.evaluation.split_errors import evenly_chosen
from mlip.files.checksum import checksum_of
from mlip.foreign import ForeignPotential, check_no_precision
from mlip.functionals import check_functionals
from mlip.progress import count_bar
from mlip.relaxation.named import open_named, precision_recorded
from mlip.relaxation.results_file import ResultsFile
from mlip.response.elasticity import UNSTABLE, elastic_tensors
from mlip.response.minima import NOT_CONVERGED, OK
from mlip.response.options import ElasticOptions, PhononOptions, ResponseOptions
from mlip.response.vibrations import IMAGINARY, check_phonopy, phonons_of_each

_FIGURES = ("bands", "dos")
"""Large entries of the results that are left out of the records."""


@dataclass(frozen=True)
class Quantity:
    """A property that is compared with labels."""

    symbol: str
    """Symbol of the quantity in column names."""
    unit: str
    names: tuple[str, ...]
    """Possible names of the label in a source."""
    value: Callable[[Any], float]
    """Function that returns the value of a result; NaN if it has none."""


@dataclass(frozen=True)
class Suite:
    """Definition of a benchmark of responses."""

    name: str
    title: str
    options: type[ResponseOptions]
    compute: Callable[..., Iterator[tuple[int, Any]]]
    quantities: Mapping[str, Quantity]
    remark: str
    """Reason of results that have a value although the structure is not stable."""
    check: Callable[[], None] = lambda: None


SUITES = {
    "elasticity": Suite(
        "elasticity",
        "Elastic moduli",
        ElasticOptions,
        elastic_tensors,
        {
            "bulk_modulus": Quantity(
                "K", "GPa", ("bulk_modulus_vrh", "bulk_modulus", "k_vrh"), lambda r: r.bulk_modulus
            ),
            "shear_modulus": Quantity(
                "G", "GPa", ("shear_modulus_vrh", "shear_modulus", "g_vrh"), lambda r: r.shear_modulus
            ),
        },
        UNSTABLE,
    ),
    "phonons": Suite(
        "phonons",
        "Heat capacities",
        PhononOptions,
        phonons_of_each,
        {
            "heat_capacity": Quantity(
                "Cv", "J/K/mol", ("heat_capacity_300K", "heat_capacity"), lambda r: r.heat_capacity(300.0)
            )
        },
        IMAGINARY,
        check_phonopy,
    ),
}


@dataclass(frozen=True)
class ResponseErrors:
    """Mean errors of a quantity, predicted minus label; NaN without materials."""

    n: int
    """Number of materials."""
    mae: float
    bias: float
    """Mean error."""
    median: float
    """Median of the absolute errors."""


def response_errors(
    predicted: Float[np.ndarray, " k"], reference: Float[np.ndarray, " k"], n_atoms: Float[np.ndarray, " k"]
) -> ResponseErrors:
    """Mean errors of a quantity. `n_atoms` is unused: `intervals_95` requires this signature."""
    errors = predicted - reference
    if not len(errors):
        return ResponseErrors(0, *[float("nan")] * 3)
    return ResponseErrors(
        len(errors), float(np.abs(errors).mean()), float(errors.mean()), float(np.median(np.abs(errors)))
    )


@dataclass(frozen=True)
class ResponseRun:
    """The records of a finished benchmark."""

    suite: Suite
    name: str
    records: list[dict[str, Any]]
    note: str | None
    """Warning on functionals that differ or are unknown; None without one."""
    chosen: str
    """Sentence that tells which of the source's materials were computed."""

    def table(self, with_paper: bool = False) -> Table:
        """A table with a row for the potential.

        Args:
            with_paper: add the rows that MatPES published for the same labels.
        """
        columns, cells = ["potential", "materials"], [self.name, str(len(self.records))]
        reasons = Counter(record["reason"] for record in self.records)
        remark = reasons.pop(self.suite.remark, 0)
        unfinished, fine = reasons.pop(NOT_CONVERGED, 0), reasons.pop(OK, 0)
        counts = {"failed": sum(reasons.values()), self.suite.remark: remark, "not converged": unfinished, "ok": fine}
        columns += counts
        cells += map(str, counts.values())
        for key, quantity in self.suite.quantities.items():
            symbol, unit = quantity.symbol, quantity.unit
            columns += [f"{symbol}: MAE {unit}", f"{symbol}: median", f"{symbol}: mean error", f"{symbol}: MAE of all"]
            cells += self._errors(key)
        notes = [
            f"error = potential - reference; MAE, median and mean of those that are {OK}; of all: of every value. "
            + self.chosen,
            *([f"failed: {', '.join(f'{count} {reason}' for reason, count in reasons.items())}"] if reasons else []),
            *([self.note] if self.note else []),
            *([RESPONSES_CITATION + "."] if with_paper else []),
        ]
        rows = [tuple(cells)]
        if with_paper:
            unknown = len(counts) + 1
            for name, errors in RESPONSES[self.suite.name].items():
                published = chain.from_iterable(("-", "-", "-", errors[key]) for key in self.suite.quantities)
                rows.append((f"{name} (MatPES)", *["-"] * unknown, *published))
        return Table("responses", self.suite.title, tuple(columns), tuple(rows), tuple(notes))

    def _errors(self, key: str) -> list[Cell]:
        good = [record for record in self.records if record["reason"] == OK]
        told, of_all = (self._pairs(key, part) for part in (good, self.records))
        found, bounds = response_errors(*told), intervals_95(response_errors, *told)
        cells: list[Cell] = [Estimate(getattr(found, name), 2, bounds[name]) for name in ("mae", "median", "bias")]
        return [*cells, Estimate(response_errors(*of_all).mae, 2)]

    @staticmethod
    def _pairs(key: str, records: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = [(record["predicted"][key], record["labels"][key], record["n_atoms"]) for record in records]
        numbers = np.array(rows, dtype=float).reshape(-1, 3)
        return tuple(numbers[np.isfinite(numbers).all(axis=1)].T)


def run_response_benchmark(
    suite: str,
    potential: str | PathLike,
    source: str | PathLike,
    out: str | PathLike,
    *,
    at_most: int | None = None,
    dtype: str | None = None,
    allow_functional_mismatch: bool = False,
    progress: bool = True,
    **options: Any,
) -> ResponseRun:
    """Compute the response of every labeled material of a source. Records are appended to OUT/results.jsonl; a rerun
    resumes there.

    Args:
        suite: elasticity or phonons.
        source: a store or a JSON file that `read_labeled` accepts.
        at_most: number of materials to choose evenly from the source; by default all.
        options: fields of the suite's options.

    Raises:
        MlipError: there is no such potential or source, no material has a label, labels are of another functional, an
            option is out of range, or OUT has results of another run.
    """
    how = SUITES[suite]
    checked = how.options.of(options if dtype is None else options | {"dtype": dtype})
    how.check()
    named = open_named(potential)
    is_foreign = isinstance(named.potential, ForeignPotential)
    if is_foreign:
        check_no_precision(dtype)
    materials = read_labeled(source, {key: quantity.names for key, quantity in how.quantities.items()})
    note = check_functionals(
        named.potential.functional,
        {material.functional for material in materials},
        of_ours="the potential",
        of_theirs="the labels",
        where=str(source),
        allowed=allow_functional_mismatch,
    )
    chosen = evenly_chosen(np.arange(len(materials)), at_most or len(materials))
    protocol = {
        "benchmark": suite,
        "response": {**asdict(checked), "dtype": precision_recorded({} if is_foreign else {"dtype": checked.dtype})},
        "potential": named.record,
        "source": {
            "name": Path(source).name,
            "sha256": _digest(Path(source)),
            "materials": len(materials),
            "chosen": len(chosen),
        },
    }
    with ResultsFile(Path(out) / "results.jsonl", protocol) as results:
        done = {record["material"] for record in results.records}
        missing = [int(k) for k in chosen if int(k) not in done]
        with count_bar(progress) as bar:
            task = bar.add_task(suite, total=len(chosen), completed=len(chosen) - len(missing))
            atoms = [materials[k].atoms for k in missing]
            for index, result in how.compute(atoms, named.potential, checked):
                results.append(_record(how, missing[index], materials[missing[index]], result))
                bar.advance(task)
        records = sorted(results.records, key=lambda record: record["material"])
    told = f"{len(chosen)} of the {len(materials)} labeled materials of {Path(source).name}."
    return ResponseRun(how, named.name, records, note, told)


def _digest(source: Path) -> str:
    """Checksum of the content of a file or a store."""
    if source.name.endswith(JSON_ENDINGS):
        return checksum_of(source)
    with Store(source) as store:
        return store.content_sha256


def _record(suite: Suite, place: int, material: LabeledMaterial, result: Any) -> dict[str, Any]:
    values = {key: quantity.value(result) for key, quantity in suite.quantities.items()}
    return {
        "material": place,
        "id": material.id,
        "formula": material.atoms.symbols.get_chemical_formula(empirical=True),
        "n_atoms": len(material.atoms),
        "predicted": {key: value if np.isfinite(value) else None for key, value in values.items()},
        "labels": {key: value if np.isfinite(value) else None for key, value in material.labels.items()},
        **{key: value for key, value in result.as_record().items() if key not in _FIGURES},
    }
