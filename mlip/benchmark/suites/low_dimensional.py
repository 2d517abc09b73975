"""Tight relaxation of layers and chains by the protocol of ml-peg (repository ddmms/ml-peg,
low_dimensional_relaxation): symmetrized, in 100 A of vacuum, cell relaxed in plane (along the chain), 0.0002 eV/A,
three times 500 steps, float64.

Area or length, and energy per atom, are compared with the reference's; energies beyond 40 eV/atom count as not
converged. ml-peg relaxes by LBFGS in three rounds; this suite by FIRE, with as many steps as the rounds together.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.spacegroup.symmetrize import refine_symmetry

from mlip.benchmark.reference import Reference
from mlip.benchmark.suites.chains import CHAINS
from mlip.benchmark.suites.data_files import content_of, dimensionalities
from mlip.benchmark.suites.layers import layers
from mlip.benchmark.suites.suite import Metric, Report, Request, Suite, counted, mean, share
from mlip.benchmark.tables import Estimate, Table
from mlip.data import Store
from mlip.functionals import check_functionals
from mlip.relaxation import Along, RelaxResult, relax
from mlip.report.axis import Axis
from mlip.report.chart import Chart, Series, side_by_side

FMAX = 2e-4
STEPS = 1500
VACUUM = 100.0
"""Length of the cell vectors across the vacuum, A."""
ABSURD = 40.0
"""Absolute energy from which a relaxation counts as not converged, eV/atom."""
_UNITS = {2: "Å²/atom", 1: "Å/atom"}
_MEASURES = {2: "area", 1: "length"}

METRICS = {
    "converged_2d": Metric("2D converged %", 1),
    "area_mae": Metric("2D area, MAE Å²/atom", 3),
    "energy_mae_2d": Metric("2D energy, MAE eV/atom", 3),
    "converged_1d": Metric("1D converged %", 1),
    "length_mae": Metric("1D length, MAE Å/atom", 3),
    "energy_mae_1d": Metric("1D energy, MAE eV/atom", 3),
}


@dataclass(frozen=True)
class _Case:
    """A layer or chain to relax, with its reference values."""

    name: str
    atoms: Atoms
    directions: np.ndarray
    measure: float
    """Area, A^2/atom, or length, A/atom, of the reference; NaN without one."""
    energy: float
    """Energy of the reference, eV/atom; NaN without one."""

    @property
    def dimensionality(self) -> int:
        return int(self.directions.sum())

    def start(self) -> Atoms:
        """The symmetrized structure in a cell with 100 A across the vacuum."""
        atoms = self.atoms.copy()
        atoms.pbc = True
        refined = atoms.copy()
        try:
            refine_symmetry(refined)
        except (ValueError, RuntimeError, TypeError):  # spglib finds no symmetry: keep the structure as it is
            refined = atoms
        cell = refined.cell.array.copy()
        across = ~self.directions
        cell[across] *= VACUUM / np.linalg.norm(cell[across], axis=1)[:, None]
        refined.set_cell(cell, scale_atoms=False)
        return refined

    def measured(self, atoms: Atoms) -> float:
        """Area, A^2/atom, or length, A/atom, of a structure."""
        vectors = atoms.cell.array[self.directions]
        return float(np.sqrt(np.linalg.det(vectors @ vectors.T))) / len(atoms)


def run(request: Request) -> Report:
    cases, left_out = _of_stores(request) if request.data else _built(request)
    how = {} if request.is_foreign else {"dtype": "float64"}
    results = relax(
        [case.start() for case in cases],
        request.named.potential,
        fmax=FMAX,
        steps=STEPS,
        cell=[Along(tuple(map(bool, case.directions))) for case in cases],
        progress=request.progress,
        **how,
    )
    pairs = list(zip(cases, results, strict=True))
    metrics: dict[str, float] = {}
    for d in (2, 1):
        of_kind = [(case, result) for case, result in pairs if case.dimensionality == d]
        good = [(case, result) for case, result in of_kind if is_converged(result)]
        metrics |= {
            f"converged_{d}d": share(len(good), len(of_kind)),
            f"{_MEASURES[d]}_mae": mean(abs(case.measured(result.atoms) - case.measure) for case, result in good),
            f"energy_mae_{d}d": mean(abs(result.energy / len(case.atoms) - case.energy) for case, result in good),
        }
    return Report(
        metrics=metrics,
        reasons=counted(result.reason for result in results),
        protocol={
            "structures": [case.name for case in cases] if not request.data else sorted(map(content_of, request.data)),
            "fmax": FMAX,
            "steps": STEPS,
            "vacuum": VACUUM,
            "dtype": "float64",
        },
        tables=tuple(_table(d, pairs) for d in (2, 1) if any(case.dimensionality == d for case, _ in pairs)),
        figures=side_by_side([chart for d in (2, 1) if (chart := _chart(d, pairs)) is not None]),
        left_out=left_out,
    )


def is_converged(result: RelaxResult) -> bool:
    """Convergence by ml-peg's criterion: largest force component below `FMAX`, and no absurd energy."""
    if result.failed or abs(result.energy) >= ABSURD * len(result.atoms):
        return False
    return bool(result.converged or np.abs(result.atoms.get_forces()).max() < FMAX)


def _built(request: Request) -> tuple[list[_Case], dict[str, list[str]]]:
    nan = float("nan")
    along_a, in_plane = np.array([True, False, False]), np.array([True, True, False])
    chains = {f"{chain.name} chain": chain for chain in CHAINS}
    structures = layers() | {name: chain.atoms() for name, chain in chains.items()}
    known, unknown = request.known(structures)
    cases = [
        _Case(name, atoms, along_a, chains[name].repeat / len(atoms), nan)
        if name in chains
        else _Case(name, atoms, in_plane, nan, nan)
        for name, atoms in known.items()
    ]
    return cases, {"of elements that the potential does not know": unknown} if unknown else {}


def _of_stores(request: Request) -> tuple[list[_Case], dict[str, list[str]]]:
    cases, left_out = [], {}
    for path in request.data:
        with Store(path) as store:
            for k, material in enumerate(store.materials()):
                if material.dimensionality not in _MEASURES or not material.has_structure:
                    continue
                if material.why_not_relaxed is not None:
                    left_out.setdefault(material.why_not_relaxed, []).append(material.id)
                    continue
                reference = Reference.read(store, k, "last")
                check_functionals(
                    request.named.potential.functional,
                    {reference.functional},
                    of_ours="the potential",
                    of_theirs="the references",
                    where=str(path),
                    allowed=request.allow_functional_mismatch,
                )
                n = len(reference.relaxed)
                case = _Case(reference.id, reference.relaxed, reference.directions, float("nan"), reference.energy / n)
                cases.append(_Case(case.name, case.atoms, case.directions, case.measured(case.atoms), case.energy))
    return cases, left_out


def _table(dimensionality: int, pairs: list[tuple[_Case, RelaxResult]]) -> Table:
    rows = tuple(
        (
            case.name,
            Estimate(float("nan") if result.failed else case.measured(result.atoms), 3),
            Estimate(case.measure, 3),
            Estimate(result.energy / len(case.atoms), 3),
            Estimate(case.energy, 3),
            f"{result.reason}, {result.n_steps} steps",
        )
        for case, result in pairs
        if case.dimensionality == dimensionality
    )
    measure, unit = _MEASURES[dimensionality], _UNITS[dimensionality]
    columns = ("", f"{measure} {unit}", "reference", "energy eV/atom", "reference ", "not converged")
    note = (
        f"Protocol of ml-peg: fmax {FMAX} eV/Å, {VACUUM:g} Å across the vacuum. Its thresholds, good and bad: area "
        "0.05 and 0.15 Å²/atom, energy 0.02 and 0.03 eV/atom, converged 100 and 99 %."
    )
    return Table(f"{measure}s", f"{dimensionality}D: {measure} and energy after relaxation", columns, rows, (note,))


def _chart(dimensionality: int, pairs: list[tuple[_Case, RelaxResult]]) -> Chart | None:
    known = [(c, r) for c, r in pairs if c.dimensionality == dimensionality and not r.failed and np.isfinite(c.measure)]
    if not known:
        return None
    reference = np.array([case.measure for case, _ in known])
    found = np.array([case.measured(result.atoms) for case, result in known])
    series = [Series("relaxed", reference, found, "dots", 0, notes=[case.name for case, _ in known])]
    unit, measure = _UNITS[dimensionality], _MEASURES[dimensionality]
    axes = [Axis.spanning(f"{label}, {unit}", [reference, found]) for label in ("reference", "relaxed")]
    return Chart(series, *axes, f"{dimensionality}D: {measure}", is_parity=True)


SUITE = Suite("Layers and chains", METRICS, run, lambda path: bool({1, 2} & dimensionalities(path)))
