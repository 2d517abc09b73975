"""`mlip evaluate` and `mlip predict`: errors of a model's predictions on labeled data, and predicted properties."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlip.cli import options
from mlip.cli.output import console, print_table
from mlip.errors import MlipError

if TYPE_CHECKING:
    from mlip.evaluation.property_errors import PropertyErrors

_WORST_ELEMENTS = 10
_SHOWN = 50


def evaluate(
    potential: Annotated[
        str,
        typer.Argument(
            help="A potential or a property model (.safetensors, or a name; `default` is the default potential), or a"
            " calculator of ASE: ase:MODULE:CLASS?key=value, which evaluates structures one by one."
        ),
    ],
    data: Annotated[Path, typer.Argument(help="A store; for a potential also any file that `mlip data build` reads.")],
    split: Annotated[
        str | None, typer.Option(help="Split of a store: train, val or test. Default: all frames.")
    ] = None,
    functional: Annotated[
        str | None,
        typer.Option(
            help="Functional of a file that does not state it; of a store, use only the frames of this functional."
        ),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(help="Names of labels in the file that differ from ASE's: energy=REF_energy,forces=..."),
    ] = None,
    head: Annotated[str | None, typer.Option(help="Head of a potential that has several.")] = None,
    dtype: options.Dtype = None,
    elements: Annotated[
        bool, typer.Option("--elements", help="Show every element, not only the ten with the largest errors.")
    ] = False,
    allow_functional_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-functional-mismatch", help="Compare with labels of another functional; the table says so."
        ),
    ] = False,
    predictions: Annotated[
        Path | None, typer.Option(help="Write each material's predicted property and uncertainty to this CSV.")
    ] = None,
    as_json: options.TableAsJson = False,
) -> None:
    """Compare a potential, or a property model, with labels.

    Errors of energies, forces and stresses are shown beside those of trivial predictors: reference energies only (E0
    only), no forces (F = 0), no stress (S = 0). Errors of a property model are shown beside those of the best constant.
    """
    from mlip.data.readers.labels import parsed_keys
    from mlip.evaluation.error_tables import error_tables
    from mlip.evaluation.evaluate import evaluate_path
    from mlip.foreign import foreign_name
    from mlip.potential import open_evaluator, open_potential
    from mlip.pretrained import declared_name
    from mlip.property_model import is_property_model
    from mlip.runtime import jax_facts

    potential = declared_name(potential)
    if foreign_name(potential) is None and is_property_model(potential):
        if functional is not None or head is not None:
            raise MlipError("--functional and --head are for potentials", where=str(potential))
        path = Path(potential)
        _property_model(
            path, data, split, dtype or "float32", predictions, elements, as_json, allow_functional_mismatch
        )
        return
    if predictions is not None:
        raise MlipError("--predictions is for property models", where=str(potential), fix="mlip data relabel")
    errors = evaluate_path(
        open_potential(potential, head) if head else open_evaluator(potential),
        data,
        split=split,
        functional=functional,
        keys=parsed_keys(keys),
        dtype=dtype,
        allow_functional_mismatch=allow_functional_mismatch,
    )
    if as_json:
        typer.echo(json.dumps({**errors.as_json(), "jax": jax_facts()}))
    else:
        name = f"{potential} ({head})" if head else potential
        title = f"{name} on {data}" + (f", {split}" if split else "")
        console().print(*error_tables(errors, title, all_elements=elements))


def _property_model(
    path: Path,
    data: Path,
    split: str | None,
    dtype: str,
    predictions: Path | None,
    all_elements: bool,
    as_json: bool,
    allowed: bool,
) -> None:
    from mlip.data import Store
    from mlip.data.shard import is_store
    from mlip.evaluation.property_errors import evaluate_property, write_predictions
    from mlip.property_model import PropertyModel
    from mlip.runtime import jax_facts

    model = PropertyModel.load(path)
    name = model.metadata.property
    if not is_store(data):
        raise MlipError("a property model is evaluated on a store", where=str(data), fix="mlip data build")
    with Store(data) as store:
        errors = evaluate_property(model, store, split, dtype=dtype, allow_functional_mismatch=allowed)
    if not errors.ids:
        why = "".join(f"; {count} left out: {reason}" for reason, count in errors.left_out.items())
        raise MlipError(f"no material with {name} to compare with{why}", where=str(data))
    if predictions is not None:
        write_predictions(errors, predictions)
    if as_json:
        typer.echo(json.dumps({"property": name, **errors.as_json(), "jax": jax_facts()}))
    else:
        _print_property(errors, f"{name} of {path} on {data}" + (f", {split}" if split else ""), all_elements)


def _print_property(errors: "PropertyErrors", title: str, all_elements: bool) -> None:

    out = console()
    row = (f"{len(errors.ids):,}", errors.mae, errors.rmse, errors.median, errors.mae_of_median)
    print_table(out, title, ("materials", "MAE", "RMSE", "median error", "best constant"), [row])
    if errors.knows_uncertainty:
        mean, share = errors.uncertainties.mean(), errors.within_uncertainty
        out.print(f"uncertainty: mean {mean:.4g}; {share:.0%} of the errors are within it", highlight=False)
    worst = sorted(errors.of_elements.items(), key=lambda item: -item[1][1])
    shown = worst if all_elements else worst[:_WORST_ELEMENTS]
    which = "" if len(shown) == len(worst) else f": the {len(shown)} of {len(worst)} with the largest (all: --elements)"
    print_table(out, f"By element{which}", ("", "materials", "MAE"), [(symbol, *known) for symbol, known in shown])
    if errors.functional_note:
        out.print(errors.functional_note, highlight=False, markup=False)
    for reason, count in errors.left_out.items():
        out.print(f"{count} left out: {reason}", highlight=False, markup=False)


def predict(
    model: Annotated[Path, typer.Argument(help="A property model (.safetensors).")],
    materials: Annotated[
        list[str],
        typer.Argument(metavar="MATERIALS...", help="Formulas (Fe2O3), CSVs with a column of formulas, or stores."),
    ],
    out: Annotated[Path | None, typer.Option(help="Write a CSV file instead of printing a table.")] = None,
    dtype: options.ModelDtype = "float32",
    force: Annotated[bool, typer.Option("--force", help="Replace the CSV if it exists.")] = False,
) -> None:
    """Predict a property, with its uncertainty if the model has learned one.

    Exit status 1 if some material has no prediction; its row gives the reason.
    """
    from mlip.evaluation.property_predictions import predictions, write_predictions
    from mlip.files.output_paths import check_new
    from mlip.property_model import PropertyModel

    if out is not None:
        check_new(out, force=force)
    loaded = PropertyModel.load(model)
    found = predictions(loaded, materials, dtype)
    if out is not None:
        write_predictions(found, out)
    else:
        rows = [
            (one.name, *(None if number != number else number for number in (one.value, one.uncertainty)), one.reason)
            for one in found[:_SHOWN]
        ]
        print_table(console(), loaded.metadata.property, ("", "predicted", "uncertainty", ""), rows)
    n_failed = sum(bool(one.reason) for one in found)
    more = f", of which {_SHOWN} are shown" if out is None and len(found) > _SHOWN else ""
    typer.echo(f"{len(found):,} materials{more}; {n_failed:,} without a prediction" + (f": {out}" if out else ""))
    if n_failed:
        raise typer.Exit(1)
