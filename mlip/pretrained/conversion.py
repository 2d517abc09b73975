"""A checkpoint is converted in a process of its own, by the command that a user would give.

So PyTorch, and what a pickle may do, stay out of the process that asked; and this room needs neither JAX nor the
converters, which stand above it.
"""

import os
import subprocess
import sys
from pathlib import Path

import mlip
from mlip.errors import MlipError


def convert(source: Path, out: Path, options: list[str], where: str) -> None:
    """`mlip convert SOURCE OUT OPTIONS`; OUT appears whole or not at all.

    Args:
        where: what the error is of.

    Raises:
        MlipError: the conversion failed, with its own reason.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    by_hand = " ".join(["mlip convert", str(source), str(out), *options])
    if not sys.executable:
        raise MlipError("is not converted by itself: this program has no Python of its own", where=where, fix=by_hand)
    program = [sys.executable, "-P", "-m", "mlip.cli", "convert", str(source), str(out), *options]
    run = subprocess.run(program, env=_environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if run.returncode != 0 or not out.is_file():
        lines = run.stderr.strip().splitlines() or [f"exit status {run.returncode}"]
        reason = lines[-1].removeprefix("mlip: error: ")
        raise MlipError(f"the conversion failed: {reason}", where=where, fix=f"by hand: {by_hand}")


def _environment() -> dict[str, str]:
    """This process's environment, in which the same mlip is found, and a device is left to whoever asked."""
    room = str(Path(mlip.__file__).resolve().parent.parent)
    others = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": f"{room}{os.pathsep}{others}" if others else room, "JAX_PLATFORMS": "cpu"}
