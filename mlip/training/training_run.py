"""A training run in Python and notebooks: its model, its records as a table, its learning curves."""

import base64
from html import escape
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from mlip.errors import MlipError
from mlip.report.picture import picture_of
from mlip.training.quantity import Record, describe
from mlip.training.report.curves import curve_charts, curves_of
from mlip.training.report.run_records import RunRecords, open_run

if TYPE_CHECKING:
    from pandas import DataFrame

    from mlip.potential import Potential
    from mlip.property_model import PropertyModel

_DOTS_PER_INCH = 100


class TrainingRun(PathLike[str]):
    """A run, finished or not, identified by its folder; returned by `mlip.train`. Notebooks show its curves and
    errors::

        run = mlip.train("quickstart", data={"store": "mine.h5"}, out="runs/first")
        potential = run.load()  # same as mlip.load(run): a run can replace a model's path
        run.to_dataframe()

    Args:
        folder: the folder that `mlip train` wrote (out=).

    Raises:
        MlipError: the folder holds no run.
    """

    def __init__(self, folder: str | PathLike[str]):
        self.folder = Path(folder)
        """The run folder."""
        self._open()

    @property
    def path(self) -> Path:
        """Path of the model's file, which exists once the run has ended."""
        return self.folder / self._open().task.file_name

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def load(self) -> "Potential | PropertyModel":
        """The trained model.

        Raises:
            MlipError: the run has not ended.
        """
        model = self._open().model
        if model is None:
            fix = f"`mlip export {self.folder}` gives the best state so far; go on with resume=True"
            raise MlipError("the run has not ended", where=str(self.folder), fix=fix)
        return model  # type: ignore[return-value]  # a task's models are of one of these two

    def to_dataframe(self, kind: str = "validation") -> "DataFrame":
        """Table with a row for each record: step, loss and its parts, and mean absolute errors (`energy_mae` in
        meV/atom, `forces_mae` in eV/A, `stress_mae` in GPa, or of a property in its unit).

        Args:
            kind: "validation" for one record per validation, or "train", which includes the speed.
        """
        from pandas import DataFrame

        return DataFrame({"validation": self._open().validation, "train": self._open().train}[kind])

    def __repr__(self) -> str:
        run = self._open()
        return f"TrainingRun({self.folder}, model: {run.recipe.model.model}, {_state(run)}{_told(run)})"

    def _repr_html_(self) -> str:
        run = self._open()
        title = f"{run.recipe.model.model}: {self.folder}, {_state(run)}"
        return f"{_errors_table(run, title)}{_curves(run)}"

    def _open(self) -> RunRecords:
        """Current records; the run may be active."""
        return open_run(self.folder)


def _state(run: RunRecords) -> str:
    epochs = run.recipe.train.epochs
    if run.has_ended:
        return f"{run.last_step:,} steps"
    done = run.validation[-1]["epoch"] if run.validation else 0
    return f"has not ended: {run.last_step:,} steps, {done} of {epochs} epochs"


def _told(run: RunRecords) -> str:
    record = run.exported_validation
    return "" if record is None else f", validation: {describe(record, run.task.quantities).replace('  ', ', ')}"


def _errors_table(run: RunRecords, title: str) -> str:
    quantities = run.task.quantities
    headings = ("", "step", "loss", *(f"{one.word} MAE" + (f", {one.unit}" if one.unit else "") for one in quantities))
    records = {"training": run.train[-1] if run.train else None, "validation": run.exported_validation}
    rows = []
    for name, record in records.items():
        if record is not None:
            errors = "".join(f"<td>{one.text(record)}</td>" for one in quantities)
            rows.append(f"<tr><th>{name}</th><td>{record['step']:,}</td><td>{_loss(record)}</td>{errors}</tr>")
    header = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    return f"<table><caption>{escape(title)}</caption><tr>{header}</tr>{''.join(rows)}</table>"


def _loss(record: Record) -> str:
    return "-" if record["loss"] is None else f"{record['loss']:.4g}"


def _curves(run: RunRecords) -> str:
    charts = curve_charts(run.train, run.validation, curves_of(run.task.quantities), is_log=True)
    if not charts:
        return ""
    picture = BytesIO()
    picture_of(charts).savefig(picture, format="png", dpi=_DOTS_PER_INCH)
    data = base64.b64encode(picture.getvalue()).decode()
    return f'<img alt="learning curves" style="max-width:100%" src="data:image/png;base64,{data}">'
