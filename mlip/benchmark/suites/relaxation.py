"""Relaxed volumes: without data, cubic crystals from a strained, rattled start against lattice constants of the
Materials Project; with stores, the relaxation benchmark (Tables 3 and 4)."""

import numpy as np
from ase import Atoms

from mlip.benchmark.error_summary import DimensionalitySummary
from mlip.benchmark.paper_tables import energy_table, volume_table
from mlip.benchmark.relaxation import run_relaxation_benchmark
from mlip.benchmark.results import PotentialResults
from mlip.benchmark.suites.crystals import CubicCrystal, cubic_crystals
from mlip.benchmark.suites.data_files import dimensionalities
from mlip.benchmark.suites.suite import Metric, Report, Request, Suite, counted, mean, share
from mlip.benchmark.tables import Estimate, Table
from mlip.relaxation import RelaxResult, relax
from mlip.report.axis import Axis
from mlip.report.chart import Chart, Series, side_by_side

_QUICK = 46
_STRAIN, _RATTLE, _SEED = 1.03, 0.05, 0
_FMAX, _STEPS = 0.01, 500

METRICS = {
    "failed": Metric("failed %", 1),
    "unconverged": Metric("not converged %", 1),
    "lattice_mape": Metric("a, MAPE against MP %", 2),
    "lattice_mpe": Metric("a, MPE against MP %", 2),
    "volume_mape": Metric("volume MAPE % (data)", 2),
    "energy_mae": Metric("energy MAE eV/atom (data)", 3),
}


def run(request: Request) -> Report:
    return _on_stores(request) if request.data else _on_crystals(request)


def _on_crystals(request: Request) -> Report:
    crystals = cubic_crystals(_QUICK if request.quick else None)
    known, unknown = request.known({name: _start(crystal, k) for k, (name, crystal) in enumerate(crystals.items())})
    results = relax(known.values(), request.named.potential, fmax=_FMAX, steps=_STEPS, progress=request.progress)
    pairs = {name: (crystals[name], result) for name, result in zip(known, results, strict=True)}
    errors = [_error(crystal, result) for crystal, result in pairs.values()]
    return Report(
        metrics={
            "failed": share(sum(result.failed for result in results), len(results)),
            "unconverged": share(sum(result.reason == "max_steps" for result in results), len(results)),
            "lattice_mape": mean(np.abs(errors)),
            "lattice_mpe": mean(errors),
        },
        reasons=counted(result.reason for result in results),
        protocol={
            "structures": list(crystals),
            "strained": _STRAIN,
            "rattled": _RATTLE,
            "fmax": _FMAX,
            "steps": _STEPS,
            "dtype": "float32",
        },
        tables=(_table(pairs),),
        figures=_chart(pairs) if pairs else "",
        left_out={"of elements that the potential does not know": unknown} if unknown else {},
    )


def _start(crystal: CubicCrystal, seed: int) -> Atoms:
    """The crystal, strained and rattled."""
    atoms = crystal.atoms()
    atoms.set_cell(_STRAIN * atoms.cell.array, scale_atoms=True)
    if len(atoms) > 1:
        atoms.rattle(_RATTLE, seed=_SEED + seed)
    return atoms


def _constant(crystal: CubicCrystal, result: RelaxResult) -> float:
    return float("nan") if result.failed else crystal.lattice_constant(result.atoms.get_volume())


def _error(crystal: CubicCrystal, result: RelaxResult) -> float:
    """Relative error of the lattice constant, %."""
    return 100 * (_constant(crystal, result) / crystal.a - 1)


def _table(pairs: dict[str, tuple[CubicCrystal, RelaxResult]]) -> Table:
    rows = tuple(
        (
            name,
            Estimate(_constant(crystal, result), 3),
            Estimate(crystal.a, 3),
            Estimate(_error(crystal, result), 2),
            Estimate(crystal.a_experiment, 3),
            f"{result.reason}, {result.n_steps} steps",
        )
        for name, (crystal, result) in pairs.items()
    )
    columns = ("", "a, Å", "Materials Project (PBE), Å", "error %", "experiment, Å", "not converged")
    note = f"From {100 * (_STRAIN - 1):.0f} % of strain and {_RATTLE} Å of noise, fmax {_FMAX} eV/Å, {_STEPS} steps."
    return Table("relaxation", "Lattice constants of cubic crystals", columns, rows, (note,))


def _chart(pairs: dict[str, tuple[CubicCrystal, RelaxResult]]) -> str:
    reference = np.array([crystal.a for crystal, _ in pairs.values()])
    found = np.array([_constant(crystal, result) for crystal, result in pairs.values()])
    series = [Series("crystals", reference, found, "dots", 0, notes=list(pairs))]
    axes = [Axis.spanning(label, [reference, found]) for label in ("Materials Project, Å", "relaxed, Å")]
    return side_by_side([Chart(series, *axes, "Lattice constants", is_parity=True)])


def _on_stores(request: Request) -> Report:
    results = PotentialResults(request.named.name, request.named.record["sha256"])
    left_out: dict[str, list[str]] = {}
    stores = []
    for path in request.data:
        done = run_relaxation_benchmark(
            request.named.source,
            path,
            request.out / path.stem,
            split="all",
            allow_functional_mismatch=request.allow_functional_mismatch,
            progress=request.progress,
        )
        results.headers.append(done.header)
        results.records += done.records
        stores.append(done.header["store"]["content_sha256"])
        left_out |= done.left_out
    crystals = [s for s in results.summaries if s.dimensionality == 3]
    return Report(
        metrics=_of_summary(crystals[0], results) if crystals else {},
        reasons=counted(record["reason"] for record in results.records),
        protocol={"stores": sorted(stores), **{key: results.setting(key) for key in ("fmax", "steps", "start")}},
        tables=(volume_table([results]), energy_table([results])),
        left_out=left_out,
    )


def _of_summary(summary: DimensionalitySummary, results: PotentialResults) -> dict[str, float]:
    unconverged = sum(r["reason"] == "max_steps" for r in results.records if r["dimensionality"] == 3)
    return {
        "failed": summary.volume.failed_percent,
        "unconverged": share(unconverged, summary.volume.n),
        "volume_mape": summary.volume.mape,
        "energy_mae": summary.energy.mae,
    }


SUITE = Suite("Relaxation of crystals", METRICS, run, lambda path: 3 in dimensionalities(path))
