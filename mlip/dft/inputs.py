"""VASP's input files for a structure, by pymatgen's sets: MPRelaxSet for relaxations, MPStaticSet for single points.

No pseudopotential files are needed: POTCAR.spec has their titles, from which `pmg potcar` makes the POTCAR.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlip.dft.in_vacuum import as_calculated
from mlip.dft.recipe import Functional, VaspRecipe
from mlip.dft.records import Proposal
from mlip.errors import MlipError

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from pymatgen.io.vasp.inputs import Kpoints, VaspInput

_OF_FUNCTIONAL: Mapping[Functional, Mapping[str, Any]] = {
    "PBE": {},  # the functional of the pseudopotentials
    "PBEsol": {"GGA": "Ps"},
    "SCAN": {"METAGGA": "Scan"},
}
_OF_RELAXATION: Mapping[Functional, Mapping[str, Any]] = {"SCAN": {"ALGO": "All", "ISMEAR": 0}}
"""Tags for SCAN relaxations, as in pymatgen's SCAN sets: ALGO = All does not work with tetrahedra, hence ISMEAR = 0.
Single points keep ALGO = Fast."""
_FREE_DIRECTIONS = {1: ".TRUE. .FALSE. .FALSE.", 2: ".TRUE. .TRUE. .FALSE."}


@dataclass(frozen=True)
class Inputs:
    """Input files of a run, and the settings that a returned run is checked against."""

    files: "VaspInput"
    functional: str
    """Functional, with "+U" where some atom has a U."""
    hubbard: Mapping[str, float]
    """Element -> U, eV, of the elements that have one."""
    kpoints: tuple[int, int, int]
    potcars: tuple[str, ...]
    """Titles of the pseudopotentials in the order of the POSCAR, such as Fe_pv, O."""


def relaxation(recipe: VaspRecipe, proposal: Proposal) -> Inputs:
    """Inputs of a proposal's relaxation.

    Raises:
        MlipError: the structure cannot be calculated.
    """
    from pymatgen.io.vasp.sets import MPRelaxSet

    structure = as_calculated(proposal, recipe.vacuum)
    tags: dict[str, Any] = {
        **_OF_RELAXATION.get(recipe.functional, {}),
        **_common_tags(recipe, recipe.functional),
        "NSW": recipe.steps,
    }
    if not recipe.has_hubbard:
        tags["LDAU"] = False
    if recipe.force_convergence is not None:
        tags["EDIFFG"] = -recipe.force_convergence
    if proposal.dimensionality < 3:
        tags["LATTICE_CONSTRAINTS"] = _FREE_DIRECTIONS[proposal.dimensionality]
    return _inputs(MPRelaxSet, recipe, recipe.functional, structure, proposal.dimensionality, tags)


def single_point(recipe: VaspRecipe, functional: Functional, structure: "Structure", dimensionality: int) -> Inputs:
    """Inputs of a single point without Hubbard corrections.

    Args:
        structure: in the cell of the relaxation, from `mlip.dft.in_vacuum.as_calculated`.

    Raises:
        MlipError: pymatgen cannot make inputs for the structure.
    """
    from pymatgen.io.vasp.sets import MPStaticSet

    tags = {**_common_tags(recipe, functional), "LDAU": False, "LCHARG": False}
    return _inputs(MPStaticSet, recipe, functional, structure, dimensionality, tags)


def _common_tags(recipe: VaspRecipe, functional: Functional) -> dict[str, Any]:
    return {"ENCUT": recipe.encut, **_OF_FUNCTIONAL[functional], **recipe.incar}


def _inputs(
    kind: type,
    recipe: VaspRecipe,
    functional: Functional,
    structure: "Structure",
    dimensionality: int,
    tags: dict[str, Any],
) -> Inputs:
    from pymatgen.io.vasp.inputs import Kpoints

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings on settings that are intended: they are the Materials Project's
            made = kind(
                structure,
                user_incar_settings=tags,
                user_kpoints_settings=_kpoints(recipe, structure, dimensionality),
                user_potcar_settings=recipe.potcars,
                force_gamma=True,
            )
            files = made.get_input_set(potcar_spec=True)
    except Exception as error:  # pymatgen raises many types: coincident atoms, elements without data
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise MlipError(f"pymatgen makes no inputs of it ({why})") from None
    grid = files["KPOINTS"]
    assert isinstance(grid, Kpoints)
    incar, symbols = files["INCAR"], files["POSCAR"].site_symbols
    values = incar.get("LDAUU", []) if incar.get("LDAU") else []
    hubbard = {symbol: float(u) for symbol, u in zip(symbols, values, strict=False) if u}
    return Inputs(
        files,
        f"{functional}+U" if hubbard else functional,
        hubbard,
        tuple(int(n) for n in grid.kpts[0]),
        tuple(made.potcar_symbols),
    )


def _kpoints(recipe: VaspRecipe, structure: "Structure", dimensionality: int) -> "dict[str, Any] | Kpoints":
    """A grid centered at Gamma, with one k-point across vacuum."""
    from pymatgen.io.vasp.inputs import Kpoints

    if dimensionality == 3:
        return Kpoints.automatic_density(structure, recipe.kpoints_3d, force_gamma=True)
    density = {2: recipe.kpoints_2d, 1: recipe.kpoints_1d}[dimensionality]
    lengths = np.linalg.norm(structure.lattice.reciprocal_lattice.matrix, axis=1)
    grid = [max(1, math.ceil(density * length)) for length in lengths[:dimensionality]]
    return Kpoints.gamma_automatic((*grid, *[1] * (3 - dimensionality)))
