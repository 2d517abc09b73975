"""Elastic tensors: of cubic crystals without data, against labels with data."""

import numpy as np

from mlip.benchmark.response_benchmark import SUITES
from mlip.benchmark.suites.crystals import cubic_crystals
from mlip.benchmark.suites.data_files import is_labeled
from mlip.benchmark.suites.responses import on_labels
from mlip.benchmark.suites.suite import Metric, Report, Request, Suite, counted, share
from mlip.benchmark.tables import Estimate, Table
from mlip.response.elasticity import UNSTABLE, ElasticResult, elastic_tensors
from mlip.response.minima import OK
from mlip.response.options import ElasticOptions

_QUICK = 16
_LABELS = {key: quantity.names for key, quantity in SUITES["elasticity"].quantities.items()}

METRICS = {
    "unstable": Metric("unstable %", 1),
    "not_ok": Metric("without a tensor %", 1),
    "bulk_modulus_mae": Metric("K, MAE GPa (data)", 1),
    "shear_modulus_mae": Metric("G, MAE GPa (data)", 1),
}


def run(request: Request) -> Report:
    if request.data:
        return on_labels("elasticity", request, UNSTABLE)
    crystals = cubic_crystals(_QUICK if request.quick else None)
    known, unknown = request.known({name: crystal.atoms() for name, crystal in crystals.items()})
    options = ElasticOptions.of({"normal_strains": (-0.005, 0.005), "shear_strains": (-0.005, 0.005)})
    found = dict(elastic_tensors(list(known.values()), request.named.potential, options))
    results = {name: found[k] for k, name in enumerate(known)}
    return Report(
        metrics={
            "unstable": share(sum(r.reason == UNSTABLE for r in results.values()), len(results)),
            "not_ok": share(sum(r.failed for r in results.values()), len(results)),
        },
        reasons=counted(r.reason for r in results.values()),
        protocol={"structures": list(crystals), "strains": [-0.005, 0.005], "fmax": options.fmax, "dtype": "float64"},
        tables=(_table(results),),
        left_out={"of elements that the potential does not know": unknown} if unknown else {},
    )


def _table(results: dict[str, ElasticResult]) -> Table:
    def row(name: str, r: ElasticResult) -> tuple:
        c11, c12, c44 = r.tensor[0, 0], r.tensor[0, 1], r.tensor[3, 3]
        values = (c11, c12, c44, r.bulk_modulus, r.shear_modulus, float(np.min(r.stiffnesses)))
        return (name, *(Estimate(float(value), 1) for value in values), r.reason)

    columns = ("", "C11 GPa", "C12 GPa", "C44 GPa", "K GPa", "G GPa", "softest GPa", "not converged")
    note = f"Ions relaxed. {UNSTABLE}: an eigenvalue of the tensor is not positive; {OK} ones are stable."
    return Table(
        "elasticity", "Elastic tensors of cubic crystals", columns, tuple(map(row, results, results.values())), (note,)
    )


SUITE = Suite("Elastic tensors", METRICS, run, lambda path: is_labeled(path, _LABELS))
