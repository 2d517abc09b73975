"""Code that runs on the workers of `mlip.relaxation.cluster`. Imports Dask: import it where Dask is known to be
there."""

from os import PathLike
from pathlib import Path
from typing import Any

from ase import Atoms

from mlip.cluster_worker import DEVICE, ModelOnWorker, loaded_on_worker
from mlip.code_version import check_same_code
from mlip.foreign import ForeignPotential, foreign_name
from mlip.potential import Potential
from mlip.relaxation import RelaxResult, Statistics, relaxations
from mlip.relaxation.cell import CellChoice
from mlip.relaxation.cost import timed

Ended = list[tuple[int, RelaxResult, float]]
"""Index, result and seconds of each structure of a chunk."""


class PotentialOnWorker(ModelOnWorker):
    """A potential, from its file's content."""

    kind = "mlip-potential"

    def load(self, path: Path) -> Potential:
        return Potential.load(path)


class CalculatorOnWorker(ModelOnWorker):
    """A calculator of ASE, from its text."""

    kind = "ase-calculator"

    def load(self, path: Path) -> ForeignPotential:
        return ForeignPotential.open(path.read_text())


def on_worker(potential: str | PathLike) -> ModelOnWorker:
    """The plugin that holds a potential's file, or a calculator, by ase:MODULE:CLASS."""
    text = foreign_name(potential)
    if text is None:
        return PotentialOnWorker(Path(potential).read_bytes())
    return CalculatorOnWorker(text.encode())


def relax_chunk(
    indices: list[int],
    structures: list[Atoms],
    cells: list[CellChoice],
    settings: dict[str, Any],
    version: str,
    potential: str,
) -> tuple[Ended, Statistics]:
    """Relax a chunk; one at a time on a worker, however many threads it has: they share one device.

    Args:
        version: of the client's code.
        potential: name of the plugin that holds it.

    Raises:
        MlipError: this worker runs other code, or lacks the potential.
    """
    check_same_code(version)
    statistics = Statistics()
    with DEVICE:
        ended = relaxations(structures, loaded_on_worker(potential), cell=cells, statistics=statistics, **settings)
        return [(indices[k], result, seconds) for k, result, seconds in timed(ended, statistics)], statistics
