"""Screening of blocks on a Dask cluster, one device per worker, with results in the order of the blocks.

A block whose worker dies is repeated by another worker; its result is counted once, when it returns to the client.
"""

import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from mlip.cluster.client import cluster_client, result_of
from mlip.code_version import CODE_VERSION
from mlip.errors import MlipError
from mlip.property_model import PropertyModel
from mlip.screening.candidates import Block, Candidates
from mlip.screening.plan import ScreeningPlan
from mlip.screening.rules import Rules
from mlip.screening.screener import Screened, Screener
from mlip.screening.screening_recipe import KeepRecipe
from mlip.screening.sieve import Sieve

_BLOCKS_PER_WORKER = 4
"""Blocks in flight for each worker: enough that none waits for work, few enough that little arrives out of order."""


def screened_on_cluster(plan: ScreeningPlan, start: int, cluster: str) -> Iterator[tuple[Block, Screened]]:
    """Each block from the candidate `start` on with its result, in order.

    Args:
        cluster: a cluster in the notation of `mlip.cluster.client`.

    Raises:
        MlipError: Dask is not installed, there is no scheduler at the address, a worker runs other code, or a block
            kills every worker.
    """
    with cluster_client(cluster) as client:
        from distributed import KilledWorker

        from mlip.cluster.plugin import ModelOnWorker

        recipe = plan.recipe
        sieve = recipe.sieve and (recipe.sieve.model_file.read_bytes(), recipe.sieve.below)
        content = recipe.model_file.read_bytes()
        plugin = ModelOnWorker(content, _load, plan.candidates, plan.rules, recipe.keep, sieve)
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
                yield block, result_of(future)
            except KilledWorker:
                prototype = plan.candidates.prototypes[block.prototype].name
                raise MlipError("its workers were killed each time (out of memory?)", where=prototype) from None
            send()


def _load(
    path: Path, candidates: Candidates, rules: Rules, keep: KeepRecipe, sieve: tuple[bytes, float] | None
) -> Screener:
    return Screener(PropertyModel.load(path), candidates, rules, keep, sieve and _sieve_of(*sieve))


def _sieve_of(content: bytes, below: float) -> Sieve:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sieve.safetensors"
        path.write_bytes(content)
        return Sieve(PropertyModel.load(path), below)


def screen_block(block: Block, version: str, screener: str) -> Screened:
    """Screen a block on a worker.

    Args:
        version: version of the client's code.
        screener: name of the plugin that holds the `Screener`.

    Raises:
        MlipError: this worker runs other code, or lacks the screener.
    """
    from mlip.cluster.plugin import job_on_worker

    with job_on_worker(version, screener) as loaded:
        return loaded.screen(block)
