"""The folder of a run: its files, and protection against concurrent writers."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlip.data import Store
from mlip.errors import MlipError
from mlip.files.one_writer import one_writer
from mlip.files.output_paths import make_folder
from mlip.files.whole_file import whole_file
from mlip.training.recipe import Recipe
from mlip.training.recipe_file import read_recipe

_MAY_CHANGE = {
    ("data", "store"),
    ("data", "workers"),
    ("data", "replay", "store"),
    ("init_from", "potential"),
    ("property", "element_vectors"),
    ("train", "keep"),
    ("train", "checkpoint_every"),
    ("wandb_project",),
}
"""Keys that do not affect the result; a resumed run may change them."""
_EPOCHS = ("train", "epochs")
"""Key that a resumed run may change with a notice; the run becomes longer or shorter (`loop.Run`)."""


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @property
    def recipe(self) -> Path:
        """Path of the resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def statistics(self) -> Path:
        """Path of the statistics of the training set (JSON), which determine the scale of the target."""
        return self.path / "statistics.json"

    @property
    def heads(self) -> Path:
        """Path of the energy scales taken over from a potential (JSON)."""
        return self.path / "heads.json"

    @property
    def model(self) -> Path:
        """Path of the model's config, including measured fields (JSON)."""
        return self.path / "model.json"

    @property
    def store_fingerprint(self) -> Path:
        """Path of the fingerprint of the training data's content, which does not depend on their location."""
        return self.path / "store_fingerprint"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def has_checkpoints(self) -> bool:
        return self.last_checkpoint() is not None

    def last_checkpoint(self) -> int | None:
        """Step of the newest checkpoint; None if there is none."""
        names = [path.name for path in self.checkpoints.iterdir()] if self.checkpoints.is_dir() else []
        return max((int(name) for name in names if name.isdigit()), default=None)


@contextmanager
def open_run_folder(recipe: Recipe, store_fingerprint: str, *, resume: bool) -> Iterator[RunFolder]:
    """Create or reopen the run folder and write the resolved recipe; a lock keeps other processes out within the
    context.

    Raises:
        MlipError: the folder holds a run and `resume` is false, that run had another recipe or other data, or another
            process is training in it.
    """
    out = recipe.out
    make_folder(out)
    refusal = MlipError("another process trains into this folder now", where=str(out), fix="set out=ANOTHER")
    with one_writer(out / ".lock", refusal):
        folder = RunFolder(out)
        _enter(folder, recipe, store_fingerprint, resume)
        yield folder


def _enter(folder: RunFolder, recipe: Recipe, store_fingerprint: str, resume: bool) -> None:
    if folder.has_checkpoints():
        if not resume:
            raise MlipError(
                "the folder holds a run already",
                where=str(recipe.out),
                fix="go on with --resume, or set out=ANOTHER",
            )
        check_same_recipe(recipe, folder, epochs_may_differ=True)
        check_same_store(recipe, folder, store_fingerprint)
    else:  # a run that died before its first checkpoint cannot be resumed
        for measured in (folder.statistics, folder.heads, folder.model):
            measured.unlink(missing_ok=True)
    with whole_file(folder.recipe) as path:  # a run cannot be resumed without it
        recipe.save(path)
    with whole_file(folder.store_fingerprint) as path:
        path.write_text(store_fingerprint + "\n")


def store_fingerprint(store: Store) -> str:
    """Short hash of the store's content, from the checksums in its files."""
    checksums = [shard.file["checksums"].asstr()[()] for shard in store.shards]
    return hashlib.blake2b("".join(checksums).encode(), digest_size=8).hexdigest()


def check_same_recipe(recipe: Recipe, folder: RunFolder, *, epochs_may_differ: bool = False) -> None:
    """Check that the run in the folder had the same recipe.

    Raises:
        MlipError: names every key that differs.
    """
    old = _flatten(read_recipe(folder.recipe).model_dump(mode="json"))
    new = _flatten(recipe.model_dump(mode="json"))
    may_change = _MAY_CHANGE | ({_EPOCHS} if epochs_may_differ else set())
    differing = [
        f"{'.'.join(key)} was {old.get(key)} and is now {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if key[0] != "out" and key not in may_change and old.get(key) != new.get(key)
    ]
    if differing:
        raise MlipError(
            f"{', '.join(differing)}: not the same run",
            where=str(folder.recipe),
            fix="resume with the recipe as it was, or set out=ANOTHER",
        )


def check_same_store(recipe: Recipe, folder: RunFolder, fingerprint: str) -> None:
    """Check the content of the store, which may have been moved: the position of the loader and the reference energies
    are valid only for the same content.

    Raises:
        MlipError: the content differs from that of the run in the folder.
    """
    path = folder.store_fingerprint
    old = path.read_text().strip() if path.exists() else "unknown"
    if old != fingerprint:
        raise MlipError(
            f"not the store of this run: its content had the fingerprint {old} and now has {fingerprint}",
            where=str(recipe.data.stores[0]),
            fix="resume with the store as it was, or set out=ANOTHER",
        )


def _flatten(values: dict[str, Any], prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in values.items():
        here = (*prefix, key)
        flat |= _flatten(value, here) if isinstance(value, dict) else {here: value}
    return flat
