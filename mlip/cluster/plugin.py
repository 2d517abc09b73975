"""Dask worker plugin that holds the model of a job. This module imports Dask, so import it only where Dask is.

Jobs that share a scheduler share its workers. A plugin is therefore named by a hash of its content, and every chunk of
work names the plugin that it needs: no job can compute with the model of another.
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
    """A model, given as the content of its file, with other arguments that a job needs. Every worker gets it, including
    those that start later. Workers need no shared file system.

    Args:
        content: bytes of the model file.
        load: function of the model file's path and of `others` that returns what the chunks compute with.
    """

    idempotent = True  # the same content sent again by another job leaves the loaded model in place

    def __init__(self, content: bytes, load: Callable[..., Any], *others: Any):
        self._content, self._load, self._others = content, load, others
        self.name = f"mlip-{blake2b(content + pickle.dumps((load, others)), digest_size=16).hexdigest()}"

    @cached_property
    def loaded(self) -> Any:
        """Result of `load`, computed once per worker."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            path.write_bytes(self._content)
            return self._load(path, *self._others)


@contextmanager
def job_on_worker(version: str, name: str) -> Iterator[Any]:
    """Context on a worker that yields what the named plugin has loaded, to one chunk at a time.

    Args:
        version: version of the client's code.

    Raises:
        MlipError: this worker runs another version of the code, or does not have the plugin.
    """
    check_same_code(version)
    plugin = get_worker().plugins.get(name)
    if plugin is None:
        raise MlipError(f"a worker has not got the model of this job ({name})", where="--cluster", fix="repeat it")
    with _DEVICE:
        yield plugin.loaded
