"""Content of a Dask cluster's workers for a job: its model, by content. Imports Dask: import it where Dask is there.

Jobs that share a scheduler share its workers. A plugin is therefore named after what it holds, and every chunk of
work names the one that it was sent with: no job can compute with the model of another.
"""

import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any

from distributed import WorkerPlugin, get_worker

from mlip.code_version import check_same_code
from mlip.errors import MlipError

_DEVICE = Lock()
"""Held by the chunk that computes: a worker has one device, however many threads and jobs it has."""


class ModelOnWorker(WorkerPlugin):
    """A model from its file's content, and what else a job needs. Every worker gets it, those that start later too, and
    none needs a file system in common with the others.

    Args:
        content: the model's file.
        load: makes what chunks compute with of the file's path and the others.
    """

    idempotent = True  # the same content again, from another job, leaves the loaded model in place

    def __init__(self, content: bytes, load: Callable[..., Any], *others: Any):
        self._content, self._load, self._others = content, load, others
        self.name = f"mlip-{blake2b(content + pickle.dumps((load, others)), digest_size=16).hexdigest()}"

    @cached_property
    def loaded(self) -> Any:
        """Result of `load`, once a worker."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            path.write_bytes(self._content)
            return self._load(path, *self._others)


@contextmanager
def job_on_worker(version: str, name: str) -> Iterator[Any]:
    """On a worker, give what the plugin of that name has loaded, to one chunk at a time.

    Args:
        version: of the client's code.

    Raises:
        MlipError: this worker runs other code, or has no such plugin.
    """
    check_same_code(version)
    plugin = get_worker().plugins.get(name)
    if plugin is None:
        raise MlipError(f"a worker has not got the model of this job ({name})", where="--cluster", fix="repeat it")
    with _DEVICE:
        yield plugin.loaded
