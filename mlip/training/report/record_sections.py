"""Sections of a run's report from its own records: summary, learning curves, speed, and problematic steps."""

import html
import statistics
from collections.abc import Sequence
from typing import Any

from mlip.report.chart import side_by_side
from mlip.report.pieces import facts, table, tabs
from mlip.training.report.curves import Curves, curve_charts, curves_of
from mlip.training.report.run_records import Record, RunRecords

_LISTED = 20  # number of steps in a table
_NAMED = 5  # number of materials per step

_HEALTH: Curves = {
    "learning_rate": "learning rate",
    "structures_per_second": "structures per second",
    "gradient_norm": "norm of the gradient, before clipping",
}


def summary_section(run: RunRecords) -> str:
    """Summary of the model, the data, and the progress of the run."""
    recipe, train = run.recipe, run.recipe.train
    known = {
        "model": recipe.model.model,
        "reads": recipe.model.inputs.describe(),
        "store": ", ".join(map(str, recipe.data.stores)),
        "epochs": f"{train.epochs}, batches of {train.batch_size}",
        "learning rate": f"{train.learning_rate:g}",
        "steps done": f"{run.last_step:,}",
    }
    if run.model is not None:
        metadata = run.model.metadata
        known |= {
            "parameters": f"{run.model.n_parameters:,}",
            "elements": str(len(run.model.elements)),
            "functional": metadata.functional,
            "training frames": _count(metadata.provenance.get("training_frames")),
            "exported": f"the state after step {_count(metadata.provenance.get('step'))}",
        }
    validation = run.exported_validation
    known["validation loss"] = "none" if validation is None else f"{validation['loss']:.4g}"
    return _warnings(run) + facts(known)


def _warnings(run: RunRecords) -> str:
    said = []
    noun = run.task.noun
    if run.model is None:
        said.append(f"The run has not ended: there is no {noun} yet, and so nothing is said of its errors.")
    elif note := run.model.metadata.provenance.get("note"):
        said.append(f"The {noun} was {note}.")
    return "".join(f"<p class='warning'>{html.escape(text)}</p>" for text in said)


def learning_curves(run: RunRecords) -> str:
    """Losses and errors of training and validation against the step, on logarithmic axes. A loss with negative values,
    as with an uncertainty, has a linear axis."""
    curves = curves_of(run.task.quantities)
    panels = {
        "linear in steps": _charts(run, curves, is_log=True),
        "logarithmic in steps": _charts(run, curves, is_log=True, is_log_step=True),
    }
    note = "Validation is of the averaged parameters where the recipe has an average, training of the moving ones."
    return tabs("steps", panels) + f"<p class='note'>{note}</p>"


def health_section(run: RunRecords) -> str:
    """Speed, time waiting for data, padding, compilations, and skipped steps."""
    if not run.train:
        return "<p class='note'>no record yet</p>"
    last = run.train[-1]
    known = {
        "structures per second, median": f"{_median(run.train, 'structures_per_second'):,.0f}",
        "waiting for data, median": f"{_median(run.train, 'data_wait_share'):.1%}",
        "padding, median": f"{_median(run.train, 'padded_fraction'):.0%}",
        "shapes compiled": _count(last.get("compiled_shapes")),
        "compilation (of the last start)": f"{last.get('compilation_seconds', float('nan')):.1f} s",
        "steps skipped as not finite": f"{len(run.skipped):,}",
    }
    charts = _charts(run, _HEALTH)
    return facts(known) + charts + _skipped_table(run.skipped)


def hard_examples_section(run: RunRecords) -> str:
    """Table of the largest spikes of the loss; empty if there were none."""
    if not run.hard_examples:
        return ""
    worst = sorted(run.hard_examples, key=lambda record: -record["loss"] / record["usual_loss"])[:_LISTED]
    rows = [
        (
            f"{record['step']:,}",
            f"{record['loss']:.3g}",
            f"{record['usual_loss']:.3g}",
            ", ".join(
                f"{html.escape(material)} ({share:.0%})"
                for material, share in zip(record["materials"][:_NAMED], record["shares"], strict=False)
            ),
        )
        for record in worst
    ]
    columns = ("step", "loss", "usual loss", "frames that made it, and their shares")
    caption = f"Steps whose loss jumped ({len(rows)} of {len(run.hard_examples)})"
    note = "Wrong labels are the usual reason; all are in hard_examples.jsonl of the run folder."
    return table(caption, columns, rows, text_columns=columns[-1:], notes=[note])


def _skipped_table(skipped: Sequence[Record]) -> str:
    if not skipped:
        return ""
    rows = [(f"{r['step']:,}", html.escape(_some(r.get("materials", [])))) for r in skipped[:_LISTED]]
    columns = ("step", "suspects")
    return table(f"Skipped steps ({len(rows)} of {len(skipped)})", columns, rows, text_columns=columns[-1:])


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _charts(run: RunRecords, curves: Curves, **scales: bool) -> str:
    return side_by_side(curve_charts(run.train, run.validation, curves, guides=_stages(run), **scales))


def _stages(run: RunRecords) -> dict[str, float]:
    """The step at which stage one ended, if it has ended."""
    stage_two = run.recipe.stage_two
    if not (stage_two and run.validation):
        return {}
    steps_per_epoch = run.validation[0]["step"] / run.validation[0]["epoch"]
    end = steps_per_epoch * stage_two.after_epoch
    return {"stage one": end} if end < run.last_step else {}


def _values(records: Sequence[Record], key: str) -> list[float]:
    return [record[key] for record in records if record.get(key) is not None]


def _median(records: Sequence[Record], key: str) -> float:
    return statistics.median(_values(records, key) or [float("nan")])


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "not known"
