"""Files that are there whole or not at all: they grow under a hidden name beside the target, and then replace it."""

import glob
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(target: str | os.PathLike, *, durable: bool = True) -> Iterator[Path]:
    """Give the path of a file, or of a folder, to make. When the block ends well it replaces `target` in one step;
    after an error it is removed, and `target` is what it was.

    Args:
        durable: on the disk before the block ends, so that a machine that dies loses nothing. It costs milliseconds,
            which count where files come by the thousand.

    Raises:
        OSError: there is no such place, or no room.
    """
    target = Path(target)
    partial = partial_path(target)
    try:
        yield partial
        (put_in_place if durable else os.replace)(partial, target)
    except BaseException:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            with suppress(OSError):  # a place that cannot be written to holds nothing
                partial.unlink()
        raise


def partial_path(target: Path) -> Path:
    """Where a file grows until it is complete: hidden, beside the target, one a process."""
    return target.with_name(f".{target.name}.{socket.gethostname()}-{os.getpid()}.partial")


def remove_dead_partials(target: Path) -> None:
    """Clean up after processes that were killed on this machine while they wrote the same target."""
    prefix = f".{target.name}.{socket.gethostname()}-"
    for path in target.parent.glob(f"{glob.escape(prefix)}*.partial"):
        pid = path.name.removeprefix(prefix).removesuffix(".partial")
        if pid.isdigit() and not _is_running(int(pid)):
            path.unlink(missing_ok=True)


def put_in_place(partial: Path, target: Path) -> None:
    """Atomically and durably rename a finished file to its name."""
    _sync(partial)
    os.replace(partial, target)
    _sync(target.parent)  # the new name, too


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
