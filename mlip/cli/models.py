"""`mlip models`: list the potentials that have names; `mlip fetch`: download some of them to the cache."""

import json
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from mlip.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlip.pretrained import PretrainedEntry
    from mlip.pretrained.entry import ModelCard


def models(
    name: Annotated[str | None, typer.Argument(help="Show all details of this potential, and how to cite it.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the potentials that have names, or show the card of one.

    Commands and functions that take a potential's file also take these names; `default` is the potential that is used
    if none is given.
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
    as_json: options.AsJson = False,
) -> None:
    """Download published potentials to the cache, for instance before a job on nodes without a network.

    Potentials that are in the cache, or included in mlip, are not downloaded. If one fails, the others are still
    fetched.
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
                nothing = " came with mlip, there is nothing to fetch" if entry.source.bundled else ""
                print(f"{entry.name}:{nothing} {paths[entry.name]}")
    if as_json:
        told = {name: str(error) for name, error in errors.items()}
        bundled = [entry.name for entry in entries if entry.source.bundled]
        print(json.dumps({"files": paths, "errors": told, "in_mlip": bundled}))
    if errors:
        first = next(iter(errors.values()))
        others = f"; and {len(errors) - 1} more of {len(entries)}" if len(errors) > 1 else ""
        raise MlipError(f"{first.what}{others}", where=first.where, fix=first.fix)


def facts(entry: "PretrainedEntry") -> dict:
    """JSON-serializable facts about a potential."""
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
    """State of a potential: "in the cache" if it is there, else `PretrainedEntry.state`."""
    from mlip.pretrained.obtaining import converted_file

    is_cached = entry.converter is not None and not entry.source.bundled and converted_file(entry).is_file()
    return "in the cache" if is_cached else entry.state


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
    # Full line lengths: a table that fits a narrow terminal would break the names that users type.
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = (
            cell.rjust(w) if k in _NUMBERS else cell.ljust(w)
            for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
    print("\n* is used where none is given, and also called default; `mlip models NAME` tells all of one")
    print("in mlip: came with it, nothing is fetched")
    print("ready: fetched and converted on first use; by hand: nobody has published its checksum")
    print("not readable yet: its network is not implemented here, but it runs in ASE")


_NUMBERS = (3, 4, 5)


def _print_one(entry: "PretrainedEntry") -> None:
    print(entry.title)
    rows = list(_rows(entry))
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        # Never break addresses and checksums, which users copy.
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
        yield f"errors on {errors.data}", str(errors)
    if entry.card:
        yield from _card(entry.card)
    if entry.note:
        yield "note", entry.note
    yield "homepage", entry.source.homepage
    for file in entry.source.files:
        place = (*file.urls, file.path or str(converted_file(entry)))[0]
        size = f"{file.bytes:,} bytes" if file.bytes else "size not published"
        yield "file", f"{place}, {size}, sha256 {file.sha256 or unknown}"
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


def _card(card: "ModelCard") -> "Iterator[tuple[str, str]]":
    from mlip.pretrained.entry import FEW_FRAMES

    if card.teacher:
        yield "teacher", f"{card.teacher} (mlip models {card.teacher})"
    for source in card.learned_from:
        frames = f", {source.frames:,} frames" if source.frames else ""
        yield "learned from", f"{source.what}{frames}; {source.license}; cite {', '.join(source.citation)}"
    for warning in card.warnings:
        yield "not for", warning
    frames = card.frames_by_element
    if rare := card.rare_elements:
        told = ", ".join(f"{symbol} ({frames[symbol]})" for symbol in rare)
        yield "hardly knows", f"elements with fewer than {FEW_FRAMES} training frames: {told}"
    yield "frames", ", ".join(f"{symbol} {count:,}" for symbol, count in frames.items())
    yield "made by", card.made_by


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
