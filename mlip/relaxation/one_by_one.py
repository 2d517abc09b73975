"""Relaxations with any ASE calculator, one structure at a time.

The calculator provides energy, forces and stress in place of the network. All other code is shared with
`mlip.relaxation.queue` and runs in float64: checks of the structures, FIRE and the cell, constraints, symmetry and
termination.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import jax
import numpy as np
from ase import Atoms

from mlip.energy_gradient import Evaluation
from mlip.errors import MlipError
from mlip.foreign import ForeignPotential
from mlip.graph.batching import Shape, pad_batch
from mlip.programs import registry
from mlip.relaxation.batch import FIXED_AXES, FIXED_AXES_WITH_MAPS, STATE_AXES, Limits, stack, step_after, unstack
from mlip.relaxation.cell import CellChoice
from mlip.relaxation.endings import finish, give_up, identity, record_step, structure_now
from mlip.relaxation.options import Options
from mlip.relaxation.result import Reason, RelaxResult
from mlip.relaxation.statistics import Statistics
from mlip.relaxation.structure import Relaxing, admit
from mlip.relaxation.structures_to_relax import Refused
from mlip.runtime import precision_scope
from mlip.units import tensor_from_voigt, voigt_from_tensor

RADIUS = 6.0
"""An atom with no other atom within this distance, A, has lost its neighbors: the paper's rule for isolated atoms, used
because the cutoff of a calculator is unknown."""
_SKIN = 0.5
_SMALLEST = 1024
_GROWTH = 4
"""Growth of the few array shapes: a step takes less than a millisecond in any of them, a compilation a second."""


def relax_one_by_one(
    inputs: Sequence[Atoms],
    cells: Sequence[CellChoice],
    potential: ForeignPotential,
    options: Options,
    with_maps: bool,
    statistics: Statistics,
) -> Iterator[tuple[int, RelaxResult]]:
    """Index and result of each structure, in order; a structure for which the calculator fails ends as an error.

    Args:
        with_maps: whether any structure has a symmetry or directions to keep.
    """
    options = replace(options, dtype="float64")
    limits = Limits.of(options, RADIUS, _SKIN, max_iterations=1)
    for index, atoms in enumerate(inputs):
        started = time.perf_counter()
        one = _OneStructure(potential, limits, statistics)
        result = one.relax(index, atoms, cells[index], options, with_maps)
        statistics.seconds += time.perf_counter() - started
        yield index, result


class _OneStructure:
    """Relaxation of one structure."""

    def __init__(self, potential: ForeignPotential, limits: Limits, statistics: Statistics):
        self.potential, self.limits, self.statistics = potential, limits, statistics
        self.told = identity(potential)

    def relax(self, index: int, atoms: Atoms, cell: CellChoice, options: Options, with_maps: bool) -> RelaxResult:
        relaxing = None
        try:
            if isinstance(atoms, Refused):
                raise atoms.error
            relaxing = admit(index, atoms, self.potential, cell, options, with_maps)
            while relaxing.reason is Reason.RUNNING:
                if relaxing.state.needs_list[0]:
                    relaxing.make_list(self.limits.cutoff, self.limits.skin)
                    self.statistics.n_lists += 1
                self._step(relaxing)
        except MlipError as error:
            return give_up(atoms, error, relaxing)
        return finish(relaxing, self.potential, self.told)

    def _step(self, relaxing: Relaxing) -> None:
        """Call the calculator and move the structure."""
        energy, forces, stress = self._ask(relaxing)
        shape = _shape(len(relaxing), len(relaxing.graph.senders))
        axes = FIXED_AXES if relaxing.symmetry is None else FIXED_AXES_WITH_MAPS
        known = np.nan_to_num(stress)
        evaluation = Evaluation(
            node_energies=np.zeros(shape.n_node),
            energy=np.array([energy, 0.0]),
            forces=np.concatenate([forces, np.zeros((shape.n_node - len(forces), 3))]),
            stress=np.stack([known, np.zeros(6)]),
        )
        arguments = (
            pad_batch([relaxing.graph], shape),
            stack(axes, [relaxing.fixed], shape.n_node, shape.n_graph),
            stack(STATE_AXES, [relaxing.state], shape.n_node, shape.n_graph),
            self.limits,
            evaluation,
        )
        with precision_scope("float64"):
            key = (step_after, shape, relaxing.symmetry is None)
            program, compile_seconds = registry.compile(key, step_after, arguments)
            state = jax.device_get(program(*arguments))
        self.statistics.shapes.add(shape)
        self.statistics.compile_seconds += compile_seconds
        before, (relaxing.state,) = relaxing.state, unstack(STATE_AXES, state, [len(relaxing)])
        relaxing.state = relaxing.state._replace(stress=stress[None])
        if relaxing.trajectory is not None:
            record_step(relaxing, before, self.potential, self.told)

    def _ask(self, relaxing: Relaxing) -> tuple[float, np.ndarray, np.ndarray]:
        """Energy, forces and stress of the current structure, in the axes of the relaxation. The stress is NaN if the
        calculator gives none, and zero without a volume.

        Raises:
            MlipError: the calculator failed, or gives no stress although the cell relaxes.
        """
        atoms, where = structure_now(relaxing, self.potential, None), f"structure {relaxing.index}"
        started = time.perf_counter()
        answer = self.potential.evaluate(atoms, where)
        self.statistics.device_seconds += time.perf_counter() - started
        self.statistics.n_force_calls += 1
        self.statistics.n_evaluations += 1
        frame, stress = relaxing.frame, answer["stress"]
        if atoms.cell.rank < 3:
            stress = np.zeros(6)
        elif not np.isnan(stress).all():
            stress = voigt_from_tensor(frame.T @ tensor_from_voigt(stress) @ frame)
        elif relaxing.strain_freedom.any() and math.isfinite(answer["energy"]):
            raise MlipError(f"{self.potential.name} gives no stress, and the cell relaxes", where=where)
        return answer["energy"], answer["forces"] @ frame, stress


def _shape(n_node: int, n_edge: int) -> Shape:
    """Array shape with room for one structure and the padding atom."""
    edges = _SMALLEST
    while edges < n_edge:
        edges *= _GROWTH
    nodes = _SMALLEST // 64
    while nodes < n_node + 1:
        nodes *= _GROWTH
    return Shape(nodes, edges, 2)
