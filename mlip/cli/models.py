"""`mlip models`: the potentials that are known by name; `mlip fetch`: one of them into the cache."""

import json
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlip.pretrained import PretrainedEntry

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def models(
    name: Annotated[str | None, typer.Argument(help="Tell all of this one, and how to cite it.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the published potentials that go by name, or tell all of one.

    Every command and function that takes a potential's file takes such a name.
    """
    from mlip.pretrained import find, known

    if name is not None:
        entry = find(name)
        print(json.dumps(facts(entry), indent=1)) if as_json else _print_one(entry)
        return
    entries = list(known().values())
    print(json.dumps([facts(entry) for entry in entries], indent=1)) if as_json else _print_table(entries)


def fetch(
    names: Annotated[list[str], typer.Argument(help="Names that `mlip models` lists.")],
    as_json: AsJson = False,
) -> None:
    """Fetch published potentials into the cache, checked and converted, such as for a machine without a network.

    What is there already is not fetched again. One that cannot be had does not stop the others.
    """
    from mlip.errors import MlipError
    from mlip.pretrained import find

    entries = [find(name) for name in names]
    paths, errors = {}, {}
    for entry in entries:
        try:
            paths[entry.name] = str(_obtain_with_progress(entry.name, hidden=as_json))
        except MlipError as error:
            errors[entry.name] = error
        else:
            if not as_json:
                print(f"{entry.name}: {paths[entry.name]}")
    if as_json:
        print(json.dumps({"files": paths, "errors": {name: str(error) for name, error in errors.items()}}))
    if errors:
        first = next(iter(errors.values()))
        others = f"; and {len(errors) - 1} more of {len(entries)}" if len(errors) > 1 else ""
        raise MlipError(f"{first.what}{others}", where=first.where, fix=first.fix)


def facts(entry: "PretrainedEntry") -> dict:
    """Facts about a potential, for JSON."""
    from mlip.pretrained import default_potential
    from mlip.pretrained.obtaining import converted_file

    return {
        **entry.model_dump(mode="json"),
        "state": state_of(entry),
        "bytes": entry.bytes,
        "is_default": entry.name == default_potential(),
        "file": str(converted_file(entry)),
        "license_text": entry.license.text,
    }


def state_of(entry: "PretrainedEntry") -> str:
    """As `PretrainedEntry.state`; "in the cache" if it is there."""
    from mlip.pretrained.obtaining import converted_file

    return "in the cache" if entry.converter and converted_file(entry).is_file() else entry.state


def _print_table(entries: "list[PretrainedEntry]") -> None:
    from mlip.pretrained import default_potential

    header = ("", "family", "functional", "elements", "parameters", "MB", "license", "state")
    rows = [
        (
            f"{entry.name} *" if entry.name == default_potential() else entry.name,
            entry.family,
            f"{entry.functional}{' (+U)' if entry.hubbard_u else ''}",
            str(entry.elements or ""),
            f"{entry.parameters:,}" if entry.parameters else "",
            f"{entry.bytes / 1e6:.1f}" if entry.bytes else "",
            entry.license.id.removeprefix("LicenseRef-"),
            state_of(entry),
        )
        for entry in entries
    ]
    # Lines as long as they need be: a table in a narrow terminal would break the names that are to be typed.
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = (
            cell.rjust(w) if k in _NUMBERS else cell.ljust(w)
            for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
    print("\n* is used where none is given; `mlip models NAME` tells all of one")
    print("ready: fetched and converted on first use; by hand: nobody has published its checksum")
    print("not readable yet: its network is not implemented here, but it runs in ASE")


_NUMBERS = (3, 4, 5)


def _print_one(entry: "PretrainedEntry") -> None:
    print(entry.title)
    rows = list(_rows(entry))
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        # Addresses and checksums are to be copied: never broken.
        first, *others = textwrap.wrap(value, 118 - width, break_long_words=False, break_on_hyphens=False)
        print(f"  {key:{width}}  {first}")
        for line in others:
            print(f"  {'':{width}}  {line}")


def _rows(entry: "PretrainedEntry") -> "Iterator[tuple[str, str]]":
    from mlip.pretrained.obtaining import converted_file

    unknown = "not published"
    yield "name", ", ".join(entry.names)
    yield "family", entry.family
    yield "functional", entry.functional
    yield "+U", entry.hubbard_u or "none"
    yield "dispersion", entry.dispersion or "none"
    yield "elements", str(entry.elements or unknown)
    yield "trained on", entry.training_data
    yield "parameters", f"{entry.parameters:,}" if entry.parameters else unknown
    yield "cite", ", ".join(entry.citation)
    yield "license", f"{entry.license.id}, {entry.license.url}"
    yield "passing on", entry.license.redistribution
    if entry.license.text:
        yield "terms", entry.license.text.strip()
    for errors in entry.errors:
        yield f"errors on {errors.data}", _errors(errors.model_dump())
    if entry.note:
        yield "note", entry.note
    yield "homepage", entry.source.homepage
    for file in entry.source.files:
        size = f"{file.bytes:,} bytes" if file.bytes else "size not published"
        yield "file", f"{(*file.urls, file.path)[0]}, {size}, sha256 {file.sha256 or unknown}"
    yield "state", state_of(entry)
    yield from _how(entry)
    if state_of(entry) == "in the cache":
        yield "cache", str(converted_file(entry))


def _how(entry: "PretrainedEntry") -> "Iterator[tuple[str, str]]":
    from mlip.pretrained.obtaining import command_for

    if entry.state == "by hand":
        yield "how", f"put the files into a folder, then: {command_for(entry, 'FOLDER')}"
    if entry.ase:
        yield "in ASE", entry.ase


_UNITS = {
    "energy": ("energy", "meV/atom"),
    "forces": ("forces", "eV/A"),
    "stress": ("stress", "GPa"),
    "relaxed_volume": ("volume after relaxation", "A^3/atom"),
    "relaxed_energy": ("energy after relaxation", "meV/atom"),
}


def _errors(values: dict) -> str:
    known = [f"{name} {values[key]:g} {unit}" for key, (name, unit) in _UNITS.items() if values[key] is not None]
    return f"{', '.join(known)} (mean absolute, {values['materials']:,} materials)"


def _obtain_with_progress(name: str, hidden: bool) -> "Path":
    from mlip.pretrained import obtain
    from mlip.progress import bytes_bar

    with bytes_bar(not hidden) as bar:
        task = bar.add_task(name, total=None)
        return obtain(
            name,
            on_bytes=lambda done, total: bar.update(task, completed=done, total=total),
            tell=lambda line: bar.console.print(f"mlip: {line}", highlight=False, markup=False, soft_wrap=True),
        )
