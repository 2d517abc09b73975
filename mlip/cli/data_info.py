"""`mlip data info`: contents of a store and how it was built; or the frames of a source that a cutoff would keep."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlip.cli import options
from mlip.cli.output import console, print_rows, print_table
from mlip.errors import MlipError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlip.data.records import Skipped, Trajectory
    from mlip.data.store_summary import StoreSummary
    from mlip.data.subsample_study import CutoffResult

_NAMED = 10
"""Maximum number of skipped materials that are printed by name."""

_BUILD_COUNTS = (("Sets (materials)", "sets"), ("Frames by split", "frames_kept"), ("Frames with", "labels"))


def info(
    source: Annotated[
        Path, typer.Argument(help="A store, file or folder; with --subsample also any source of a store.")
    ],
    subsample: Annotated[
        str | None, typer.Option(help="Count the frames that each of these cutoffs, eV, would keep: 0,0.001,0.01,inf.")
    ] = None,
    per_atom: Annotated[
        bool, typer.Option("--per-atom/--per-cell", help="The cutoffs' unit: eV/atom or eV per cell.")
    ] = True,
    functional: Annotated[str | None, typer.Option(help="Functional of a source whose names do not state it.")] = None,
    cutoff: Annotated[float, typer.Option(help="Cutoff within which neighbors are counted, A.")] = 5.0,
    properties: Annotated[
        str | None, typer.Option(help="Show properties of the materials: e_form,volume_per_atom,... or all.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Write a figure here: elements of a store, with --properties their distributions, with --subsample "
            "frames kept against the cutoff."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the figure if it exists.")] = False,
    as_json: options.TablesAsJson = False,
) -> None:
    """Show the contents of a store, how it was built, and statistics of its frames; or the frames that cutoffs would
    keep.

    Statistics are computed once, and saved beside the store with its fingerprint.
    """
    if plot is not None:
        from mlip.files.output_paths import check_new

        check_new(plot, force=force)
    if subsample is not None:
        _study(source, _cutoffs(subsample), per_atom, functional, plot, as_json)
        return
    if properties is not None:
        _properties(source, properties, plot, as_json)
        return
    from mlip.data.store import Store
    from mlip.data.store_summary import summary_of

    with Store(source) as opened:
        counts = {"materials": opened.n_materials, "frames": opened.n_frames, "atoms": opened.n_atoms}
        metadata = {shard.path.name: shard.metadata for shard in opened.shards}
        summary = summary_of(opened, cutoff)
    if plot:
        from mlip.files.output_paths import make_folder
        from mlip.report.store_figures import plot_elements

        make_folder(plot.parent)
        plot_elements(summary.frames_with_element, plot, f"{source.name}: {counts['frames']:,} frames")
    if as_json:
        import json
        from dataclasses import asdict

        about = {"counts": counts, "shards": metadata, "empty_splits": _empty_splits(metadata)}
        print(json.dumps({"store": str(source), **about, "statistics": asdict(summary)}))
        return
    _print_store(source, counts, metadata)
    _print_summary(summary)


def _properties(source: Path, names: str, plot: Path | None, as_json: bool) -> None:
    """Print number, mean, standard deviation and range of each property, and plot their distributions."""
    from mlip.data.properties import UNITS, known_properties, values_of
    from mlip.data.store import Store

    with Store(source) as opened:
        known = known_properties(opened)
        wanted = known if names == "all" else names.split(",")
        found = values_of(opened, wanted)
    if missing := [name for name in wanted if names != "all" and not len(found[name])]:
        raise MlipError(f"no material has {missing[0]!r}", where=str(source), fix=f"known: {', '.join(known)}")
    values = {name: of_one for name, of_one in found.items() if len(of_one)}
    if not values:
        raise MlipError("no material has a property that is a number", where=str(source))
    if plot:
        from mlip.files.output_paths import make_folder
        from mlip.report.store_figures import plot_distributions

        make_folder(plot.parent)
        plot_distributions(values, plot, source.name)
    rows = {
        name: {
            "materials": len(x),
            "mean": float(x.mean()),
            "standard_deviation": float(x.std()),
            "least": float(x.min()),
            "largest": float(x.max()),
        }
        for name, x in values.items()
    }
    if as_json:
        import json

        print(json.dumps({"store": str(source), "properties": rows}))
        return
    header = ("", "unit", "materials", "mean", "std", "least", "largest")
    table = [(name, UNITS.get(name, ""), *row.values()) for name, row in rows.items()]
    print_table(console(), f"Properties of the materials of {source}", header, table)


def _print_store(source: Path, counts: dict[str, int], metadata: dict[str, dict]) -> None:
    screen = console()
    print_rows(screen, str(source), counts.items())
    for title, key in _BUILD_COUNTS:
        print_rows(screen, title, _summed(shard.get("build", {}).get(key, {}) for shard in metadata.values()))
    for line in _empty_splits(metadata):
        screen.print(line, highlight=False, markup=False)
    for settings in _distinct(shard["settings"] for shard in metadata.values()):
        print_rows(screen, "Settings", settings.items())
    for units in _distinct(shard["units"] for shard in metadata.values()):
        print_rows(screen, "Units", units.items())


def _empty_splits(metadata: dict[str, dict]) -> list[str]:
    """Messages on splits that the build should have filled but are empty; none without build records."""
    from mlip.data.split import empty_splits

    frames = dict(_summed(shard.get("build", {}).get("frames_kept", {}) for shard in metadata.values()))
    fractions = [shard["settings"].get("fractions") for shard in metadata.values()]
    return empty_splits(frames, fractions[0]) if frames and fractions[0] else []


def _print_summary(summary: "StoreSummary") -> None:
    screen = console()
    for name, known in summary.functionals.items():
        rows = [
            ("frames", known.n_frames),
            ("atoms", known.n_atoms),
            ("energy, eV/atom", _range(known.energy_per_atom)),
            ("energy without E0, rms, eV/atom", known.energy_rms_per_atom),
            ("force components, eV/A", _range(known.force)),
            ("force components, rms, eV/A", known.force_rms),
            ("stress components, eV/A^3", _range(known.stress)),
        ]
        print_rows(screen, f"{name}: labels", rows)
        elements = [
            (
                symbol,
                summary.frames_with_element[symbol],
                summary.atoms_of_element[symbol],
                round(known.reference_energies[symbol], 4),
                round(known.robust_reference_energies.get(symbol, math.nan), 4),
            )
            for symbol in known.reference_energies
        ]
        header = ("", "frames", "atoms", "E0, eV", "E0 robust, eV")
        print_table(screen, f"{name}: elements (frames and atoms of all functionals)", header, elements)
    sizes = {int(size): n for size, n in summary.frames_of_size.items()}
    n_frames, n_atoms = sum(sizes.values()), sum(size * n for size, n in sizes.items())
    rows = [
        ("atoms a frame, mean", n_atoms / n_frames),
        ("atoms a frame, range", f"{min(sizes)} to {max(sizes)}"),
        (f"neighbors an atom within {summary.cutoff:g} A, mean", summary.mean_neighbors),
    ]
    print_rows(screen, "Sizes", rows)


def _range(ends: list[float]) -> str:
    return f"{ends[0]:.6g} to {ends[1]:.6g}" if ends else "none"


def _cutoffs(text: str) -> list[float]:
    try:
        return [float(cutoff) for cutoff in text.split(",")]
    except ValueError:
        raise MlipError(f"'{text}' is not numbers", where="--subsample", fix="e.g. 0,0.001,0.01,inf") from None


def _study(
    source: Path, cutoffs: list[float], per_atom: bool, functional: str | None, plot: Path | None, as_json: bool
) -> None:
    from mlip.data.subsample_study import study_cutoffs

    unit = "eV/atom" if per_atom else "eV per cell"
    skipped: list[Skipped] = []
    with console(stderr=True).status("reading"):
        results = study_cutoffs(_paths(source, functional, skipped), cutoffs, per_atom=per_atom)
    if plot:
        from mlip.files.output_paths import make_folder
        from mlip.report.store_figures import plot_cutoffs

        make_folder(plot.parent)
        plot_cutoffs(results, plot, unit)
    if as_json:
        import json

        rows = [{"cutoff": str(one.cutoff), "frames": one.n_kept, "per_material": one.per_material} for one in results]
        first = results[0]
        counts = {"materials": first.n_materials, "read": first.n_read, "skipped": len(skipped)}
        print(json.dumps({"source": str(source), **counts, "kept": rows}))
        return
    _print_study(source, results, unit)
    for one in skipped[:_NAMED]:
        print(f"skipped {one.material_id}: {one.reason} ({one.detail})")
    if len(skipped) > _NAMED:
        print(f"and {len(skipped) - _NAMED:,} more")


def _print_study(source: Path, results: "list[CutoffResult]", unit: str) -> None:
    rows = [(f"{one.cutoff:g}", one.n_kept, f"{one.per_material:.2f}", f"{100 * one.share:.1f}") for one in results]
    title = f"{source}: {results[0].n_materials:,} materials, {results[0].n_read:,} frames"
    print_table(console(), title, (f"cutoff, {unit}", "frames kept", "a material", "%"), rows)


def _paths(source: Path, functional: str | None, skipped: "list[Skipped]") -> "Iterator[Trajectory]":
    """Relaxation paths of a store, or of a source from which a store can be built."""
    from mlip.data.readers.sources import read_past_faults, read_source, source_names
    from mlip.data.records import Entry, Skipped
    from mlip.data.shard import is_store
    from mlip.data.store import Store

    if is_store(source):
        with Store(source) as store:
            yield from store.trajectories()
        return
    for path, name in source_names([source]).items():
        items = read_source(path, functional=functional, name=name)
        for item in read_past_faults(items, path, name, lambda one: one):
            if isinstance(item, Skipped):
                skipped.append(item)
            else:
                yield item.as_trajectory() if isinstance(item, Entry) else item


def _summed(counts: "Iterable[dict[str, int]]") -> list[tuple[str, int]]:
    from collections import Counter

    return list(sum(map(Counter, counts), Counter()).items())


def _distinct(values: "Iterable[dict]") -> list[dict]:
    found: list[dict] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
