"""What runs on the workers of `mlip.relaxation.cluster`. Imports Dask: import it where Dask is known to be there."""

import tempfile
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from ase import Atoms
from distributed import Worker, WorkerPlugin, get_worker

from mlip import __version__
from mlip.errors import MlipError
from mlip.potential import Potential
from mlip.relaxation import RelaxResult, Statistics, relaxations
from mlip.relaxation.cell import CellChoice
from mlip.relaxation.cost import timed

Ended = list[tuple[int, RelaxResult, float]]
"""Index, result and seconds of each structure of a chunk."""


class PotentialOnWorker(WorkerPlugin):
    """The potential, loaded from its file's content: every worker gets it, those that start later too, and none needs
    a file system in common with the others."""

    name = "mlip-potential"

    def __init__(self, content: bytes):
        self._content = content

    def setup(self, worker: Worker) -> None:
        self.device = Lock()

    @cached_property
    def potential(self) -> Potential:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "potential.safetensors"
            path.write_bytes(self._content)
            return Potential.load(path)


def relax_chunk(
    indices: list[int], structures: list[Atoms], cells: list[CellChoice], settings: dict[str, Any], version: str
) -> tuple[Ended, Statistics]:
    """Relax a chunk; one at a time on a worker, however many threads it has: they share one device.

    Raises:
        MlipError: this worker has another version of mlip.
    """
    if version != __version__:
        raise MlipError(f"a worker has mlip {__version__}, this process {version}", where="--cluster")
    plugin: PotentialOnWorker = get_worker().plugins[PotentialOnWorker.name]
    statistics = Statistics()
    with plugin.device:
        ended = relaxations(structures, plugin.potential, cell=cells, statistics=statistics, **settings)
        return [(indices[k], result, seconds) for k, result, seconds in timed(ended, statistics)], statistics
