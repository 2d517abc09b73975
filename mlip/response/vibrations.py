"""Phonons of many crystals: force constants of supercells, and frequencies and thermal properties from phonopy.

The forces of all structures' displaced supercells are predicted together. Force constants obey the acoustic sum rule.
There is no non-analytical correction for polar crystals, because a potential has no Born charges.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from ase import Atoms

from mlip.errors import MlipError
from mlip.foreign import ForeignPotential
from mlip.progress import count_bar
from mlip.relaxation.structures_to_relax import take_in
from mlip.response.minima import ERROR, OK, Evaluator, Minimum, open_any, stream
from mlip.response.options import PhononOptions
from mlip.response.phonon_result import PhononResult, Thermal
from mlip.response.results import Responses

IMAGINARY = "imaginary"
"""Reason for a structure that is not at a minimum: some displacement of its atoms lowers the energy."""
_TOGETHER = 16
_EV_PER_KJ_MOL = 1 / 96.48533212331
_AT_REST = 1e-3
"""Frequency below which modes are excluded from thermal properties, THz: acoustic modes at Gamma, whose frequencies are
rounding errors of either sign, and imaginary modes."""


def phonons(
    structures: Any, potential: Evaluator | str | PathLike | None = None, *, progress: bool = True, **options: Any
) -> Responses[PhononResult]:
    """Phonons of crystals, with the displaced supercells of all structures in common batches. Requires phonopy.

    Args:
        structures: one or an iterable of ASE Atoms, pymatgen Structures or structures of an OPTIMADE response, periodic
            in all three directions; not modified. Their cells are taken as primitive.
        potential: see `mlip.relax`; None is the default potential.
        progress: show a progress bar on stderr.
        options: fields of `PhononOptions`: `supercell` or `min_length`, `method`, `displacement`, `temperatures`,
            `mesh`, `imaginary_below`; `relax`, `fmax`, `steps`, `dtype`.

    Returns:
        A list with a `PhononResult` for every structure, in the order given; `to_dataframe()` converts it to a table.

    Raises:
        MlipError: phonopy is not installed, the options are invalid, an item is not a structure, or the potential does
            not exist.
    """
    checked, inputs = PhononOptions.of(options), take_in(structures)
    with count_bar(progress) as bar:
        found = phonons_of_each(inputs, potential, checked)
        return Responses.in_order(bar.track(found, total=len(inputs), description="phonons"))


def phonons_of_each(
    structures: Any, potential: Evaluator | str | PathLike | None, options: PhononOptions
) -> Iterator[tuple[int, PhononResult]]:
    """Yield (index, result) as results become available, in no particular order; otherwise like `phonons`."""
    check_phonopy()
    opened = open_any(potential)
    if options.method == "hessian" and isinstance(opened, ForeignPotential):
        raise MlipError("a calculator of ASE has no exact Hessian", where="method=hessian", fix="method=displacements")
    return stream(
        structures,
        opened,
        options,
        plan=lambda start: _begin(start, options),
        respond=lambda planned: _phonons(planned, opened, options),
        together=_TOGETHER,
    )


def check_phonopy() -> None:
    """Check that phonopy is installed.

    Raises:
        MlipError: it is not.
    """
    try:
        import phonopy  # noqa: F401
    except ImportError:
        raise MlipError("phonons need phonopy", fix="pip install 'alexandria-mlip[phonons]'") from None


def _phonons(
    planned: "Sequence[tuple[Minimum, _Begun | None]]", potential: Evaluator, options: PhononOptions
) -> list[PhononResult]:
    begun = [one for _, one in planned]
    if options.method == "hessian":
        for one in begun:
            if one is not None and one.message is None:
                one.take_hessian(potential, options.dtype)
    else:
        asked = [[] if one is None else one.supercells() for one in begun]
        found = iter(_forces([atoms for part in asked for atoms in part], potential, options.dtype))
        for one, part in zip(begun, asked, strict=True):
            answers = [next(found) for _ in part]
            if one is not None and one.message is None:
                one.take_forces(answers)
    return [
        PhononResult(start.atoms, start.reason, message=start.message) if one is None else one.result(options)
        for start, one in planned
    ]


def _forces(supercells: list[Atoms], potential: Evaluator, dtype: str) -> list[dict[str, Any] | MlipError]:
    if isinstance(potential, ForeignPotential):
        return potential.try_predict(supercells)
    return potential.try_predict(supercells, dtype=dtype) if supercells else []


@dataclass(eq=False)
class _Begun:
    """A structure whose force constants are being computed."""

    start: Minimum
    supercell: tuple[int, int, int]
    phonon: Any
    n_supercells: int = 0
    message: str | None = None
    """Reason why there are no force constants."""

    def supercells(self) -> list[Atoms]:
        return [] if self.phonon is None else [_atoms(one) for one in self.phonon.supercells_with_displacements]

    def take_forces(self, answers: list[dict[str, Any] | MlipError]) -> None:
        self.n_supercells = len(answers)
        fault = next((answer for answer in answers if isinstance(answer, MlipError)), None)
        if fault is not None:
            self.message = f"a displaced supercell: {fault.what}"
            return
        forces = np.array([answer["forces"] for answer in answers])
        if not np.isfinite(forces).all():
            self.message = "forces of a displaced supercell are not finite"
            return
        self.phonon.forces = forces
        self.phonon.produce_force_constants(calculate_full_force_constants=False, show_drift=False)

    def take_hessian(self, potential: Evaluator, dtype: str) -> None:
        self.n_supercells = 1
        cell_atoms = self.phonon.primitive.p2s_map
        try:
            found = potential.hessian(_atoms(self.phonon.supercell), dtype=dtype, atoms=cell_atoms)
        except MlipError as error:
            self.message = f"the supercell: {error.what}"
            return
        if np.isfinite(found).all():
            self.phonon.force_constants = found
        else:
            self.message = "second derivatives are not finite"

    def result(self, options: PhononOptions) -> PhononResult:
        if self.message is not None:
            return PhononResult(self.start.atoms, ERROR, self.supercell, self.n_supercells, message=self.message)
        phonon = self.phonon
        sum_rule = float(np.abs(phonon.force_constants.sum(axis=1)).max())
        phonon.symmetrize_force_constants(show_drift=False)
        phonon.run_mesh(options.mesh)
        frequencies, weights = phonon.mesh.frequencies, phonon.mesh.weights
        is_imaginary = frequencies < options.imaginary_below
        share = float((weights[:, None] * is_imaginary).sum() / (weights.sum() * frequencies.shape[1]))
        phonon.run_thermal_properties(temperatures=options.temperatures, cutoff_frequency=_AT_REST)
        reason, message, lowest = self.start.reason, self.start.message, float(frequencies.min())
        if share > 0:
            told = f"{100 * share:.2g} % of the modes are imaginary, the lowest at {lowest:.3g} THz"
            reason, message = IMAGINARY if reason == OK else reason, "; ".join(filter(None, (message, told)))
        return PhononResult(
            atoms=self.start.atoms,
            reason=reason,
            supercell=self.supercell,
            n_supercells=self.n_supercells,
            lowest=lowest,
            highest=float(frequencies.max()),
            imaginary_share=share,
            sum_rule=sum_rule,
            thermal=_thermal(phonon),
            phonon=phonon,
            message=message,
        )


def _begin(start: Minimum, options: PhononOptions) -> _Begun:
    """Supercell and displacements of a structure."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    atoms = start.atoms
    supercell = options.supercell or _multiples(atoms, options.min_length)
    try:
        cell = PhonopyAtoms(
            numbers=atoms.numbers,
            masses=atoms.get_masses(),
            cell=atoms.cell.array,
            scaled_positions=atoms.get_scaled_positions(),
        )
        phonon = Phonopy(cell, supercell_matrix=np.diag(supercell), primitive_matrix=np.eye(3))
        if options.method == "displacements":
            phonon.generate_displacements(distance=options.displacement)
    except Exception as error:  # errors of spglib and phonopy for cells whose symmetry they cannot determine
        return _Begun(start, supercell, None, message=f"phonopy: {' '.join(str(error).split())}")
    return _Begun(start, supercell, phonon)


def _multiples(atoms: Atoms, min_length: float) -> tuple[int, int, int]:
    """Number of repetitions of each cell vector needed to reach a length."""
    a, b, c = np.ceil(min_length / atoms.cell.lengths() - 1e-9).astype(int)
    return int(a), int(b), int(c)


def _atoms(cell: Any) -> Atoms:
    return Atoms(numbers=cell.numbers, cell=cell.cell, scaled_positions=cell.scaled_positions, pbc=True)


def _thermal(phonon: Any) -> Thermal:
    found = phonon.thermal_properties
    return Thermal(
        temperatures=np.array(found.temperatures),
        free_energy=np.array(found.free_energy) * _EV_PER_KJ_MOL,
        entropy=np.array(found.entropy),
        heat_capacity=np.array(found.heat_capacity),
    )
