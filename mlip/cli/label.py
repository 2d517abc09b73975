"""`mlip data label`: relax structures with an ASE calculator, and write the relaxation paths."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlip.errors import MlipError

if TYPE_CHECKING:
    from ase.calculators.calculator import BaseCalculator

    from mlip.data.labeling import LabelSummary


def label(
    structures: Annotated[list[Path], typer.Argument(help="Files that ase.io.iread reads.")],
    calculator: Annotated[
        str,
        typer.Option(help="'chgnet', a potential of mlip (a path or a name), or module:factory of an ASE calculator."),
    ],
    out: Annotated[Path, typer.Option(help="Relaxation paths in ALEXANDRIA's layout, .json or .json.bz2.")],
    steps: Annotated[int, typer.Option(min=0, help="Maximum number of ionic steps.")] = 200,
    fmax: Annotated[float, typer.Option(min=0.0, help="Converged when all forces are below this, eV/A.")] = 0.05,
    dimensionality: Annotated[
        int | None,
        typer.Option(min=1, max=3, help="1: relax along a only, 2: in the ab plane. By default from its pbc."),
    ] = None,
    converged_only: Annotated[
        bool, typer.Option("--converged-only", help="Leave out paths that used up their steps.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if another command wrote it.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Relax structures with an ASE calculator and keep every step as training data.

    Each material is recorded in OUT.journal.jsonl as soon as it ends; if the command is killed, repeating it resumes.
    """
    if not out.name.endswith((".json", ".json.bz2")):
        raise MlipError("not a .json or .json.bz2 file", where=f"--out {out}")
    from mlip.data.labeling import LabelSettings, export_journal, read_structures
    from mlip.data.labeling import label as label_structures
    from mlip.files.output_paths import check_new
    from mlip.pretrained import declared_name

    calculator = declared_name(calculator)
    journal = out.with_name(f"{out.name}.journal.jsonl")
    check_new(out, force=force or journal.exists())
    queue = list(read_structures(structures))
    if not queue:
        raise MlipError("holds no structure", where=", ".join(map(str, structures)))
    settings = LabelSettings(calculator, steps, fmax, dimensionality)
    with _progress(len(queue), hidden=json_output) as advance:
        label_structures(queue, load_calculator(calculator), journal, settings, on_path=advance)
    summary = export_journal(journal, out, converged_only)
    _print_summary(out, summary, json_output)
    if not summary.n_exported:
        raise MlipError("no path is usable", where=str(out), fix=summary.first_error or "allow more --steps")


def load_calculator(name: str) -> "BaseCalculator":
    """The ASE calculator that `--calculator` names.

    Raises:
        MlipError: chgnet is not installed, there is no such file, module or factory, or a file is not a potential.
    """
    from mlip.pretrained.registry import is_known

    if name == "chgnet":
        return _load_chgnet()
    if Path(name).exists() or "://" in name or name.endswith(".safetensors") or is_known(name):
        from mlip.calculator import MLIPCalculator

        return MLIPCalculator(name)
    if ":" in name:
        return _call_factory(name)
    raise MlipError(
        f"'{name}' is no calculator",
        where="--calculator",
        fix="'chgnet', the path or the name of a potential, or module:factory, e.g. ase.calculators.emt:EMT",
    )


def _load_chgnet() -> "BaseCalculator":
    try:
        from chgnet.model import CHGNet, CHGNetCalculator
    except ImportError as error:
        raise MlipError(
            "chgnet is not installed", where="--calculator", fix="pip install 'alexandria-mlip[label]'"
        ) from error
    model = CHGNet.load(model_name="0.3.0", use_device="cpu", verbose=False)
    return CHGNetCalculator(model=model, use_device="cpu", on_isolated_atoms="error")


def _call_factory(name: str) -> "BaseCalculator":
    module, _, factory = name.partition(":")
    try:
        make = getattr(import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise MlipError(
            str(error), where=f"--calculator {name}", fix="module:factory, e.g. ase.calculators.emt:EMT"
        ) from error
    return make()


@contextmanager
def _progress(total: int, hidden: bool) -> Iterator[Callable[[str, str], None]]:
    """Context that gives the function to call as each material ends; the progress bar is on stderr."""
    from rich.progress import TextColumn

    from mlip.progress import count_bar

    with count_bar(not hidden, TextColumn("{task.fields[last]}")) as bar:
        task = bar.add_task("labeling", total=total, last="")
        yield lambda material_id, reason: bar.update(task, advance=1, last=f"{material_id}: {reason}")


def _print_summary(out: Path, summary: "LabelSummary", as_json: bool) -> None:
    if as_json:
        counts = {"materials": summary.n_exported, "frames": summary.n_frames, "reasons": summary.reasons}
        print(json.dumps({"out": str(out), **counts, "first_error": summary.first_error}))
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in summary.reasons.most_common())
    print(f"{out}: {summary.n_exported} materials, {summary.n_frames} frames ({reasons})")
    if summary.first_error:
        print(f"first error: {summary.first_error}")
