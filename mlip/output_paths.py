"""Where a command writes: folders are made, files that exist are not replaced unasked, what fails is one line."""

from pathlib import Path

from mlip.errors import MlipError


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it; one that exists is fine.

    Raises:
        MlipError: a file lies in the way, or nobody may write there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        in_the_way = next(path for path in (folder, *folder.parents) if path.exists())
        raise MlipError(
            f"cannot be made: {in_the_way} is a file, not a folder", where=str(folder), fix="name another place"
        ) from None
    except OSError as error:
        raise MlipError(f"cannot be made: {error.strerror}", where=str(folder), fix="name another place") from None


def check_new(path: Path, *, force: bool) -> None:
    """Check that an output may be written at `path`, before any work is done for it; makes the folder around it.

    Args:
        force: a file that exists may be replaced.

    Raises:
        MlipError: it exists, and `force` is false; it is a folder; its own folder cannot be made.
    """
    if path.is_dir():
        raise MlipError("is a folder", where=str(path), fix="name a file in it")
    if path.exists() and not force:
        raise MlipError("exists already", where=str(path), fix="--force replaces it; or name another file")
    make_folder(path.parent)
