"""Elastic moduli and heat capacities of many materials against labels: who failed, why, and how far off the rest are.

Records are appended as they are there, so that a run that was killed goes on; what failed, is unstable or has imaginary
modes stands in the table's counts.
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
"""Entries of records that would make most of the file."""


@dataclass(frozen=True)
class Quantity:
    """A property that is compared."""

    symbol: str
    """As columns name it."""
    unit: str
    names: tuple[str, ...]
    """Names of its labels."""
    value: Callable[[Any], float]
    """Value of a result; NaN if it has none."""


@dataclass(frozen=True)
class Suite:
    """A benchmark of responses."""

    name: str
    title: str
    options: type[ResponseOptions]
    compute: Callable[..., Iterator[tuple[int, Any]]]
    quantities: Mapping[str, Quantity]
    remark: str
    """Reason of results that have a value, of a structure that would not last."""
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
    """Averages of the errors of a quantity, predicted - label; NaN when there is nothing."""

    n: int
    """Materials."""
    mae: float
    bias: float
    """Mean error."""
    median: float
    """Median of the absolute errors."""


def response_errors(
    predicted: Float[np.ndarray, " k"], reference: Float[np.ndarray, " k"], n_atoms: Float[np.ndarray, " k"]
) -> ResponseErrors:
    """Averages of the errors (`n_atoms` is not needed; `intervals_95` has it for all errors)."""
    errors = predicted - reference
    if not len(errors):
        return ResponseErrors(0, *[float("nan")] * 3)
    return ResponseErrors(
        len(errors), float(np.abs(errors).mean()), float(errors.mean()), float(np.median(np.abs(errors)))
    )


@dataclass(frozen=True)
class ResponseRun:
    """A finished benchmark."""

    suite: Suite
    name: str
    records: list[dict[str, Any]]
    note: str | None
    """A remark on the functionals, if there is one."""
    chosen: str
    """Which of the source's materials."""

    def table(self, with_paper: bool = False) -> Table:
        """A row for the potential.

        Args:
            with_paper: rows that MatPES published for the same labels beside it.
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
    """Compute the response of every labeled material of a source; records to OUT/results.jsonl, resumed where a run was
    killed.

    Args:
        suite: elasticity or phonons.
        source: a store, or JSON, as `read_labeled` takes it.
        at_most: so many materials, evenly chosen.
        options: the fields of the suite's options.

    Raises:
        MlipError: no such potential or source, no labels, labels of another functional, an option out of range, results
            of another run in OUT.
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
    """The content of a file or a store."""
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
