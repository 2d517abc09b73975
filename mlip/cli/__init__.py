"""The command line: one module for each family of commands, without logic that the library lacks.

A module declares its commands' options and imports the library only when the command runs, so that `--help` stays fast.
"""

import errno
import inspect
import os
import sys
import traceback
from pathlib import Path

import typer

from mlip import __version__
from mlip.allocator import keep_freed_memory
from mlip.errors import MlipError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_PATH = (
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)
"""Error numbers of a path given by the user that cannot be used as the command requires."""
_RESUMABLE = (
    "data build",
    "data fetch",
    "data label",
    "relax",
    "eos",
    "elastic",
    "phonons",
    "screen",
    "campaign",
    "dft write",
    "benchmark relaxation",
)

app = typer.Typer(
    name="mlip",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"mlip {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
    ),
) -> None:
    """Universal machine-learning interatomic potentials in JAX: build data, train, relax, compare."""


def _register() -> None:
    if app.registered_commands:  # a second command in this process
        return
    from mlip.cli import (
        benchmark,
        campaign,
        convert,
        data,
        dft,
        hull,
        info,
        models,
        predictions,
        relax,
        responses,
        runs,
        screen,
        train,
        uncertainty,
    )

    app.add_typer(data.app, name="data")
    app.command("train")(train.train)
    app.command("recipes")(train.recipes)
    app.command("export")(runs.export)
    app.command("report")(runs.report)
    app.command("calibrate")(uncertainty.calibrate)
    app.command("ensemble")(uncertainty.ensemble)
    app.command("evaluate")(predictions.evaluate)
    app.command("predict")(predictions.predict)
    app.command("relax")(relax.relax)
    app.command("eos")(responses.eos)
    app.command("elastic")(responses.elastic)
    app.command("phonons")(responses.phonons)
    app.command("screen")(screen.screen)
    app.add_typer(dft.app, name="dft")
    app.command("hull")(hull.hull)
    app.add_typer(campaign.app, name="campaign")
    app.add_typer(benchmark.app, name="benchmark")
    app.command("convert")(convert.convert)
    app.command("models")(models.models)
    app.command("fetch")(models.fetch)
    app.command("info")(info.info)
    _join_lines(app)


def _join_lines(group: typer.Typer) -> None:
    """Join the lines of each paragraph of the help texts, so that they wrap at the terminal's width."""
    for command in group.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for inner in group.registered_groups:
        _join_lines(inner.typer_instance)


def _is_of_starting_jax(error: BaseException) -> bool:
    """Whether the error was raised while JAX looked for devices, which may happen wherever JAX is first used."""
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    return files[-1].parts[-3:] == ("jax", "_src", "xla_bridge.py")


def main() -> None:
    """The console script. User errors are printed as one line on stderr, with exit status 2."""
    keep_freed_memory()
    os.environ.setdefault("SPGLIB_WARNING", "OFF")  # commands record why a structure has no symmetry
    _register()
    try:
        app()
    except MlipError as error:
        print(f"mlip: error: {error}", file=sys.stderr)
        sys.exit(2)
    except (RuntimeError, AssertionError) as error:
        if not _is_of_starting_jax(error):
            raise
        told = str(error).splitlines()[0] if str(error) else "JAX has no plugin for it"
        print(
            f"mlip: error: JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}: JAX cannot start: {told}",
            file=sys.stderr,
        )
        sys.exit(2)
    except SystemExit as end:
        if (interrupt := _interrupt_behind(end)) is not None:
            what = interrupt or _how_to_go_on(sys.argv[1:])
            print(f"mlip: interrupted{what and ': '}{what}", file=sys.stderr)
            sys.exit(130)
        raise
    except BrokenPipeError:  # `mlip ... | head`
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        if error.errno not in _NO_ROOM and not (error.filename and error.errno in _NO_PATH):
            raise
        doing = "write" if error.errno in _NO_ROOM else "open"
        print(f"mlip: error: cannot {doing} {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        sys.exit(2)


def _interrupt_behind(end: BaseException | None) -> str | None:
    """Message of the KeyboardInterrupt that typer has turned into an exit; None if there was none."""
    while end is not None:
        if isinstance(end, KeyboardInterrupt):
            return str(end)
        end = end.__cause__ or end.__context__
    return None


def _how_to_go_on(arguments: list[str]) -> str:
    """Advice after an interrupt, for commands that keep their progress; else empty."""
    command = " ".join(word for word in arguments[:2] if not word.startswith("-"))
    if command.startswith(_RESUMABLE):
        return "the same command goes on where it was"
    return ""
