"""Contents of a run folder: recipe, measured records, skipped steps, hard examples, the model."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mlip.data import Store
from mlip.errors import MlipError
from mlip.files.journal import read_journal
from mlip.training.hard_examples import HARD_EXAMPLES
from mlip.training.log import METRICS, read_metrics
from mlip.training.recipe import Recipe
from mlip.training.recipe_file import read_recipe
from mlip.training.run_folder import RunFolder, store_fingerprint
from mlip.training.task import Task, TrainedModel
from mlip.training.task_of_recipe import task_of

Record = dict[str, Any]


@dataclass(frozen=True)
class RunRecords:
    """Records of the run in `folder`, finished or not."""

    folder: RunFolder

    @cached_property
    def recipe_text(self) -> str:
        """The resolved recipe as YAML text."""
        return self.folder.recipe.read_text()

    @cached_property
    def recipe(self) -> Recipe:
        return read_recipe(self.folder.recipe)

    @cached_property
    def task(self) -> Task:
        return task_of(self.recipe)

    @cached_property
    def train(self) -> list[Record]:
        return read_metrics(self.folder.path, "train")

    @cached_property
    def validation(self) -> list[Record]:
        return read_metrics(self.folder.path, "validation")

    @cached_property
    def skipped(self) -> list[Record]:
        return read_metrics(self.folder.path, "skipped")

    @cached_property
    def hard_examples(self) -> list[Record]:
        """Steps with a spike of the loss, and the frames that caused it."""
        path = self.folder.path / HARD_EXAMPLES
        return list(read_journal(path)) if path.exists() else []

    @cached_property
    def model(self) -> TrainedModel | None:
        """The exported model; None until the run has ended."""
        return self.task.load(self.folder.path / self.task.file_name) if self.has_ended else None

    @property
    def has_ended(self) -> bool:
        """Whether the run has exported its model."""
        return (self.folder.path / self.task.file_name).exists()

    @cached_property
    def exported_validation(self) -> Record | None:
        """Validation record of the exported state. For an unfinished run, or an exported average without its own
        record, the last one with a loss; None if there is none."""
        step = None if self.model is None else self.model.metadata.provenance.get("step")
        known = {record["step"]: record for record in self.validation if record["loss"] is not None}
        return known.get(step, next(reversed(known.values()), None))

    @property
    def last_step(self) -> int:
        return max((record["step"] for record in (*self.train, *self.validation)), default=0)

    def open_store(self, path: Path | None = None) -> Store:
        """Store of the run, at the location in its recipe or at `path`.

        Raises:
            MlipError: the store does not exist or has other content.
        """
        paths = self.recipe.data.stores if path is None else (path,)
        for path in paths:
            if not path.exists():
                raise MlipError("the run's store is not here", where=str(path), fix="say where it is: --store PATH")
        store = Store(*paths)
        known = self.folder.store_fingerprint
        if known.exists() and known.read_text().strip() != store_fingerprint(store):
            store.close()
            where = ", ".join(map(str, paths))
            raise MlipError("not the store of this run: its content is another", where=where, fix="--store PATH")
        return store


def open_run(path: Path) -> RunRecords:
    """Open the records of the run in a folder.

    Raises:
        MlipError: the folder holds no run.
    """
    folder = RunFolder(path)
    if not (folder.recipe.exists() and (path / METRICS).exists()):
        raise MlipError("holds no run", where=str(path), fix="give the folder that `mlip train` wrote (out=)")
    return RunRecords(folder)
