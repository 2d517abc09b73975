"""Code that runs on the workers of `mlip.screening.cluster`. Imports Dask: import it where Dask is known to be
there."""

from pathlib import Path

from mlip.cluster_worker import DEVICE, ModelOnWorker, loaded_on_worker
from mlip.code_version import check_same_code
from mlip.property_model import PropertyModel
from mlip.screening.candidates import Block, Candidates
from mlip.screening.rules import Rules
from mlip.screening.screener import Screened, Screener


class ScreenerOnWorker(ModelOnWorker):
    """A property model, from its file's content, with prototypes and rules."""

    kind = "mlip-screener"

    def load(self, path: Path, candidates: Candidates, rules: Rules, below: float) -> Screener:
        return Screener(PropertyModel.load(path), candidates, rules, below)


def screen_block(block: Block, version: str, screener: str) -> Screened:
    """Screen a block; one at a time on a worker, however many threads it has: they share one device.

    Args:
        version: of the client's code.
        screener: name of the plugin that holds it.

    Raises:
        MlipError: this worker runs other code, or lacks the screener.
    """
    check_same_code(version)
    with DEVICE:
        return loaded_on_worker(screener).screen(block)
