"""`mlip evaluate`: errors of a potential on labeled frames, or of a property model on labeled materials."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mlip.errors import MlipError

if TYPE_CHECKING:
    from mlip.evaluation.property_errors import PropertyErrors

_WORST_ELEMENTS = 10


def evaluate(
    potential: str = typer.Argument(
        help="A potential or a property model (.safetensors, or a name; `default` is the default potential), or a"
        " calculator of ASE: ase:MODULE:CLASS?key=value, which evaluates structures one by one."
    ),
    data: Path = typer.Argument(help="A store; for a potential also any file that `mlip data build` reads."),
    split: str = typer.Option(None, "--split", help="Split of a store: train, val or test. Default: all frames."),
    functional: str = typer.Option(
        None,
        "--functional",
        help="Functional of a file that does not state it; of a store, use only the frames of this functional.",
    ),
    keys: str = typer.Option(
        None, "--keys", help="Names of labels in the file that differ from ASE's: energy=REF_energy,forces=..."
    ),
    head: str = typer.Option(None, "--head", help="Head of a potential that has several."),
    dtype: str = typer.Option(None, "--dtype", help="float32 (default) or float64; a calculator of ASE has its own."),
    elements: bool = typer.Option(
        False, "--elements", help="Show every element, not only the ten with the largest errors."
    ),
    allow_functional_mismatch: bool = typer.Option(
        False, "--allow-functional-mismatch", help="Compare with labels of another functional; the table says so."
    ),
    predictions: Path = typer.Option(
        None, "--predictions", help="Write each material's predicted property and uncertainty to this CSV."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of the table."),
) -> None:
    """Compare a potential, or a property model, with labels.

    Errors of energies, forces and stresses are shown beside those of trivial predictors: reference energies only (E0
    only), no forces (F = 0), no stress (S = 0). Errors of a property model are shown beside those of the best constant.
    """
    from mlip.cli.tables import console
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
        _print(errors, f"{name} of {path} on {data}" + (f", {split}" if split else ""), all_elements)


def _print(errors: "PropertyErrors", title: str, all_elements: bool) -> None:
    from mlip.cli.tables import console, print_table

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
