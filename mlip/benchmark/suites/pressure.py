"""Crystals from 0 to 150 GPa by the protocol of ml-peg (repository ddmms/ml-peg, high_pressure_relaxation): from the
structure at 0 GPa, symmetry kept, 0.0002 eV/A, three times 500 steps, float64.

Volume and enthalpy E + p V per atom are compared; enthalpies beyond 25 eV/atom count as not converged. The data are one
file or store for each pressure, named P000, P025, ...; that at 0 GPa has the starts, each has the references, whose
energies are enthalpies. ml-peg relaxes by LBFGS in three rounds; this suite by FIRE, with as many steps as the rounds
together.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip.benchmark.suites.crystals import cubic_crystals
from mlip.benchmark.suites.data_files import content_of
from mlip.benchmark.suites.suite import Metric, Report, Request, Suite, counted, mean, median, share
from mlip.benchmark.tables import Estimate, Table
from mlip.data import Entry, Frame, Store
from mlip.data.readers import alexandria
from mlip.errors import MlipError
from mlip.relaxation import RelaxResult, relax
from mlip.report.axis import Axis
from mlip.report.chart import Chart, Series, side_by_side
from mlip.units import EV_PER_A3_IN_GPA

PRESSURES = (0, 25, 50, 75, 100, 125, 150)
"""Pressures of the full suite, GPa."""
_QUICK_PRESSURES = (0, 50, 100, 150)
_QUICK, _ALL = 12, 40
FMAX, STEPS = 2e-4, 1500
ABSURD = 25.0
"""Absolute enthalpy from which a relaxation counts as not converged, eV/atom."""
_NAME = re.compile(r"P(\d{3})(?![0-9])")
_DRAWN = 6

METRICS = {
    "converged": Metric("converged %", 1),
    "falling": Metric("volume falls with pressure %", 1),
    "compression": Metric("V at 150 GPa / V at 0, median", 3),
    "volume_mae": Metric("volume, MAE Å³/atom (data)", 3),
    "enthalpy_mae": Metric("enthalpy, MAE eV/atom (data)", 3),
}


@dataclass
class _AtPressure:
    """Results at one pressure, by the name of the crystal."""

    pressure: float
    results: dict[str, RelaxResult]
    references: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Reference volume, A^3/atom, and enthalpy, eV/atom."""

    def volume(self, name: str) -> float:
        """Volume, A^3/atom; NaN if not converged."""
        result = self.results[name]
        return result.atoms.get_volume() / len(result.atoms) if self.is_converged(name) else float("nan")

    def enthalpy(self, name: str) -> float:
        """Enthalpy E + p V, eV/atom; NaN if the relaxation failed."""
        result = self.results[name]
        if result.failed:
            return float("nan")
        pv = self.pressure / EV_PER_A3_IN_GPA * result.atoms.get_volume()
        return (result.energy + pv) / len(result.atoms)

    def is_converged(self, name: str) -> bool:
        """Convergence by ml-peg's criterion: largest force component below `FMAX`, and no absurd enthalpy."""
        result, enthalpy = self.results[name], self.enthalpy(name)
        if not abs(enthalpy) < ABSURD:
            return False
        return bool(result.converged or np.abs(result.atoms.get_forces()).max() < FMAX)

    def errors(self) -> tuple[float, float, int]:
        """Mean absolute errors of volume, A^3/atom, and enthalpy, eV/atom; and the number of converged crystals."""
        known = [name for name in self.references if name in self.results and self.is_converged(name)]
        volumes = [abs(self.volume(name) - self.references[name][0]) for name in known]
        enthalpies = [abs(self.enthalpy(name) - self.references[name][1]) for name in known]
        return mean(volumes), mean(enthalpies), len(known)


def run(request: Request) -> Report:
    references: dict[float, dict[str, tuple[float, float]]] = {}
    if request.data:
        starts, references = _of_files(request)
        pressures = sorted(references)
    else:
        crystals = cubic_crystals(_QUICK if request.quick else _ALL)
        starts = {name: crystal.atoms() for name, crystal in crystals.items()}
        pressures = list(_QUICK_PRESSURES if request.quick else PRESSURES)
    known, unknown = request.known(starts)
    how = {} if request.is_foreign else {"dtype": "float64"}
    found = []
    for pressure in pressures:
        options = {"fmax": FMAX, "steps": STEPS, "symmetry": True, "pressure_gpa": float(pressure), **how}
        results = relax(known.values(), request.named.potential, progress=request.progress, **options)
        found.append(_AtPressure(pressure, dict(zip(known, results, strict=True)), references.get(pressure, {})))
    return Report(
        metrics=_metrics(found, known),
        reasons=counted(result.reason for one in found for result in one.results.values()),
        protocol={
            "structures": list(starts) if not request.data else sorted(map(content_of, request.data)),
            "pressures": pressures,
            "fmax": FMAX,
            "steps": STEPS,
            "symmetry": True,
            "dtype": "float64",
        },
        tables=(_table(found),),
        figures=side_by_side([_chart(found, known)]) if len(found) > 1 and known else "",
        left_out={"of elements that the potential does not know": unknown} if unknown else {},
    )


def pressure_of(path: Path) -> float | None:
    """Pressure, GPa, from a file name P###; None for other names."""
    match = _NAME.match(path.name)
    return float(match[1]) if match else None


def _of_files(request: Request) -> tuple[dict[str, Atoms], dict[float, dict[str, tuple[float, float]]]]:
    by_pressure = {pressure_of(path): path for path in request.data}
    if None in by_pressure or 0.0 not in by_pressure:
        raise MlipError(
            "data of pressures are files P000, P025, ..., P000 among them",
            where=", ".join(map(str, request.data)),
            fix="name the stores P000.h5, P025.h5, ...",
        )
    frames = {pressure: dict(_frames(path)) for pressure, path in by_pressure.items()}
    starts = {
        name: Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc) for name, frame in frames[0].items()
    }
    references = {
        pressure: {name: (abs(np.linalg.det(f.cell)) / len(f), f.energy / len(f)) for name, f in of_one.items()}
        for pressure, of_one in frames.items()
    }
    return starts, references


def _frames(path: Path) -> Iterator[tuple[str, Frame]]:
    """Id and relaxed structure of each material of an ALEXANDRIA file or a store."""
    if alexandria.is_alexandria(path):
        for entry in alexandria.read(path, functional="PBE", dimensionality=3):
            if isinstance(entry, Entry):
                yield entry.material_id, entry.frame
        return
    with Store(path) as store:
        for material in store.materials():
            frame = store.relaxed_frame(material)
            if frame is not None:
                yield material.id, frame


def _metrics(found: list[_AtPressure], names: dict[str, Atoms]) -> dict[str, float]:
    n_converged = sum(one.is_converged(name) for one in found for name in names)
    volumes = {name: np.array([one.volume(name) for one in found]) for name in names}
    whole = {name: v for name, v in volumes.items() if np.isfinite(v).all()}
    errors = [one.errors() for one in found if one.references]
    return {
        "converged": share(n_converged, len(found) * len(names)),
        "falling": share(sum(bool((np.diff(v) < 0).all()) for v in whole.values()), len(names)),
        "compression": median(v[-1] / v[0] for v in whole.values()) if found[-1].pressure == 150 else float("nan"),
        "volume_mae": mean(volume for volume, _, _ in errors),
        "enthalpy_mae": mean(enthalpy for _, enthalpy, _ in errors),
    }


def _table(found: list[_AtPressure]) -> Table:
    rows = []
    for one in found:
        volume, enthalpy, n = one.errors()
        converged = sum(map(one.is_converged, one.results))
        reasons = counted(result.reason for result in one.results.values())
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        rows.append(
            (
                f"{one.pressure:g} GPa",
                Estimate(share(converged, len(one.results)), 1),
                Estimate(median(one.volume(name) for name in one.results), 2),
                Estimate(volume, 3),
                Estimate(enthalpy, 3),
                str(n),
                told,
            )
        )
    columns = (
        "",
        "converged %",
        "V Å³/atom, median",
        "volume MAE Å³/atom",
        "enthalpy MAE eV/atom",
        "compared",
        "not converged",
    )
    note = (
        f"Protocol of ml-peg: fmax {FMAX} eV/Å, symmetry kept. Its thresholds, good and bad: volume 0.02 and "
        "0.1 Å³/atom, enthalpy 0.02 and 0.03 eV/atom, converged 100 and 99 %."
    )
    return Table("pressure", "Crystals under pressure", columns, tuple(rows), (note,))


def _chart(found: list[_AtPressure], names: dict[str, Atoms]) -> Chart:
    pressures = np.array([one.pressure for one in found], float)
    series = []
    for k, name in enumerate(list(names)[:_DRAWN]):
        volumes = np.array([one.volume(name) for one in found])
        series.append(Series(name, pressures, volumes / volumes[0], "marked line", k))
    axes = Axis.spanning("pressure, GPa", [pressures]), Axis.spanning("V / V at 0", [one.y for one in series])
    return Chart(series, *axes, "Compression")


SUITE = Suite("Crystals under pressure", METRICS, run, lambda path: pressure_of(path) is not None)
