"""Phonons: of cubic crystals in small supercells, where an imaginary mode is a warning; with data against labels of the
heat capacity. Requires phonopy."""

from mlip.benchmark.response_benchmark import SUITES
from mlip.benchmark.suites.crystals import cubic_crystals
from mlip.benchmark.suites.data_files import is_labeled
from mlip.benchmark.suites.responses import on_labels
from mlip.benchmark.suites.suite import Metric, Report, Request, Suite, counted, share
from mlip.benchmark.tables import Estimate, Table
from mlip.response.minima import NOT_CONVERGED
from mlip.response.options import PhononOptions
from mlip.response.phonon_result import PhononResult
from mlip.response.vibrations import IMAGINARY, check_phonopy, phonons_of_each

_QUICK, _ALL = 10, 40
_MIN_LENGTH = 8.0
_LABELS = {key: quantity.names for key, quantity in SUITES["phonons"].quantities.items()}

METRICS = {
    "imaginary": Metric("imaginary modes %", 1),
    "not_ok": Metric("without phonons %", 1),
    "heat_capacity_mae": Metric("Cv at 300 K, MAE J/K/mol (data)", 2),
}


def run(request: Request) -> Report:
    check_phonopy()
    if request.data:
        return on_labels("phonons", request, IMAGINARY)
    crystals = cubic_crystals(_QUICK if request.quick else _ALL)
    known, unknown = request.known({name: crystal.atoms() for name, crystal in crystals.items()})
    options = PhononOptions.of({"min_length": _MIN_LENGTH, "temperatures": (300.0,)})
    found = dict(phonons_of_each(list(known.values()), request.named.potential, options))
    results = {name: found[k] for k, name in enumerate(known)}
    return Report(
        metrics={
            "imaginary": share(sum(r.reason == IMAGINARY for r in results.values()), len(results)),
            "not_ok": share(sum(r.failed or r.reason == NOT_CONVERGED for r in results.values()), len(results)),
        },
        reasons=counted(r.reason for r in results.values()),
        protocol={"structures": list(crystals), "min_length": _MIN_LENGTH, "fmax": options.fmax, "dtype": "float64"},
        tables=(_table(results),),
        left_out={"of elements that the potential does not know": unknown} if unknown else {},
    )


def _table(results: dict[str, PhononResult]) -> Table:
    rows = tuple(
        (
            name,
            Estimate(r.lowest, 2),
            Estimate(r.highest, 2),
            Estimate(r.heat_capacity(300.0), 2),
            "x".join(map(str, r.supercell)) if r.supercell else "-",
            r.reason,
        )
        for name, r in results.items()
    )
    columns = ("", "lowest THz", "highest THz", "Cv at 300 K J/K/mol", "supercell", "not converged")
    note = "Cv of the primitive cell. The lowest frequency is on the mesh; imaginary ones are negative."
    return Table("phonons", f"Phonons in supercells of at least {_MIN_LENGTH:g} Å", columns, rows, (note,))


SUITE = Suite("Phonons", METRICS, run, lambda path: is_labeled(path, _LABELS))
