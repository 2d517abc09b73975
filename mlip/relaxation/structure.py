"""One structure during its relaxation, on the host: checks at admission, and neighbor lists."""

from dataclasses import dataclass

import jraph
import numpy as np
from ase import Atoms
from ase.constraints import FixSymmetry
from ase.geometry import complete_cell
from jaxtyping import Bool, Float

from mlip.data.records import Frame
from mlip.data.structures import check_occupancies
from mlip.errors import MlipError
from mlip.foreign import ForeignPotential
from mlip.graph.radius_graph import crystal_graph
from mlip.potential import Potential
from mlip.relaxation.batch import Fixed, State
from mlip.relaxation.cell import (
    HYDROSTATIC,
    Along,
    CellChoice,
    aligned_frame,
    deform,
    expm_host,
    span_mask,
    strain_freedom,
)
from mlip.relaxation.constraints import (
    AllowedMotions,
    allowed_motions,
    check_constraints,
    free_atoms,
    has_directions,
    no_motions_excluded,
)
from mlip.relaxation.fire import INITIAL_MIXING, INITIAL_TIME_STEP, FireState
from mlip.relaxation.guards import collapsed_volume, radii_of
from mlip.relaxation.options import Options
from mlip.relaxation.result import Reason
from mlip.relaxation.symmetry import (
    OrbitMaps,
    SymmetricStart,
    constrained_start,
    no_maps,
    orbit_maps,
    strain_projection,
    symmetric_start,
)
from mlip.units import EV_PER_A3_IN_GPA

Evaluator = Potential | ForeignPotential
"""A potential or an ASE calculator, which gives energies, forces and stresses."""
OPEN_DIRECTIONS = "open directions have no pressure"
_FARTHEST = 1e10
"""Largest coordinate, A (one meter)."""
_RESOLUTION = 1e-3
"""Coarsest resolution of coordinates with which forces are meaningful, A."""
_MAX_NEIGHBORS = 20_000
"""Largest number of neighbors per atom: a denser cell is not a crystal, and its list would fill the memory."""


@dataclass(eq=False)
class Relaxing:
    """An input and the progress of its relaxation."""

    index: int
    atoms: Atoms
    """The input structure; never modified."""
    frame: Float[np.ndarray, "3 3"]
    """Rotation from the input's axes (rows rotate as r Q) to those of the cell mask."""
    start: Float[np.ndarray, "n 3"]
    """Positions at the start in that frame, float64, A."""
    offset: Float[np.ndarray, "n 3"]
    """Vectors subtracted from the positions on the device, because float32 is most accurate near the origin: lattice
    vectors, and one vector common to all atoms."""
    initial_cell: Float[np.ndarray, "3 3"]
    """Cell at the start in that frame, float64, A, completed with vectors for directions without one."""
    strain_freedom: Float[np.ndarray, "9 9"]
    is_free: Bool[np.ndarray, " n"]
    collapsed_volume: float
    """Volume below which the cell has collapsed, A^3."""
    pressure: float
    """External pressure, eV/A^3."""
    symmetry: OrbitMaps | None
    allowed: AllowedMotions | None
    state: State
    """State with leading axis atoms or 1; NumPy arrays in the precision of the run."""
    fixed: Fixed | None = None
    graph: jraph.GraphsTuple | None = None
    trajectory: list[Atoms] | None = None
    """Structures evaluated so far; None unless requested."""

    def __len__(self) -> int:
        return len(self.atoms)

    @property
    def reason(self) -> Reason:
        return Reason(int(self.state.reason[0]))

    def placed(self) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "3 3"]]:
        """Current positions and cell, float64, in `frame`."""
        return self.deformed(self.start)

    def deformed(self, start: Float[np.ndarray, "n 3"]) -> tuple[np.ndarray, np.ndarray]:
        deformation = expm_host(self.state.log_deformation[0])
        return deform(start + self.state.displacements, deformation), deform(self.initial_cell, deformation)

    def make_list(self, cutoff: float, skin: float) -> None:
        """Build a new neighbor list for the current positions and cell.

        Raises:
            MlipError: atoms coincide, or the cell is too dense for a list.
        """
        start = self.start - self.offset
        positions, cell = self.deformed(start)
        where = f"structure {self.index}"
        _check_density(cell, self.atoms.pbc, len(self), cutoff + skin, where)
        frame = Frame(self.atoms.numbers, positions, cell, self.atoms.pbc)
        dtype = self.state.displacements.dtype
        self.graph = crystal_graph(frame, cutoff + skin, dtype=dtype)
        had_neighbors = _has_neighbors(self.graph, cutoff) if self.fixed is None else self.fixed.had_neighbors
        self.fixed = Fixed(
            start=start.astype(dtype),
            initial_cell=self.initial_cell[None].astype(dtype),
            strain_freedom=self.strain_freedom[None].astype(dtype),
            is_free=self.is_free,
            had_neighbors=had_neighbors,
            radii=radii_of(self.atoms.numbers).astype(dtype),
            collapsed_volume=np.full(1, self.collapsed_volume, dtype),
            list_displacements=self.state.displacements,
            list_inverse_deformation=expm_host(-self.state.log_deformation[0])[None].astype(dtype),
            symmetry=self.symmetry and self.symmetry._replace(matrices=self.symmetry.matrices.astype(dtype)),
            allowed=self.allowed and AllowedMotions(*(maps.astype(dtype) for maps in self.allowed)),
        )
        self.state = self.state._replace(needs_list=np.zeros(1, bool))


def admit(
    index: int, atoms: Atoms, potential: Evaluator, cell: CellChoice, options: Options, with_maps: bool = False
) -> Relaxing:
    """Check an input and set up its relaxation.

    Args:
        cell: validated choice of the strain components that relax; `options.cell` is ignored.
        with_maps: include the maps of symmetry and constraints even if the structure has none.

    Raises:
        MlipError: unknown element, partly occupied site, unusable positions or cell, undetermined symmetry, unsupported
            constraint, or pressure with open directions.
    """
    where = f"structure {index}"
    if len(atoms) == 0:
        raise MlipError("has no atoms", where=where)
    check_occupancies(atoms, where)
    check_constraints(atoms, where)
    if options.pressure_gpa and not atoms.pbc.all():
        raise MlipError(OPEN_DIRECTIONS, where=where, fix="pressure_gpa=0")
    potential.check_elements(atoms.numbers, where=where)
    _check_size(atoms, where)
    dtype = np.dtype(options.dtype)
    positions, initial_cell = atoms.positions, _completed_cell(atoms, where)
    _check_resolution(positions - _offset(positions, initial_cell, atoms.pbc), dtype, where)
    start = _symmetric_start(atoms, initial_cell, options.symmetry, where)
    if start is not None:
        positions, initial_cell = start.positions, start.cell
    frame, mask = _frame_and_mask(cell, initial_cell, atoms.pbc)
    is_free, allowed = free_atoms(atoms), _allowed_motions(atoms, initial_cell, frame, where) if with_maps else None
    maps, symmetric_strain = no_maps(len(atoms)) if with_maps else None, None
    if start is not None:
        _check_directions(atoms, where)
        rotations = frame.T @ start.rotations @ frame
        maps = orbit_maps(rotations, start.images, start.primitive)
        symmetric_strain = strain_projection(rotations)
        is_free = ~np.isin(maps.orbit, maps.orbit[~is_free])  # an atom that is fixed fixes its images
    return Relaxing(
        index=index,
        atoms=atoms,
        frame=frame,
        start=positions @ frame,
        offset=_offset(positions, initial_cell, atoms.pbc) @ frame,
        initial_cell=initial_cell @ frame,
        strain_freedom=strain_freedom(
            mask, symmetric_strain, options.constant_volume, hydrostatic=isinstance(cell, str) and cell == HYDROSTATIC
        ),
        is_free=is_free,
        collapsed_volume=collapsed_volume(atoms) if options.min_distance is None else 0.0,
        pressure=options.pressure_gpa / EV_PER_A3_IN_GPA,
        symmetry=maps,
        allowed=allowed,
        state=_initial_state(len(atoms), dtype),
        trajectory=[] if options.trajectory else None,
    )


def _allowed_motions(atoms: Atoms, cell, frame: Float[np.ndarray, "3 3"], where: str) -> AllowedMotions:
    """Allowed motions under the constraints, in the axes of `frame`."""
    if not has_directions(atoms):
        return no_motions_excluded(len(atoms))
    return AllowedMotions(*(frame.T @ maps @ frame for maps in allowed_motions(atoms, cell, where)))


def _check_directions(atoms: Atoms, where: str) -> None:
    if has_directions(atoms):
        raise MlipError(
            "constraints on directions cannot be kept together with a symmetry",
            where=where,
            fix="leave one of the two out",
        )


def _symmetric_start(atoms: Atoms, cell, is_wanted: bool, where: str) -> SymmetricStart | None:
    """Symmetric start of a structure with a FixSymmetry constraint, or if the caller requests it; otherwise None."""
    constraint = next((c for c in atoms.constraints if isinstance(c, FixSymmetry)), None)
    if constraint is not None:
        return constrained_start(constraint, atoms, where)
    return symmetric_start(atoms, cell, where) if is_wanted else None


def estimate_edges(atoms: Atoms, cutoff: float) -> float:
    """Approximate number of edges of a structure, from its density; only for sorting."""
    with np.errstate(all="ignore"):  # non-finite cells are rejected at admission
        volume = abs(np.linalg.det(atoms.cell.array))
    n = len(atoms)
    return n * min(n / volume, 1.0) * 4 / 3 * np.pi * cutoff**3 if volume > 0 else float(n)


def _initial_state(n_atoms: int, dtype: np.dtype) -> State:
    vectors, scalar, tensor = np.zeros((n_atoms, 3), dtype), np.zeros(1, dtype), np.zeros((1, 3, 3), dtype)
    fire = FireState(
        velocities=vectors,
        cell_velocities=tensor,
        time_step=scalar + dtype.type(INITIAL_TIME_STEP),
        mixing=scalar + dtype.type(INITIAL_MIXING),
        n_downhill=np.zeros(1, np.int32),
        n_steps=np.zeros(1, np.int32),
    )
    return State(
        displacements=vectors,
        log_deformation=tensor,
        deformation=tensor + np.eye(3, dtype=dtype),
        fire=fire,
        reason=np.full(1, Reason.RUNNING, np.int32),
        needs_list=np.ones(1, bool),
        energy=scalar,
        initial_energy=scalar,
        fmax=scalar,
        forces=vectors,
        stress=np.zeros((1, 6), dtype),
    )


def _check_size(atoms: Atoms, where: str) -> None:
    largest = np.abs([*atoms.positions, *atoms.cell.array]).max()
    if not np.isfinite(largest):
        raise MlipError("positions or cell are not finite", where=where)
    if largest > _FARTHEST:
        raise MlipError(f"coordinates reach {largest:.0e} A", where=where, fix="give positions and cell in A")


def _offset(positions, cell, pbc) -> Float[np.ndarray, "n 3"]:
    """Vectors that move the first atom to the origin and every other to its image nearest to it."""
    from_first = positions - positions[0]
    images = np.where(pbc, np.round(np.linalg.solve(cell.T, from_first.T).T), 0.0)
    return positions[0] + images @ cell


def _check_resolution(positions: Float[np.ndarray, "n 3"], dtype: np.dtype, where: str) -> None:
    """Reject a structure so extended that differences of coordinates do not resolve bonds."""
    extent = np.abs(positions).max()
    if extent * np.finfo(dtype).eps > _RESOLUTION:
        raise MlipError(
            f"its atoms are {extent:.0e} A apart, where {dtype} does not resolve bonds",
            where=where,
            fix="relax the parts one by one" if dtype == np.float64 else 'dtype="float64"',
        )


def _completed_cell(atoms: Atoms, where: str) -> Float[np.ndarray, "3 3"]:
    """The cell with unit vectors for missing ones; nothing depends on them."""
    is_missing = ~atoms.cell.array.any(axis=1)
    if (is_missing & atoms.pbc).any():
        raise MlipError("is periodic along a cell vector of length zero", where=where)
    cell = complete_cell(atoms.cell.array)
    if abs(np.linalg.det(cell)) < 1e-6 * np.prod(np.linalg.norm(cell, axis=1)):
        raise MlipError("the cell vectors do not span a volume", where=where)
    return cell


def _frame_and_mask(cell: CellChoice, initial_cell, pbc) -> tuple[np.ndarray, np.ndarray]:
    """Rotation to the working axes, and the mask of strain components that relax."""
    if isinstance(cell, str):  # "auto" or "hydrostatic"
        cell = Along(tuple(pbc))
    if isinstance(cell, Along):
        directions = np.array(cell.directions, dtype=bool)
        frame = aligned_frame(initial_cell, directions)
        return frame, span_mask(initial_cell @ frame, directions)
    return np.eye(3), np.full((3, 3), cell) if isinstance(cell, bool) else cell


def _has_neighbors(graph: jraph.GraphsTuple, cutoff: float) -> Bool[np.ndarray, " n"]:
    positions = np.asarray(graph.nodes["positions"])
    cell = np.asarray(graph.globals["cell"])[0]
    vectors = positions[graph.senders] + graph.edges["shifts"] @ cell - positions[graph.receivers]
    is_near = np.linalg.norm(vectors, axis=1) <= cutoff
    return np.bincount(np.asarray(graph.receivers)[is_near], minlength=len(positions)) > 0


def _check_density(cell, pbc, n_atoms, radius, where) -> None:
    """Reject a cell whose neighbor list would not fit into memory."""
    vectors = cell[np.asarray(pbc)]
    extent = np.sqrt(np.linalg.det(vectors @ vectors.T)) if len(vectors) else 1.0
    ball = (0.0, 2 * radius, np.pi * radius**2, 4 / 3 * np.pi * radius**3)[len(vectors)]
    if n_atoms * ball > _MAX_NEIGHBORS * extent:
        raise MlipError(f"more than {_MAX_NEIGHBORS} neighbors an atom within {radius:.1f} A", where=where)
