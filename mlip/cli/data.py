"""`mlip data`: build a store, look into it, check it; `label` makes data where there are none."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlip.cli.label import label
from mlip.errors import MlipError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlip.data.build import BuildReport, BuildSettings
    from mlip.data.records import Skipped

app = typer.Typer(help="Build, inspect and check data stores; label structures.", no_args_is_help=True)
app.command("label")(label)

_SKIPPED_SHOWN = 10
_BUILD_COUNTS = (("Sets (materials)", "sets"), ("Frames by split", "frames_kept"), ("Frames with", "labels"))

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


@app.command()
def build(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Files or folders: ALEXANDRIA's json(.bz2), extxyz(.gz), ASE databases, ..."),
    ],
    out: Annotated[Path, typer.Option(help="The store to write, *.h5.")],
    subsample: Annotated[
        float, typer.Option(help="Energy cutoff between kept steps, eV; 0 keeps all, inf three a path.")
    ] = 0.0,
    per_atom: Annotated[
        bool, typer.Option("--per-atom/--per-cell", help="The cutoff's unit: eV/atom or eV per cell.")
    ] = True,
    outliers: Annotated[str, typer.Option(help="Outlier rules of the paper: 2d, pbesol or none.")] = "none",
    split: Annotated[str, typer.Option(help="Shares of train, val, test.")] = "0.9,0.05,0.05",
    seed: Annotated[int, typer.Option(help="Seed of the split, which goes by material id.")] = 0,
    functional: Annotated[
        str | None, typer.Option(help="PBE, PBEsol, SCAN, ...  [default: what file or folder say]")
    ] = None,
    dimensionality: Annotated[
        int | None, typer.Option(min=1, max=3, help="1, 2 or 3.  [default: what ids and files say]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read relaxation paths, sub-sample, filter and split them, and write a store.

    The store appears when it is complete: a build that is killed leaves the old one, or none, and is started
    again. Materials that cannot be used are counted, and listed in OUT.skipped.jsonl.
    """
    from mlip.data.build import BuildSettings

    settings = BuildSettings(subsample, per_atom, outliers, _fractions(split), seed, functional, dimensionality)
    skipped: list[Skipped] = []
    report = _build_with_progress(sources, out, settings, skipped, hidden=as_json)
    if as_json:
        import json

        print(json.dumps({"store": str(out), **report.as_dict()}))
    else:
        _print_build(out, settings, report, skipped)


@app.command()
def info(
    store: Annotated[Path, typer.Argument(help="A store file, or a folder of them.")],
    as_json: Json = False,
) -> None:
    """Show what a store holds and how it was built."""
    from mlip.data.store import Store

    with Store(store) as opened:
        counts = {"materials": opened.n_materials, "frames": opened.n_frames, "atoms": opened.n_atoms}
        metadata = {shard.path.name: shard.metadata for shard in opened.shards}
        if as_json:
            import json

            print(json.dumps({"store": str(store), "counts": counts, "shards": metadata}))
            return
    console = _console()
    _print_rows(console, str(store), counts.items())
    for title, key in _BUILD_COUNTS:
        _print_rows(console, title, _summed(shard.get("build", {}).get(key, {}) for shard in metadata.values()))
    for settings in _distinct(shard["settings"] for shard in metadata.values()):
        _print_rows(console, "Settings", settings.items())
    for units in _distinct(shard["units"] for shard in metadata.values()):
        _print_rows(console, "Units", units.items())


@app.command()
def check(
    store: Annotated[Path, typer.Argument(help="A store file, or a folder of them.")],
    as_json: Json = False,
) -> None:
    """Compare every column with its checksum; exit status 1 if any was altered or cannot be read."""
    from dataclasses import asdict

    from mlip.data.check import find_problems

    console = _console(stderr=True)
    with console.status("checking") as status:
        problems = list(find_problems(store, on_column=lambda column: status.update(f"checking {column}")))
    if as_json:
        import json

        print(json.dumps({"store": str(store), "sound": not problems, "problems": [asdict(p) for p in problems]}))
    else:
        for problem in problems:
            print(f"{problem.file}: {problem.column + ': ' if problem.column else ''}{problem.what}")
        if not problems:
            print(f"{store}: sound")
    if problems:
        raise typer.Exit(1)


def _summed(counts: "Iterable[dict[str, int]]") -> list[tuple[str, int]]:
    from collections import Counter

    return list(sum(map(Counter, counts), Counter()).items())


def _distinct(values: "Iterable[dict]") -> list[dict]:
    found: list[dict] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _fractions(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(share) for share in text.split(","))
    except ValueError:
        raise MlipError(f"'{text}' is not numbers", where="--split", fix="e.g. 0.9,0.05,0.05") from None


def _build_with_progress(
    sources: list[Path], out: Path, settings: "BuildSettings", skipped: "list[Skipped]", hidden: bool
) -> "BuildReport":
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from mlip.data.build import build as build_store
    from mlip.data.sources import source_files

    def keep_first(one: "Skipped") -> None:
        if len(skipped) < _SKIPPED_SHOWN:
            skipped.append(one)

    total = sum(path.stat().st_size for path in source_files(sources))
    columns = (TextColumn("building"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console(stderr=True), disable=hidden, transient=True) as bar:
        task = bar.add_task("", total=total)
        return build_store(
            sources,
            out,
            settings,
            on_progress=lambda done, _: bar.update(task, completed=done),
            on_skipped=keep_first,
        )


def _print_build(out: Path, settings: "BuildSettings", report: "BuildReport", skipped: "list[Skipped]") -> None:
    from mlip.data.schema import SPLITS

    n_kept = sum(report.frames_kept.values())
    unit = "eV/atom" if settings.per_atom else "eV per cell"
    rows = [("read", report.materials_read, report.frames_read)]
    rows += [(f"dropped: {reason}", None, n) for reason, n in report.dropped_frames.most_common()]
    rows += [(f"sub-sampled away, cutoff {settings.subsample:g} {unit}", None, report.frames_subsampled_away)]
    rows += _outlier_rows(settings.outliers, report)
    rows += [("kept", sum(report.materials_kept.values()), n_kept)]
    rows += [(f"  {split}", report.materials_kept[split], report.frames_kept[split]) for split in SPLITS]
    console = _console()
    _print_table(console, str(out), ("", "materials", "frames"), rows)
    _print_rows(console, "Sets (materials)", report.sets.items())
    _print_rows(console, "Kept frames with", report.labels.items())
    if skipped:
        _print_skipped(console, out, report, skipped)


def _outlier_rows(name: str, report: "BuildReport") -> list[tuple[str, int, int]]:
    from mlip.data.outliers import rules_named

    rules = [rule.name for rule in rules_named(name)]
    rows = [(f"outlier: {rule}", report.outlier_materials[rule], report.outlier_frames[rule]) for rule in rules]
    return [*rows, ("  materials left without a frame", report.materials_emptied, None)] if rules else rows


def _print_skipped(console, out: Path, report: "BuildReport", skipped: "list[Skipped]") -> None:
    _print_rows(console, "Skipped materials", report.skipped_materials.most_common())
    for one in skipped:
        print(f"skipped {one.material_id}: {one.reason} ({one.detail})")
    print(f"all {sum(report.skipped_materials.values())} are listed in {out}.skipped.jsonl")


def _print_rows(console, title: str, rows) -> None:
    _print_table(console, title, ("", ""), list(rows))


def _print_table(console, title: str, header: tuple[str, ...], rows: list[tuple]) -> None:
    from rich.table import Table
    from rich.text import Text

    console.print(Text(title, style="bold"))  # a table's own title wraps at the table's width
    table = Table(show_header=any(header))
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console.print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _console(stderr: bool = False):
    from rich.console import Console

    return Console(stderr=stderr)
