"""Relaxation of a padded batch of structures on the device, many steps per call, each as if it were alone.

A structure stops moving within the call when it has ended, or when its neighbor list may be incomplete; it then waits
at its new positions, not yet evaluated, until the host has built a new list. The call returns when too few structures
are moving to make the batch worthwhile.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from mlip.energy_gradient import Evaluation, energies_forces_stress
from mlip.graph.ends import any_rows, ascending_rows
from mlip.relaxation.cell import cell_forces, expm, inverse_transpose, project, tensor_from_voigt
from mlip.relaxation.constraints import AllowedMotions
from mlip.relaxation.fire import FireState, fire_step
from mlip.relaxation.guards import MIN_APPROACH
from mlip.relaxation.options import Options
from mlip.relaxation.result import Reason
from mlip.relaxation.symmetry import OrbitMaps
from mlip.runtime import products_in
from mlip.units import EV_PER_A3_IN_GPA


class State(NamedTuple):
    """Everything that changes during relaxations. Rows of padding are zero."""

    displacements: Float[Array, "n 3"]
    """Change of x (`mlip.relaxation.cell`) since the start, A. Storing positions instead would lose two digits of every
    step to rounding, enough to push a crystal off a saddle point on which its symmetry keeps it."""
    log_deformation: Float[Array, "g 3 3"]
    deformation: Float[Array, "g 3 3"]
    """Exponential of `log_deformation`."""
    fire: FireState
    reason: Int[Array, " g"]
    """Codes of `Reason`."""
    needs_list: Bool[Array, " g"]
    """Whether the next evaluation needs a new neighbor list."""
    energy: Float[Array, " g"]
    """Energy at the last evaluation, eV, without reference energies."""
    initial_energy: Float[Array, " g"]
    fmax: Float[Array, " g"]
    """Largest norm of a force row at the last evaluation, eV/A."""
    forces: Float[Array, "n 3"]
    """Forces at the last evaluation, eV/A, as predicted, without constraints."""
    stress: Float[Array, "g 6"]


class Fixed(NamedTuple):
    """Arrays that are constant during a call."""

    start: Float[Array, "n 3"]
    """Positions at the start, A."""
    initial_cell: Float[Array, "g 3 3"]
    strain_freedom: Float[Array, "g 9 9"]
    """Projection onto the allowed strains."""
    is_free: Bool[Array, " n"]
    """False for atoms held fixed by a constraint."""
    had_neighbors: Bool[Array, " n"]
    """Whether each atom had neighbors at the start of the relaxation."""
    radii: Float[Array, " n"]
    """Covalent radii, A."""
    collapsed_volume: Float[Array, " g"]
    """Volume below which a cell counts as collapsed, A^3."""
    list_displacements: Float[Array, "n 3"]
    """`State.displacements` when the neighbor list was made."""
    list_inverse_deformation: Float[Array, "g 3 3"]
    """Inverse of `State.deformation` when the neighbor list was made."""
    symmetry: OrbitMaps | None = None
    """Set, like `allowed`, if any structure of the job has a symmetry or directions to keep. Otherwise a program is
    compiled that contains neither."""
    allowed: AllowedMotions | None = None


NODE, GRAPH = "node", "graph"
_FIRE_AXES = FireState(NODE, GRAPH, GRAPH, GRAPH, GRAPH, GRAPH)
STATE_AXES = State(NODE, GRAPH, GRAPH, _FIRE_AXES, GRAPH, GRAPH, GRAPH, GRAPH, GRAPH, NODE, GRAPH)
FIXED_AXES = Fixed(NODE, GRAPH, GRAPH, NODE, NODE, NODE, GRAPH, NODE, GRAPH)
FIXED_AXES_WITH_MAPS = FIXED_AXES._replace(symmetry=OrbitMaps(NODE, NODE), allowed=AllowedMotions(NODE, NODE))


class Limits(NamedTuple):
    """Termination criteria; traced, so that changing them does not recompile."""

    fmax: float
    steps: int
    cutoff: float
    skin: float
    max_iterations: int
    """Largest number of evaluations in one call."""
    min_moving: int
    """Number of moving structures below which the call returns to the host."""
    min_distance: float
    """Distance between atoms below which a structure counts as collapsed, A."""
    max_strain: float
    """Largest allowed component of the logarithmic strain; beyond it a structure counts as exploded."""
    pressure: float
    """External pressure, eV/A^3; positive compresses."""
    min_approach: float = 0.0
    """Distance between atoms, relative to the sum of their covalent radii, below which a structure counts as
    collapsed."""
    smax: float = float("inf")
    """Largest component of the residual stress, for allowed strains, at which a structure is converged, eV/A^3."""
    stress_factor: float = 1.0
    """Factor on the stress that acts on the cell."""

    @classmethod
    def of(cls, options: Options, cutoff: float, skin: float, max_iterations: int) -> "Limits":
        """Limits for the given options."""
        return cls(
            fmax=float(options.fmax),
            steps=int(options.steps),
            cutoff=float(cutoff),
            skin=skin,
            max_iterations=max_iterations,
            min_moving=1,
            min_distance=float(options.min_distance or 0),
            max_strain=float(options.max_strain),
            pressure=options.pressure_gpa / EV_PER_A3_IN_GPA,
            min_approach=MIN_APPROACH if options.min_distance is None else 0.0,
            smax=math.inf if options.smax_gpa is None else options.smax_gpa / EV_PER_A3_IN_GPA,
            stress_factor=float(options.stress_factor),
        )


def stack(axes: NamedTuple, members: list[NamedTuple], n_node: int, n_graph: int) -> NamedTuple:
    """Concatenate the states of structures (NumPy, leading axis: atoms or 1), padded with zeros."""

    def join(axis, *leaves):
        out = np.zeros((n_node if axis == NODE else n_graph, *leaves[0].shape[1:]), leaves[0].dtype)
        rows = np.concatenate(leaves)
        out[: len(rows)] = rows
        return out

    return jax.tree.map(join, axes, *members)


def unstack(axes: NamedTuple, batch: NamedTuple, n_atoms: list[int]) -> list[NamedTuple]:
    """The inverse of `stack`: one state per structure, copies."""
    stops = np.cumsum(n_atoms)

    def take(k):
        nodes, graphs = slice(stops[k] - n_atoms[k], stops[k]), slice(k, k + 1)
        return jax.tree.map(lambda axis, leaf: leaf[nodes if axis == NODE else graphs].copy(), axes, batch)

    return [take(k) for k in range(len(n_atoms))]


@partial(jax.jit, static_argnums=0)
def advance(
    model: nn.Module,
    params: Any,
    scale: float,
    shift: float,
    graph: jraph.GraphsTuple,
    fixed: Fixed,
    state: State,
    limits: Limits,
) -> tuple[State, Int[Array, ""]]:
    """Evaluate and step until fewer than `limits.min_moving` structures move or the iterations are used up.

    Returns:
        The new state, and the number of evaluations of the batch.
    """
    graph_of_node = _graph_of_node(graph)

    def is_worthwhile(carry):
        state, iteration = carry
        return (iteration < limits.max_iterations) & (jnp.sum(is_moving(state)) >= limits.min_moving)

    def evaluate_and_step(carry):
        state, iteration = carry
        placed = _place(graph, state, fixed, graph_of_node)
        evaluation = energies_forces_stress(model, params, placed, scale, shift)
        return _judge_and_step(placed, fixed, state, limits, evaluation, graph_of_node), iteration + 1

    # A GPU's default precision would cost positions and cells three digits.
    with products_in("highest"):
        return jax.lax.while_loop(is_worthwhile, evaluate_and_step, (state, jnp.int32(0)))


def step_after(graph: jraph.GraphsTuple, fixed: Fixed, state: State, limits: Limits, evaluation: Evaluation) -> State:
    """One step of `advance` after an evaluation made elsewhere for the positions in `state`."""
    graph_of_node = _graph_of_node(graph)
    with products_in("highest"):
        placed = _place(graph, state, fixed, graph_of_node)
        return _judge_and_step(placed, fixed, state, limits, evaluation, graph_of_node)


def _judge_and_step(
    placed: jraph.GraphsTuple,
    fixed: Fixed,
    state: State,
    limits: Limits,
    evaluation: Evaluation,
    graph_of_node: Int[Array, " n"],
) -> State:
    """Record an evaluation, determine which structures have ended, and move the others."""
    was_moving = is_moving(state)
    n_atoms = jnp.maximum(placed.n_node, 1).astype(state.displacements.dtype)
    forces = evaluation.forces
    if fixed.allowed is not None:
        forces = _along(fixed.allowed.cartesian, forces)
    forces = jnp.einsum("ni,nij->nj", forces, ascending_rows(state.deformation, graph_of_node))
    forces = jnp.where(fixed.is_free[:, None], forces, 0)
    if fixed.allowed is not None:
        forces = _along(fixed.allowed.scaled, forces)
    if fixed.symmetry is not None:
        forces = _symmetric(
            forces, fixed.symmetry, ascending_rows(jnp.cumsum(placed.n_node) - placed.n_node, graph_of_node)
        )
    on_cell = cell_forces(
        limits.stress_factor * evaluation.stress,
        _volume(placed.globals["cell"]),
        state.log_deformation,
        state.deformation,
        fixed.strain_freedom,
        limits.pressure,
        n_atoms,
    )
    fmax = _longest_row(forces, on_cell, graph_of_node)
    state = _record(state, was_moving, graph_of_node, evaluation, fmax)
    reason = _judge(state, placed, fixed, limits, forces, on_cell, graph_of_node)
    state = state._replace(reason=jnp.where(was_moving, reason, state.reason))

    fire, moves, cell_moves = fire_step(state.fire, forces, on_cell, graph_of_node, is_moving(state))
    log_deformation = state.log_deformation + cell_moves / n_atoms[:, None, None]
    deformation = expm(log_deformation)
    if fixed.allowed is not None:
        moves = _allowed_moves(moves, deformation, fixed.allowed, graph_of_node)
    moved = state._replace(
        fire=fire,
        displacements=state.displacements + moves,
        log_deformation=log_deformation,
        deformation=deformation,
    )
    exhausted = _list_is_exhausted(moved, fixed, limits, graph_of_node)
    return moved._replace(needs_list=state.needs_list | (is_moving(moved) & exhausted))


def _graph_of_node(graph: jraph.GraphsTuple) -> Int[Array, " n"]:
    n_nodes = len(graph.nodes["species"])
    return jnp.repeat(jnp.arange(len(graph.n_node)), graph.n_node, total_repeat_length=n_nodes)


def is_moving(state: State) -> Bool[Array, " g"]:
    """Whether each structure is running and has a usable neighbor list."""
    return (state.reason == Reason.RUNNING) & ~state.needs_list


def _place(graph, state: State, fixed: Fixed, graph_of_node) -> jraph.GraphsTuple:
    """The graph at the deformed positions and cell."""
    positions = jnp.einsum(
        "nj,nij->ni", fixed.start + state.displacements, ascending_rows(state.deformation, graph_of_node)
    )
    cell = fixed.initial_cell @ state.deformation.mT
    return graph._replace(nodes={**graph.nodes, "positions": positions}, globals={**graph.globals, "cell": cell})


def _symmetric(forces, symmetry: OrbitMaps, first_atom: Int[Array, " n"]) -> Float[Array, "n 3"]:
    """Part of the forces that obeys each structure's symmetry. Since the deformation commutes with the rotations, the
    forces on undeformed positions may be used."""
    orbit = first_atom + symmetry.orbit
    on_orbit = jax.ops.segment_sum(jnp.einsum("nji,nj->ni", symmetry.matrices, forces), orbit, len(forces))
    return jnp.einsum("nij,nj->ni", symmetry.matrices, on_orbit[orbit])


def _along(projections: Float[Array, "n 3 3"], vectors: Float[Array, "n 3"]) -> Float[Array, "n 3"]:
    return jnp.einsum("nij,nj->ni", projections, vectors)


def _allowed_moves(moves, deformation, allowed: AllowedMotions, graph_of_node) -> Float[Array, "n 3"]:
    """Allowed part of moves of undeformed positions, in ASE's order: the cell first carries the atoms along, then each
    atom moves as far as its constraints allow."""
    forward, back = (ascending_rows(a, graph_of_node) for a in (deformation, inverse_transpose(deformation).mT))
    stepped = _along(forward, _along(allowed.scaled, moves))
    return _along(back, _along(allowed.cartesian, stepped))


def _volume(cell: Float[Array, "g 3 3"]) -> Float[Array, " g"]:
    return jnp.abs(jnp.sum(jnp.cross(cell[:, 0], cell[:, 1]) * cell[:, 2], axis=-1))


def _longest_row(forces, on_cell, graph_of_node) -> Float[Array, " g"]:
    """ASE's measure of convergence: largest norm among the force rows of atoms and cell."""
    atom_rows = jax.ops.segment_max(
        jnp.sum(forces * forces, axis=-1), graph_of_node, len(on_cell), indices_are_sorted=True
    )
    return jnp.sqrt(jnp.maximum(atom_rows, jnp.max(jnp.sum(on_cell * on_cell, axis=-1), axis=-1)))


def _record(state: State, was_moving, graph_of_node, evaluation, fmax) -> State:
    """State with the evaluation of the structures that were moving."""
    is_first = was_moving & (state.fire.n_steps == 0)
    return state._replace(
        energy=jnp.where(was_moving, evaluation.energy, state.energy),
        initial_energy=jnp.where(is_first, evaluation.energy, state.initial_energy),
        fmax=jnp.where(was_moving, fmax, state.fmax),
        forces=jnp.where(was_moving[graph_of_node, None], evaluation.forces, state.forces),
        stress=jnp.where(was_moving[:, None], evaluation.stress, state.stress),
    )


def _judge(state, placed, fixed, limits, forces, on_cell, graph_of_node) -> Int[Array, " g"]:
    """Reason of each structure after an evaluation. Guards precede convergence, because an atom that has left the
    crystal also has no forces."""
    n_graphs = len(on_cell)
    per_graph = partial(jax.ops.segment_sum, segment_ids=graph_of_node, num_segments=n_graphs, indices_are_sorted=True)
    size = per_graph(jnp.sum(forces * forces, axis=-1)) + jnp.sum(on_cell * on_cell, axis=(-2, -1))
    nearest, approach = _nearest_neighbor(placed, fixed.radii, graph_of_node)
    closest = partial(jax.ops.segment_min, segment_ids=graph_of_node, num_segments=n_graphs, indices_are_sorted=True)
    closest_distance, closest_approach = closest(nearest), closest(approach)
    n_lost = per_graph((fixed.had_neighbors & (nearest > limits.cutoff)).astype(jnp.int32))
    n_bonded = per_graph(fixed.had_neighbors.astype(jnp.int32))
    strain = jnp.max(jnp.abs(state.log_deformation), axis=(-2, -1))
    is_inert = per_graph(jnp.sum(jnp.abs(state.forces), axis=-1)) + jnp.sum(jnp.abs(state.stress), axis=-1) == 0
    is_collapsed = (closest_distance < limits.min_distance) | (closest_approach < limits.min_approach)
    is_collapsed |= _volume(placed.globals["cell"]) < fixed.collapsed_volume
    is_relaxed = (state.fmax < limits.fmax) & (_residual_stress(state, fixed, limits) <= limits.smax)
    verdicts = (
        (~jnp.isfinite(size + state.energy), Reason.NON_FINITE),
        (strain > limits.max_strain, Reason.EXPLODED),
        (is_collapsed, Reason.COLLAPSED),
        ((n_lost > 0) | (n_bonded == 0), Reason.ISOLATED),
        # Atoms so close that the potential saturates feel no force, and neither do atoms at the edge of the cutoff.
        (is_inert & (closest_approach < 1), Reason.COLLAPSED),
        (is_inert, Reason.ISOLATED),
        (is_relaxed, Reason.CONVERGED),
        (state.fire.n_steps >= limits.steps, Reason.MAX_STEPS),
    )
    conditions, reasons = zip(*verdicts, strict=True)
    codes = [jnp.full(n_graphs, reason, state.reason.dtype) for reason in reasons]
    return jnp.select(conditions, codes, jnp.asarray(Reason.RUNNING, state.reason.dtype))


def _residual_stress(state: State, fixed: Fixed, limits: Limits) -> Float[Array, " g"]:
    """Largest component of stress plus pressure for the allowed strains, eV/A^3."""
    residual = tensor_from_voigt(state.stress) + limits.pressure * jnp.eye(3, dtype=state.stress.dtype)
    return jnp.max(jnp.abs(project(fixed.strain_freedom, residual)), axis=(-2, -1))


def _nearest_neighbor(placed: jraph.GraphsTuple, radii, graph_of_node) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Smallest distance to a neighbor (A), and smallest ratio of distance to the sum of both radii, for each atom;
    infinite for atoms without neighbors in the list."""
    positions, senders, receivers = placed.nodes["positions"], placed.senders, placed.receivers
    cells = ascending_rows(placed.globals["cell"], ascending_rows(graph_of_node, receivers))
    shifts = jnp.einsum("ei,eij->ej", placed.edges["shifts"].astype(positions.dtype), cells)
    vectors = any_rows(positions, senders) + shifts - ascending_rows(positions, receivers)
    squares, sums = jnp.sum(vectors * vectors, axis=-1), any_rows(radii, senders) + ascending_rows(radii, receivers)
    least = partial(jax.ops.segment_min, segment_ids=receivers, num_segments=len(positions), indices_are_sorted=True)
    return jnp.sqrt(least(squares)), jnp.sqrt(least(squares / jnp.where(sums > 0, sums * sums, 1)))


def _list_is_exhausted(state: State, fixed: Fixed, limits: Limits, graph_of_node) -> Bool[Array, " g"]:
    """Whether a pair that was beyond cutoff + skin when the list was made may now be within the cutoff.

    With D the deformation since then and u the additional displacements of the atoms, a pair's distance is at least (1
    - |D - 1|) times the old one minus 2 max |u|. This covers the motion of the cell as well as that of the atoms.
    """
    deformation = state.deformation
    since_list = deformation @ fixed.list_inverse_deformation - jnp.eye(3, dtype=deformation.dtype)
    shrinkage = jnp.sqrt(jnp.sum(since_list * since_list, axis=(-2, -1)))
    moves = jnp.einsum(
        "nj,nij->ni", state.displacements - fixed.list_displacements, ascending_rows(deformation, graph_of_node)
    )
    farthest = jnp.sqrt(
        jax.ops.segment_max(jnp.sum(moves * moves, axis=-1), graph_of_node, len(deformation), indices_are_sorted=True)
    )
    return (1 - shrinkage) * (limits.cutoff + limits.skin) - 2 * farthest < limits.cutoff
