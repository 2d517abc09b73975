"""Settings of the calculations: the section `dft` of a recipe.

VASP's settings are the Materials Project's (pymatgen's MPRelaxSet) with ALEXANDRIA's changes (Schmidt et al., Materials
Today Physics 48, 101560 (2024), sections 2.1 and 4.1): a cutoff of 520 eV, k-points by density, PBE with the Materials
Project's U on oxides and fluorides of Co, Cr, Fe, Mn, Mo, Ni, V and W, a ferromagnetic start, 15 A of vacuum.
"""

import re
from typing import Annotated, Literal

from ase.data import chemical_symbols
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_validator, model_validator

from mlip.data.readers.vasp_functional import TAGS
from mlip.foreign import foreign_name
from mlip.pretrained import declared_name

Functional = Literal["PBE", "PBEsol", "SCAN"]
_DECIDED = {
    **dict.fromkeys(TAGS, "functional"),
    **dict.fromkeys(("LDAUU", "LDAUJ", "LDAUL", "LDAUTYPE", "LDAU"), "hubbard"),
    "ENCUT": "encut",
    "NSW": "steps",
    "EDIFFG": "force_convergence",
    "KSPACING": "kpoints_3d, kpoints_2d and kpoints_1d",
    "MAGMOM": "nothing: the start is ferromagnetic",
    "ISIF": "nothing: atoms and cell relax",
    "LATTICE_CONSTRAINTS": "nothing: layers and chains keep their vacuum",
}
"""INCAR tag -> key of the recipe that sets it; such tags are refused in `incar`."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VaspRecipe(_Section):
    """Inputs for VASP, which the user runs."""

    kind: Literal["vasp"]
    functional: Functional = "PBE"
    """Functional of the relaxations."""
    hubbard: bool = True
    """Use the Materials Project's U in relaxations with PBE; other functionals have none."""
    follow_ups: tuple[Functional, ...] = ()
    """Functionals of single points on the relaxed structures, without U."""
    encut: PositiveFloat = 520
    """Plane-wave cutoff, eV."""
    kpoints_3d: PositiveFloat = 1000
    """k-point density of crystals: number of k-points times number of atoms."""
    kpoints_2d: PositiveFloat = 6
    """k-point density of layers: k-points per 1/A of the in-plane reciprocal vectors (2 pi included)."""
    kpoints_1d: PositiveFloat = 6
    """k-point density of chains: k-points per 1/A of the reciprocal vector along the chain (2 pi included)."""
    vacuum: PositiveFloat = 15
    """Vacuum of layers and chains, A, between the outermost nuclei."""
    force_convergence: PositiveFloat | None = 0.005
    """Largest force at which relaxations end, eV/A; null = end by energy, as in MPRelaxSet."""
    steps: PositiveInt = 99
    """Maximum number of ionic steps (NSW)."""
    potcars: dict[str, str] = {}
    """Element -> pseudopotential, such as W: W_sv, in place of the Materials Project's."""
    incar: dict[str, bool | int | float | str] = {}
    """Additional INCAR tags, such as NCORE: 4."""

    @field_validator("potcars")
    @classmethod
    def _are_of_their_elements(cls, potcars: dict[str, str]) -> dict[str, str]:
        for element, title in potcars.items():
            if element not in chemical_symbols[1:]:
                raise ValueError(f"no element: {element}")
            if not re.fullmatch(rf"{element}(_[A-Za-z0-9.]+)*", title):
                raise ValueError(f"{title} is no pseudopotential of {element}: such as {element} or {element}_sv")
        return potcars

    @field_validator("incar")
    @classmethod
    def _are_free(cls, incar: dict) -> dict:
        for tag in incar:
            if tag != tag.upper():
                raise ValueError(f"tags are upper case: {tag}")
            if tag in _DECIDED:
                raise ValueError(f"{tag} is decided by {_DECIDED[tag]}")
        return incar

    @model_validator(mode="after")
    def _follow_ups_are_others(self):
        if len(set(self.follow_ups)) < len(self.follow_ups):
            raise ValueError("follow_ups has one of them twice")
        if self.functional in self.follow_ups:
            raise ValueError(f"follow_ups has {self.functional}, the functional of the relaxations")
        return self

    @property
    def has_hubbard(self) -> bool:
        """Whether relaxations of oxides and fluorides have a U."""
        return self.hubbard and self.functional == "PBE"


class SurrogateRecipe(_Section):
    """Relaxations with a potential or a calculator of ASE that stands in for DFT."""

    kind: Literal["ase"]
    calculator: str
    """A file or a name from `mlip models` is a potential of mlip, which relaxes in batches; ase:MODULE:CLASS?k=v is a
    calculator of ASE, which relaxes structure by structure."""
    fmax: PositiveFloat = 0.05
    steps: PositiveInt = 500
    dtype: Literal["float32", "float64"] | None = None
    """Precision; null = float32. Calculators of ASE have their own precision."""
    cluster: str | None = None
    """A Dask cluster in the notation of `mlip.cluster.client`: tcp://HOST:PORT, local:N, slurm:N,...; null = none."""

    @field_validator("calculator")
    @classmethod
    def _by_its_own_name(cls, calculator: str) -> str:
        return declared_name(calculator)

    @model_validator(mode="after")
    def _calculators_have_their_precision(self):
        if self.dtype is not None and foreign_name(self.calculator) is not None:
            raise ValueError("dtype: a calculator of ASE has its own precision")
        return self


DftRecipe = Annotated[VaspRecipe | SurrogateRecipe, Field(discriminator="kind")]
