"""The command line: one file a command, no logic that the library lacks.

A command's module holds its options; what it runs is imported when it runs, so that `--help` stays fast.
"""

import errno
import sys

import typer

from mlip.errors import MlipError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

app = typer.Typer(
    name="mlip",
    help="Universal machine-learning interatomic potentials in JAX: build data, train, relax, compare.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _register() -> None:
    from mlip.cli import benchmark, convert, data, evaluate, info, models, recipes, relax, report, screen, train

    app.add_typer(data.app, name="data")
    app.command("train")(train.train)
    app.command("recipes")(recipes.recipes)
    app.command("report")(report.report)
    app.command("evaluate")(evaluate.evaluate)
    app.command("relax")(relax.relax)
    app.command("screen")(screen.screen)
    app.add_typer(benchmark.app, name="benchmark")
    app.command("convert")(convert.convert)
    app.command("models")(models.models)
    app.command("fetch")(models.fetch)
    app.command("info")(info.info)


def main() -> None:
    """The console script. A user's mistake ends in one line on stderr and exit status 2."""
    _register()
    try:
        app()
    except MlipError as error:
        print(f"mlip: error: {error}", file=sys.stderr)
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
