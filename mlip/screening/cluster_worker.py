"""What runs on the workers of `mlip.screening.cluster`. Imports Dask: import it where Dask is known to be there."""

import tempfile
from functools import cached_property
from pathlib import Path
from threading import Lock

from distributed import Worker, WorkerPlugin, get_worker

from mlip import __version__
from mlip.errors import MlipError
from mlip.property_model import PropertyModel
from mlip.screening.candidates import Block, Candidates
from mlip.screening.rules import Rules
from mlip.screening.screener import Screened, Screener


class ScreenerOnWorker(WorkerPlugin):
    """The model, from its file's content, with prototypes and rules: no worker needs a file system in common with
    the others."""

    name = "mlip-screener"

    def __init__(self, content: bytes, candidates: Candidates, rules: Rules, below: float):
        self._content, self._candidates, self._rules, self._below = content, candidates, rules, below

    def setup(self, worker: Worker) -> None:
        self.device = Lock()

    @cached_property
    def screener(self) -> Screener:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            path.write_bytes(self._content)
            return Screener(PropertyModel.load(path), self._candidates, self._rules, self._below)


def screen_block(block: Block, version: str) -> Screened:
    """Screen a block; one at a time on a worker, however many threads it has: they share one device.

    Raises:
        MlipError: this worker has another version of mlip.
    """
    if version != __version__:
        raise MlipError(f"a worker has mlip {__version__}, this process {version}", where="--cluster")
    plugin: ScreenerOnWorker = get_worker().plugins[ScreenerOnWorker.name]
    with plugin.device:
        return plugin.screener.screen(block)
