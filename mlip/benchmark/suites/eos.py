"""Equations of state of cubic crystals: is there a minimum within the volumes, near DFT's, on a smooth curve?"""

import numpy as np

from mlip.benchmark.suites.crystals import cubic_crystals
from mlip.benchmark.suites.suite import Metric, Report, Request, Suite, counted, mean, median, share
from mlip.benchmark.tables import Estimate, Table
from mlip.report.axis import Axis
from mlip.report.chart import Chart, Series, side_by_side
from mlip.response.eos import EosResult, equations_of_state
from mlip.response.minima import OK
from mlip.response.options import EosOptions

_QUICK = 24
_OPTIONS = {"dtype": "float32", "relax_ions": False}
"""Symmetry fixes the ions of most of these cubic crystals, and float32 is precise enough for a curve."""
_DRAWN = 9

METRICS = {
    "not_ok": Metric("without a curve %", 1),
    "volume_mape": Metric("V0, MAPE against MP %", 2),
    "residual": Metric("off the curve, median meV/atom", 2),
}


def run(request: Request) -> Report:
    crystals = cubic_crystals(_QUICK if request.quick else None)
    known, unknown = request.known({name: crystal.atoms() for name, crystal in crystals.items()})
    options = EosOptions.of({"relax_ions": False} if request.is_foreign else _OPTIONS)
    found = dict(equations_of_state(list(known.values()), request.named.potential, options))
    results = {name: found[k] for k, name in enumerate(known)}
    errors = [100 * (r.volume / known[name].get_volume() - 1) for name, r in results.items()]
    return Report(
        metrics={
            "not_ok": share(sum(r.reason != OK for r in results.values()), len(results)),
            "volume_mape": mean(np.abs(errors)),
            "residual": median(1000 * r.residual / len(r.atoms) for r in results.values()),
        },
        reasons=counted(r.reason for r in results.values()),
        protocol={"structures": list(crystals), "volumes": list(options.volumes), **_OPTIONS},
        tables=(_table(results),),
        figures=side_by_side([_chart(name, r) for name, r in list(results.items())[:_DRAWN] if r.fit is not None]),
        left_out={"of elements that the potential does not know": unknown} if unknown else {},
    )


def _table(results: dict[str, EosResult]) -> Table:
    rows = tuple(
        (
            name,
            Estimate(r.volume / len(r.atoms), 3),
            Estimate(r.bulk_modulus, 1),
            Estimate(r.bulk_modulus_derivative, 2),
            Estimate(1000 * r.residual / len(r.atoms), 3),
            r.reason,
        )
        for name, r in results.items()
    )
    columns = ("", "V0 Å³/atom", "B0 GPa", "B0'", "off the curve meV/atom", "not converged")
    return Table("eos", "Equations of state (Birch-Murnaghan)", columns, rows)


def _chart(name: str, result: EosResult) -> Chart:
    n = len(result.atoms)
    volumes, energies = result.volumes / n, 1000 * (result.energies - np.nanmin(result.energies)) / n
    fine = np.linspace(volumes.min(), volumes.max(), 61)
    curve = 1000 * (result.fit.energies(fine * n) - np.nanmin(result.energies)) / n
    series = [Series("potential", volumes, energies, "dots", 0), Series("Birch-Murnaghan", fine, curve, "line", 1)]
    return Chart(
        series,
        Axis.spanning("volume, Å³/atom", [volumes]),
        Axis.spanning("energy, meV/atom", [one.y for one in series]),
        f"{name}: {result.reason}",
    )


SUITE = Suite("Equations of state", METRICS, run, lambda path: False)
