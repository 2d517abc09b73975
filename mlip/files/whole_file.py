"""Atomic writes: a file or folder grows under a hidden name beside its target, and then replaces it in one step."""

import glob
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole_file(target: str | os.PathLike, *, durable: bool = True) -> Iterator[Path]:
    """Context that yields a temporary path at which to make a file or a folder. If the block succeeds, the result
    replaces `target` in one step; if it raises, the result is removed, and `target` stays as it was.

    Args:
        durable: sync to disk before the block ends, so that a crash of the machine loses nothing. This costs
            milliseconds per file, which add up over thousands of files.

    Raises:
        OSError: the folder does not exist, or the disk is full.
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
            with suppress(OSError):  # nothing was made if the place is not writable
                partial.unlink()
        raise


def partial_path(target: Path) -> Path:
    """Temporary path of a file until it is complete: hidden, beside the target, and unique to the host and process."""
    return target.with_name(f".{target.name}.{socket.gethostname()}-{os.getpid()}.partial")


def remove_dead_partials(target: Path) -> None:
    """Remove the temporary files of killed processes of this machine that were writing the same target."""
    prefix = f".{target.name}.{socket.gethostname()}-"
    for path in target.parent.glob(f"{glob.escape(prefix)}*.partial"):
        pid = path.name.removeprefix(prefix).removesuffix(".partial")
        if pid.isdigit() and not _is_running(int(pid)):
            path.unlink(missing_ok=True)


def put_in_place(partial: Path, target: Path) -> None:
    """Rename a finished file to its final name, atomically and durably."""
    _sync(partial)
    os.replace(partial, target)
    _sync(target.parent)  # so that the new name is durable too


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
