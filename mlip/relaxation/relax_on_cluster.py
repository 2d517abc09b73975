"""Relaxations on a Dask cluster: workers with one device each relax chunks of structures and return the results to the
process that writes them.

A chunk whose worker dies is repeated by another worker and counts only once. A chunk that kills every worker is split
up: the structure at fault ends as an error, the others as usual.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms

from mlip.cluster.client import cluster_client, result_of
from mlip.code_version import CODE_VERSION
from mlip.errors import MlipError
from mlip.foreign import ForeignPotential, foreign_name
from mlip.potential import Potential
from mlip.relaxation import RelaxResult, Statistics, relaxations
from mlip.relaxation.cell import CellChoice
from mlip.relaxation.endings import give_up
from mlip.relaxation.statistics import timed

if TYPE_CHECKING:
    from distributed import Future

    from mlip.cluster.plugin import ModelOnWorker

Ended = list[tuple[int, RelaxResult, float]]
"""Index, result and seconds of each structure in a chunk."""

_MAX_CHUNK = 256
"""Largest number of structures per chunk; enough to fill a device."""
_CHUNKS_PER_WORKER = 8
"""Number of chunks per worker, so that workers finish together and little is lost when one dies."""


def relax_on_cluster(
    structures: Sequence[Atoms],
    cells: Sequence[CellChoice],
    potential: str | PathLike,
    settings: dict[str, Any],
    cluster: str,
    statistics: Statistics,
) -> Iterator[tuple[int, RelaxResult, float]]:
    """Yield index, result and device seconds of each structure when its chunk ends.

    Args:
        potential: file of the potential, or ase:MODULE:CLASS, which every worker creates itself.
        settings: further options of `mlip.relaxation.relaxations`.
        cluster: name of a cluster as in `mlip.cluster.client`.
        statistics: statistics to which those of the workers are added.

    Raises:
        MlipError: Dask is not installed, there is no scheduler at that address, or workers run other code.
    """
    with cluster_client(cluster) as client:
        from distributed import KilledWorker, as_completed

        plugin = _on_worker(potential)
        client.register_plugin(plugin)

        def submit(chunk: list[int]) -> "Future":
            picked = [structures[k] for k in chunk], [cells[k] for k in chunk]
            return client.submit(relax_chunk, chunk, *picked, settings, CODE_VERSION, plugin.name, pure=False)

        chunks = {submit(chunk): chunk for chunk in _chunks(structures, len(client.nthreads()))}
        for future in as_completed(chunks):
            chunk = chunks.pop(future)
            try:
                yield from _take(future, statistics)
            except KilledWorker:
                for k in chunk:
                    try:
                        yield from _take(submit([k]), statistics)
                    except KilledWorker:
                        yield k, give_up(structures[k], MlipError("its worker was killed each time")), 0.0
            future.release()


def _on_worker(potential: str | PathLike) -> "ModelOnWorker":
    """Dask plugin that holds a potential's file, or the ase:MODULE:CLASS text of a calculator."""
    from mlip.cluster.plugin import ModelOnWorker

    text = foreign_name(potential)
    if text is None:
        return ModelOnWorker(Path(potential).read_bytes(), Potential.load)
    return ModelOnWorker(text.encode(), _calculator_of)


def _calculator_of(path: Path) -> ForeignPotential:
    return ForeignPotential.open(path.read_text())


def _chunks(structures: Sequence[Atoms], n_workers: int) -> Iterator[list[int]]:
    """Indices in chunks of similar size, largest structures first, so that the last chunks are quick."""
    order = sorted(range(len(structures)), key=lambda k: -len(structures[k]))
    size = min(-(-len(order) // (_CHUNKS_PER_WORKER * max(n_workers, 1))), _MAX_CHUNK)
    for first in range(0, len(order), size):
        yield order[first : first + size]


def _take(future: "Future", statistics: Statistics) -> Ended:
    ended, spent = result_of(future)
    for f in fields(Statistics):
        both = getattr(statistics, f.name), getattr(spent, f.name)
        setattr(statistics, f.name, both[0] | both[1] if f.name == "shapes" else sum(both))
    return ended


def relax_chunk(
    indices: list[int],
    structures: list[Atoms],
    cells: list[CellChoice],
    settings: dict[str, Any],
    version: str,
    potential: str,
) -> tuple[Ended, Statistics]:
    """Relax a chunk on a worker.

    Args:
        version: code version of the client.
        potential: name of the plugin that holds the potential.

    Raises:
        MlipError: this worker runs other code, or lacks the potential.
    """
    from mlip.cluster.plugin import job_on_worker

    statistics = Statistics()
    with job_on_worker(version, potential) as loaded:
        ended = relaxations(structures, loaded, cell=cells, statistics=statistics, **settings)
        return [(indices[k], result, seconds) for k, result, seconds in timed(ended, statistics)], statistics
