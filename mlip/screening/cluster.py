"""Blocks of candidates on a Dask cluster, a device a worker, and what is known of them in order.

A block whose worker dies is done again by another one, and counts once: it counts when it comes back here.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError

from mlip.cluster import cluster_client
from mlip.code_version import CODE_VERSION
from mlip.errors import MlipError
from mlip.screening.candidates import Block
from mlip.screening.plan import Plan
from mlip.screening.screener import Screened

_BLOCKS_PER_WORKER = 4
"""On their way: none waits for work, and results that came before their turn are few."""


def screened_on_cluster(plan: Plan, start: int, cluster: str) -> Iterator[tuple[Block, Screened]]:
    """Each block from the candidate `start` on, in order.

    Args:
        cluster: as `mlip.cluster` names them.

    Raises:
        MlipError: Dask is not installed, no scheduler at that address, workers with other code, or a
            block that kills each worker.
    """
    with cluster_client(cluster) as client:
        from distributed import KilledWorker

        from mlip.screening.cluster_worker import ScreenerOnWorker, screen_block

        client.wait_for_workers(1)
        plugin = ScreenerOnWorker(
            plan.recipe.model_file.read_bytes(), plan.candidates, plan.rules, plan.recipe.keep.below
        )
        client.register_plugin(plugin)
        blocks, sent = plan.candidates.blocks(start), deque()

        def send() -> None:
            while len(sent) < _BLOCKS_PER_WORKER * max(len(client.nthreads()), 1):
                if (block := next(blocks, None)) is None:
                    return
                sent.append((block, client.submit(screen_block, block, CODE_VERSION, plugin.name, pure=False)))

        send()
        while sent:
            block, future = sent.popleft()
            try:
                yield block, future.result()
            except KilledWorker:
                prototype = plan.candidates.prototypes[block.prototype].name
                raise MlipError("its workers were killed each time (out of memory?)", where=prototype) from None
            except CancelledError:
                raise MlipError(
                    "the Dask scheduler is gone", where="--cluster", fix="repeat the command: it goes on where it was"
                ) from None
            send()
