"""Prototypes: the crystals whose elements a round replaces, from a store, a folder of CIF files, or AFLOW's set.

Each is reduced to its primitive cell and symmetrized exactly, so that equal neighbors are in one shell.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import ase.io
import numpy as np
import spglib
from ase import Atoms
from jaxtyping import Int

from mlip.data import Frame, Store
from mlip.data.structures import check_occupancies
from mlip.errors import MlipError
from mlip.graph.inputs import ModelInputs
from mlip.graph.prototype import SharedGraph
from mlip.graph.shared_graph import shared_graph
from mlip.screening.assignments import distinct_orders
from mlip.screening.screening_recipe import PrototypesRecipe
from mlip.screening.site_symmetry import SYMMETRY_TOLERANCE, site_symmetries

AFLOW = "aflow"


@dataclass(frozen=True, eq=False)
class ScreeningPrototype:
    """A crystal whose elements are replaced."""

    name: str
    """Name: the material's id, the file's name, or AFLOW's label."""
    atoms: Atoms
    """Primitive, exactly symmetric cell with the elements of the source."""
    space_group: int
    site_of_atom: Int[np.ndarray, " n"]
    """Site of each atom. Atoms of one element are one site; sites are numbered in order of first appearance."""
    atoms_of_site: Int[np.ndarray, " sites"]
    orders: Int[np.ndarray, "o sites"]
    """Orders of elements on sites, one of each class that is equivalent by symmetry."""
    graph: SharedGraph
    """The graph that all crystals of the prototype share, of the kind that the model reads."""

    @property
    def n_sites(self) -> int:
        return len(self.atoms_of_site)


@dataclass(frozen=True)
class PrototypeSet:
    prototypes: tuple[ScreeningPrototype, ...]
    skipped: Counter[str]
    """Reason -> number of structures in the sources that cannot be prototypes of the round."""
    functionals: frozenset[str] = frozenset()
    """Functionals of the structures in stores; empty if no source is a store."""


def read_prototypes(recipe: PrototypesRecipe, inputs: ModelInputs) -> PrototypeSet:
    """The prototypes of a round, in the order of their sources.

    A store's material is skipped if an earlier structure of any source has the same space group and Wyckoff positions:
    it is the same prototype with other elements. The structures of a folder and of AFLOW's set have been chosen, and
    all are kept.

    Args:
        inputs: the kind of graph that the model reads.

    Raises:
        MlipError: there is no such source, a file cannot be read, or no source has a prototype.
    """
    found, skipped, seen, functionals = [], Counter(), set(), set()
    for source in recipe.sources:
        for name, atoms, functional in _structures(source, skipped):
            try:
                symmetric = _symmetrized(atoms, recipe)
                if symmetric.key in seen and _is_store(source):
                    raise _Unsuitable("prototype of an earlier material")
                prototype = _prototype(name, symmetric, inputs)
            except _Unsuitable as reason:
                skipped[str(reason)] += 1
                continue
            seen.add(symmetric.key)
            found.append(prototype)
            functionals |= {functional} - {None}
    if not found:
        why = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
        where = ", ".join(map(str, recipe.sources))
        raise MlipError(f"holds no prototype of this round: {why or 'it is empty'}", where=where)
    return PrototypeSet(tuple(found), skipped, frozenset(functionals))


class _Unsuitable(Exception):  # noqa: N818 -- an answer, not an error
    """Reason why a structure cannot be a prototype of the round."""


def _structures(source: Path, skipped: Counter[str]) -> Iterator[tuple[str, Atoms, str | None]]:
    """Name, structure and functional of each structure of a source; the functional is None where unknown."""
    if str(source) == AFLOW:
        yield from ((name, atoms, None) for name, atoms in aflow_crystals(skipped))
    elif source.is_dir() and any(source.glob("*.cif")):
        for path in sorted(source.glob("*.cif")):
            atoms = _read_cif(path)
            try:
                check_occupancies(atoms)
            except MlipError:
                skipped["disordered"] += 1
                continue
            yield path.stem, atoms, None
    elif source.exists():
        with Store(source) as store:
            for material in store.materials():
                if not material.has_structure:
                    skipped["composition without structure"] += 1
                    continue
                if material.dimensionality != 3:
                    skipped["layer or chain"] += 1
                    continue
                frame = store.relaxed_frame(material)
                if frame is None:
                    skipped["no relaxed structure"] += 1
                    continue
                yield material.id, _atoms(frame), material.functional
    else:
        raise MlipError(
            "no such file or folder", where=f"prototypes.source: {source}", fix="a store, a folder of CIFs, or aflow"
        )


def _is_store(source: Path) -> bool:
    return source.exists() and not any(source.glob("*.cif"))


def _atoms(frame: Frame) -> Atoms:
    return Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)


def _read_cif(path: Path) -> Atoms:
    try:
        return ase.io.read(path, format="cif", fractional_occupancies=True)
    except Exception as error:  # ASE's parser raises many types
        raise MlipError(f"ASE cannot read it ({type(error).__name__}: {error})", where=str(path)) from None


def aflow_crystals(skipped: Counter[str] | None = None) -> Iterator[tuple[str, Atoms]]:
    """Labels and crystals of pymatgen's set of AFLOW prototypes.

    Args:
        skipped: counter that disordered prototypes are added to.
    """
    skipped = Counter() if skipped is None else skipped
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
    from pymatgen.io.ase import AseAtomsAdaptor

    names: Counter[str] = Counter()
    for entry in AFLOW_PROTOTYPE_LIBRARY:
        structure, label = entry["snl"].structure, entry["tags"]["aflow"]
        names[label] += 1
        if not structure.is_ordered:
            skipped["disordered"] += 1
            continue
        # A label may have several entries with different free parameters.
        name = label if names[label] == 1 else f"{label}-{names[label]}"
        yield name, Atoms(AseAtomsAdaptor.get_atoms(structure, msonable=False))


class _Symmetrized(NamedTuple):
    """A crystal as its primitive, exactly symmetric cell."""

    atoms: Atoms
    space_group: int
    site_of_atom: Int[np.ndarray, " n"]
    key: tuple
    """Key that is equal for two materials of one prototype: space group, number of atoms and Wyckoff letters."""


def _symmetrized(atoms: Atoms, recipe: PrototypesRecipe) -> _Symmetrized:
    """Reduce a crystal to its primitive, exactly symmetric cell.

    Raises:
        _Unsuitable: the crystal cannot be a prototype of the round.
    """
    if len(np.unique(atoms.numbers)) not in recipe.sites:
        raise _Unsuitable("other number of elements")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise _Unsuitable("positions or cell not finite")
    if not atoms.pbc.all() or not abs(atoms.cell.volume) > 0:
        raise _Unsuitable("not periodic in three directions")
    primitive = _primitive(atoms)
    if len(primitive) > recipe.max_atoms:
        raise _Unsuitable("too many atoms")
    dataset = spglib.get_symmetry_dataset(_as_cell(primitive), symprec=SYMMETRY_TOLERANCE)
    if dataset is None:
        raise _Unsuitable("no symmetry found")
    _, first, labels = np.unique(primitive.numbers, return_index=True, return_inverse=True)
    site_of_atom = np.argsort(np.argsort(first))[labels]  # numbered as in `ScreeningPrototype`
    key = _wyckoff_key(dataset.number, dataset.wyckoffs, dataset.equivalent_atoms, site_of_atom)
    return _Symmetrized(primitive, int(dataset.number), site_of_atom, key)


def _prototype(name: str, symmetric: _Symmetrized, inputs: ModelInputs) -> ScreeningPrototype:
    """The prototype of a symmetrized crystal.

    Raises:
        _Unsuitable: the model cannot read it.
    """
    primitive, space_group, site_of_atom, _ = symmetric
    try:
        graph = shared_graph(primitive, inputs)
    except MlipError as error:
        raise _Unsuitable("too few neighbors" if "neighbors within" in error.what else error.what) from None
    return ScreeningPrototype(
        name=name,
        atoms=primitive,
        space_group=space_group,
        site_of_atom=site_of_atom,
        atoms_of_site=np.bincount(site_of_atom),
        orders=distinct_orders(site_symmetries(primitive, site_of_atom)),
        graph=graph,
    )


def _primitive(atoms: Atoms) -> Atoms:
    found = spglib.standardize_cell(_as_cell(atoms), to_primitive=True, no_idealize=False, symprec=SYMMETRY_TOLERANCE)
    if found is None:
        raise _Unsuitable("no symmetry found")
    cell, positions, numbers = found
    return Atoms(numbers, scaled_positions=positions, cell=cell, pbc=True)


def _as_cell(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers


def _wyckoff_key(number: int, letters: list[str], orbits: np.ndarray, site_of_atom: np.ndarray) -> tuple:
    """Space group, number of atoms and Wyckoff letters of the sites, independent of elements and choice of origin."""
    from pymatgen.analysis.prototypes import WYCKOFF_POSITION_RELAB_DICT

    heads = np.unique(orbits)  # one atom for each orbit
    by_site = [[letters[k] for k in heads if site_of_atom[k] == site] for site in range(site_of_atom.max() + 1)]

    def relabeled(choice: dict[int, str]) -> tuple:
        return tuple(sorted(tuple(sorted("".join(of_site).translate(choice))) for of_site in by_site))

    return number, len(site_of_atom), min(map(relabeled, WYCKOFF_POSITION_RELAB_DICT[str(number)]))
