"""`mlip convert`: convert a published checkpoint to a potential file, or a potential to a model of another code."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    matgl = "matgl"
    mace = "mace"
    nequix = "nequix"


class Aggregate(StrEnum):
    center = "center"
    neighbor = "neighbor"


def convert(
    source: Annotated[
        Path, typer.Argument(help="A published checkpoint (folder or file); with --to or --head, a potential.")
    ],
    out: Annotated[
        Path,
        typer.Argument(help="The potential, OUT.safetensors; with --to, a new folder (matgl) or file."),
    ],
    to: Annotated[Format | None, typer.Option(help="Write the potential SOURCE in the format of this code.")] = None,
    functional: Annotated[
        str | None, typer.Option(help="Functional of SOURCE, such as PBE, if it is not stated there.")
    ] = None,
    aggregate: Annotated[
        Aggregate | None, typer.Option(help="matgl: the end of a bond that atom messages are added to.")
    ] = None,
    head: Annotated[str | None, typer.Option(help="Keep only this head of a potential that has several.")] = None,
    trust_pickle: Annotated[
        bool,
        typer.Option("--trust-pickle", help="Load a pickle file, which can run any code that it contains."),
    ] = False,
    element_vectors: Annotated[
        Path | None,
        typer.Option(help="cgat, alignn: JSON of the elements' vectors, such as matscholar-embedding.json."),
    ] = None,
    predicts: Annotated[
        str | None,
        typer.Option(
            help="cgat, crabnet, alignn: the property that it was trained on; cgat's is e_above_hull by default."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file OUT if it exists.")] = False,
) -> None:
    """Convert a published checkpoint to a potential (or a property model), or back."""
    from mlip.convert import convert as read_checkpoint
    from mlip.convert import export
    from mlip.errors import MlipError
    from mlip.files.output_paths import check_new
    from mlip.potential import Potential

    if to is not None:
        if functional or aggregate or trust_pickle or element_vectors or predicts:
            raise MlipError(
                "--functional, --aggregate, --trust-pickle, --element-vectors, --predicts say how to read a "
                "checkpoint; --to writes one"
            )
        potential = Potential.load(source, head=head)
        export(potential, to, out, force=force)
    else:
        if out.is_dir():
            raise MlipError("is a folder", where=str(out), fix="the potential is one file: OUT.safetensors")
        check_new(out, force=force)
        if head is not None and source.suffix == ".safetensors":
            potential = Potential.load(source)
        else:
            potential = read_checkpoint(source, functional, aggregate, trust_pickle, element_vectors, predicts)
        if head is not None:
            if not isinstance(potential, Potential):
                raise MlipError("has no heads: it is no potential", where=str(source))
            potential = potential.of_head(head)
        for note in potential.metadata.provenance.get("notes", []):
            print(f"note: {note}")
        potential.save(out)
    functional = potential.metadata.functional
    print(
        f"{out}: {potential.config.model}, {potential.n_parameters:,} parameters, {len(potential.elements)} elements, "
        + (f"heads {', '.join(heads)}, " if len(heads := getattr(potential, "heads", ())) > 1 else "")
        + (f"predicts {predicts}, " if (predicts := getattr(potential.metadata, "property", None)) else "")
        + ("functional unknown (--functional tells it)" if functional == "unknown" else functional)
    )
