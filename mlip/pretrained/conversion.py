"""Conversion of a checkpoint in a separate process, by the command that a user would give.

PyTorch, and any code in a pickle, thus stay out of the calling process. This package needs neither JAX nor the
converters, which belong to a higher layer.
"""

import os
import subprocess
import sys
from pathlib import Path

import mlip
from mlip.errors import MlipError


def convert(source: Path, out: Path, options: list[str], where: str) -> None:
    """Run `mlip convert SOURCE OUT OPTIONS`; OUT appears complete or not at all.

    Args:
        where: name of the potential or file, for the error message.

    Raises:
        MlipError: the conversion failed; the message gives its reason.
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
    """This process's environment, changed so that the child finds the same mlip and leaves the device to its parent."""
    room = str(Path(mlip.__file__).resolve().parent.parent)
    others = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": f"{room}{os.pathsep}{others}" if others else room, "JAX_PLATFORMS": "cpu"}
