"""Content of a Dask cluster's workers for a job: its model, by content. Imports Dask: import it where Dask is there.

Jobs that share a scheduler share its workers. A plugin is therefore named after what it holds, and every chunk of
work names the one that it was sent with: no job can compute with the model of another.
"""

import pickle
import tempfile
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

from distributed import WorkerPlugin, get_worker

from mlip.errors import MlipError

DEVICE = Lock()
"""Held by the chunk that computes: a worker has one device, however many threads and jobs it has."""


class ModelOnWorker(WorkerPlugin):
    """A model from its file's content, and what else a job needs. Every worker gets it, those that start later too, and
    none needs a file system in common with the others.

    Args:
        content: the model's file.
        others: further arguments of `load`.
    """

    kind: ClassVar[str]
    """First part of the plugin's name."""
    idempotent = True  # the same content again, from another job, leaves the loaded model in place

    def __init__(self, content: bytes, *others: Any):
        self._content, self._others = content, others
        self.name = f"{self.kind}-{blake2b(content + pickle.dumps(others), digest_size=16).hexdigest()}"

    def load(self, path: Path, *others: Any) -> Any:
        """Load what the chunks compute with from the model's file."""
        raise NotImplementedError

    @cached_property
    def loaded(self) -> Any:
        """Result of `load`, once a worker."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            path.write_bytes(self._content)
            return self.load(path, *self._others)


def loaded_on_worker(name: str) -> Any:
    """Return what the plugin of that name has loaded on this worker.

    Raises:
        MlipError: this worker has no such plugin.
    """
    plugin = get_worker().plugins.get(name)
    if plugin is None:
        raise MlipError(f"a worker has not got the model of this job ({name})", where="--cluster", fix="repeat it")
    return plugin.loaded
