"""`mlip data build`: build a store from sources, on all cores or a cluster, and account for every frame."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlip.cli import options
from mlip.cli.output import console, print_rows, print_table
from mlip.errors import MlipError

if TYPE_CHECKING:
    from mlip.data.build import BuildReport, BuildSettings
    from mlip.data.records import Skipped

_SKIPPED_SHOWN = 10


def build(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Files or folders: ALEXANDRIA's and MPtrj's json(.bz2), extxyz(.gz), ASE databases (.db, .aselmdb), "
            "vasprun.xml, OUTCAR; CSV of formulas and properties; or optimade://pbe?filter=nelements=2"
        ),
    ],
    out: Annotated[Path, typer.Option(help="The store: a file *.h5, or the name of a folder of shards.")],
    subsample: Annotated[
        float, typer.Option(help="Energy cutoff between kept steps, eV; 0 keeps all, inf keeps three per path.")
    ] = 0.0,
    per_atom: Annotated[
        bool, typer.Option("--per-atom/--per-cell", help="The cutoff's unit: eV/atom or eV per cell.")
    ] = True,
    outliers: Annotated[
        str,
        typer.Option(
            help="Rules: the paper's 2d or pbesol; path (restarts, steps far above the end); none. 2d,path = both."
        ),
    ] = "none",
    split: Annotated[str, typer.Option(help="Shares of train, val, test.")] = "0.9,0.05,0.05",
    split_by: Annotated[
        str, typer.Option(help="What stays in one split: material, or composition (all of a reduced formula).")
    ] = "material",
    lowest: Annotated[
        str | None,
        typer.Option(help="Of each reduced composition keep only the material with the lowest value of this: e_form."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    functional: Annotated[
        str | None,
        typer.Option(help="Functional of data that do not state it: PBE, ...  [default: from file or folder]"),
    ] = None,
    dimensionality: Annotated[
        int | None, typer.Option(min=1, max=3, help="1, 2 or 3.  [default: from ids and files]")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Number of processes.  [default: one per core]")] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Use Dask: tcp://HOST:PORT, slurm:JOBS,cores=16,memory=64GB, or local:N.")
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(
            help="Names of labels in extxyz and databases that differ from ASE's: energy=REF_energy,forces=...,"
            "stress=..., virial=... (= -stress x volume), magmoms=..."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file that is not a store.")] = False,
    as_json: options.TablesAsJson = False,
) -> None:
    """Read relaxation paths, sub-sample, filter and split them, and write a store.

    The store appears when it is complete. If the build is killed, the same command resumes it. Unusable materials, and
    files that cannot be read or have no materials, are counted and listed in OUT.skipped.jsonl; suspicious labels are
    listed in OUT.findings.jsonl.

    Exit status: 0; 1 if the store was built but a file failed; 2 if nothing was built.
    """
    from mlip.data.build import BuildSettings
    from mlip.data.readers.labels import parsed_keys
    from mlip.data.shard import is_store_file
    from mlip.data.split import empty_splits
    from mlip.data.workers import n_cores
    from mlip.files.output_paths import check_new

    if is_store_file(out):
        check_new(out, force=force or _is_whole_store(out))
    settings = BuildSettings(
        subsample,
        per_atom,
        outliers,
        _fractions(split),
        seed,
        functional,
        dimensionality,
        parsed_keys(keys),
        split_by,
        lowest,
    )
    skipped: list[Skipped] = []
    report = _build_with_progress(sources, out, settings, skipped, workers or n_cores(), cluster, hidden=as_json)
    if as_json:
        import json

        empty = empty_splits(report.frames_kept, settings.fractions)
        print(json.dumps({"store": str(out), **report.as_dict(), "empty_splits": empty}))
    else:
        _print_build(out, settings, report, skipped)
    if report.failed_sources:
        _tell_failed(out, report, to_stderr=as_json)
        raise typer.Exit(1)


def _tell_failed(out: Path, report: "BuildReport", to_stderr: bool) -> None:
    """Print the last line of a build in which some source failed."""
    reasons = ", ".join(f"{n} x {reason}" for reason, n in report.failed_sources.most_common())
    n_failed = sum(report.failed_sources.values())
    line = f"built, but {n_failed} of {report.sources} sources failed ({reasons}); see {_list_of(out, 'skipped')}"
    print(line, file=sys.stderr if to_stderr else None)


def _is_whole_store(path: Path) -> bool:
    """Whether a file is a complete store, which a build may replace without --force."""
    from mlip.data.store import Store

    if not path.is_file():
        return False
    try:
        with Store(path):
            return True
    except MlipError:
        return False


def _fractions(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(share) for share in text.split(","))
    except ValueError:
        raise MlipError(f"'{text}' is not numbers", where="--split", fix="e.g. 0.9,0.05,0.05") from None


def _build_with_progress(
    sources: list[str],
    out: Path,
    settings: "BuildSettings",
    skipped: "list[Skipped]",
    n_workers: int,
    cluster: str | None,
    hidden: bool,
) -> "BuildReport":
    from mlip.data.build import build as build_store
    from mlip.progress import bytes_bar

    def keep_first(one: "Skipped") -> None:
        if len(skipped) < _SKIPPED_SHOWN:
            skipped.append(one)

    with bytes_bar(not hidden, speed=False) as bar:
        task = bar.add_task("building", total=None)
        return build_store(
            sources,
            out,
            settings,
            n_workers=n_workers,
            cluster=cluster,
            on_progress=lambda done, total: bar.update(task, completed=done, total=total),
            on_skipped=keep_first,
            on_resumed=lambda done, n: bar.console.print(f"going on: {done} of {n} parts were built before"),
        )


def _print_build(out: Path, settings: "BuildSettings", report: "BuildReport", skipped: "list[Skipped]") -> None:
    from mlip.data.schema import SPLITS
    from mlip.data.split import empty_splits

    n_kept = sum(report.frames_kept.values())
    unit = "eV/atom" if settings.per_atom else "eV per cell"
    rows = [("read", report.materials_read, report.frames_read)]
    rows += [(f"dropped: {reason}", None, n) for reason, n in report.dropped_frames.most_common()]
    rows += [(f"sub-sampled away, cutoff {settings.subsample:g} {unit}", None, report.frames_subsampled_away)]
    rows += _outlier_rows(settings.outliers, report)
    if settings.lowest is not None:
        counts = report.not_lowest_materials, report.not_lowest_frames
        rows += [(f"not the lowest {settings.lowest} of their composition", *counts)]
    rows += [("kept", sum(report.materials_kept.values()), n_kept)]
    rows += [(f"  {split}", report.materials_kept[split], report.frames_kept[split]) for split in SPLITS]
    screen = console()
    print_table(screen, str(out), ("", "materials", "frames"), rows)
    print_rows(screen, "Sets (materials)", report.sets.items())
    print_rows(screen, "Kept frames with", report.labels.items())
    for line in empty_splits(report.frames_kept, settings.fractions):
        screen.print(line, highlight=False, markup=False)
    _print_findings(screen, out, report)
    if report.ignored_files:
        print_rows(screen, "Files that no reader takes", report.ignored_files.most_common())
    if skipped:
        _print_skipped(screen, out, report, skipped)


def _outlier_rows(names: str, report: "BuildReport") -> list[tuple[str, int, int]]:
    from mlip.data.outliers import rules_named

    rules = [rule.name for rule in rules_named(names)]
    rows = [(f"outlier: {rule}", report.outlier_materials[rule], report.outlier_frames[rule]) for rule in rules]
    return [*rows, ("  materials left without a frame", report.materials_emptied, None)] if rules else rows


def _print_findings(screen, out: Path, report: "BuildReport") -> None:
    rows = [(check, report.finding_materials[check], n) for check, n in report.finding_frames.most_common()]
    rows += [("forces compared with finite differences", report.forces_checked_materials, None)]
    rows += [("stress compared with finite differences", report.stress_checked_materials, None)]
    print_table(screen, "Checks (what they find is kept)", ("", "materials", "frames"), rows)
    if report.finding_frames:
        print(f"each is listed in {_list_of(out, 'findings')}")


def _print_skipped(screen, out: Path, report: "BuildReport", skipped: "list[Skipped]") -> None:
    print_rows(screen, "Skipped materials and sources", report.skipped_materials.most_common())
    for one in skipped:
        print(f"skipped {one.material_id}: {one.reason} ({one.detail})")
    print(f"all {sum(report.skipped_materials.values())} are listed in {_list_of(out, 'skipped')}")


def _list_of(out: Path, kind: str) -> str:
    from mlip.data.shard import is_store_file

    return f"{out}.{kind}.jsonl" if is_store_file(out) else f"{out}/{kind}.jsonl"
