"""Dimers of pairs of elements: does the potential keep atoms apart (`mlip.benchmark.dimers`)?"""

from mlip.benchmark.dimer_report import dimer_table, element_table
from mlip.benchmark.dimers import scan_dimers
from mlip.benchmark.suites.suite import Metric, Report, Request, Suite
from mlip.errors import MlipError

_QUICK = (
    *("H", "Li", "B", "C", "N", "O", "F", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "K", "Ca", "Ti", "Cr", "Mn", "Fe"),
    *("Co", "Ni", "Cu", "Zn", "Ga", "As", "Sr", "Zr", "Mo", "Ag", "Sn", "Ba", "La", "W", "Pt", "Au", "Pb", "Bi"),
)

METRICS = {
    "without_hole": Metric("no hole on the way to the bond %", 1),
    "passing": Metric("repulsive at short range %", 1),
}


def run(request: Request) -> Report:
    if request.is_foreign:
        raise MlipError("takes potentials of mlip's, not calculators of ASE", where="dimers")
    potential = request.named.potential
    elements = [symbol for symbol in _QUICK if symbol in potential.elements] if request.quick else None
    scan = scan_dimers(potential, elements, progress=request.progress)
    counts = scan.summary()
    unknown = sorted(set(_QUICK) - set(potential.elements)) if request.quick else []
    return Report(
        metrics={
            "without_hole": 100 * counts["share_without_hole_to_bond"],
            "passing": 100 * counts["pairs_passing"] / counts["pairs"],
        },
        reasons={
            "no hole": counts["pairs_without_hole_to_bond"],
            "hole": counts["pairs"] - counts["pairs_without_hole_to_bond"],
        },
        protocol={
            "elements": list(_QUICK) if request.quick else "all that it knows",
            "distances": counts["distances"],
            "dtype": "float32",
        },
        tables=(dimer_table(scan, request.named.name), element_table(scan, request.named.name, n_worst=10)),
        left_out={"of elements that the potential does not know": unknown} if unknown else {},
    )


SUITE = Suite("Dimers", METRICS, run, lambda path: False)
