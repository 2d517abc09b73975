"""The command line: one file a command, no logic that the library lacks.

A command's module holds its options; what it runs is imported when it runs, so that `--help` stays fast.
"""

import errno
import os
import sys
import traceback
from pathlib import Path

import typer

from mlip import __version__
from mlip.allocator import keep_freed_memory
from mlip.errors import MlipError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

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
    from mlip.cli import benchmark, convert, data, evaluate, info, relax, report, screen, train

    app.add_typer(data.app, name="data")
    app.command("train")(train.train)
    app.command("report")(report.report)
    app.command("evaluate")(evaluate.evaluate)
    app.command("relax")(relax.relax)
    app.command("screen")(screen.screen)
    app.add_typer(benchmark.app, name="benchmark")
    app.command("convert")(convert.convert)
    app.command("info")(info.info)


def _is_of_starting_jax(error: BaseException) -> bool:
    """Whether it was raised where JAX looks for devices; whatever asked for one first meets it."""
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    return files[-1].parts[-3:] == ("jax", "_src", "xla_bridge.py")


def main() -> None:
    """The console script. A user's mistake ends in one line on stderr and exit status 2."""
    keep_freed_memory()
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
    except KeyboardInterrupt:
        print("mlip: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `mlip ... | head`
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        print(f"mlip: error: cannot write {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
