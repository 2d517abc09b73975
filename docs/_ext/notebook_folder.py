"""First, hidden cell of a notebook: a folder of its own with what `world.py` has made; commands that must succeed."""

import atexit
import os
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

from IPython import get_ipython


def enter() -> None:
    """Make a folder with a copy of the world, and go there."""
    world = Path(os.environ["MLIP_DOCS_WORLD"])
    folder = Path(tempfile.mkdtemp(prefix="mlip-docs-"))
    for name in ("store.h5", "potential.safetensors", "volumes.csv"):
        shutil.copy(world / name, folder / name)
    for name in ("cifs", "vasp_runs"):
        shutil.copytree(world / name, folder / name)
    os.chdir(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ |= {"COLUMNS": "110", "TERM": "dumb"}
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):  # of the kernel; commands would take their pipe for a terminal
        os.environ.pop(name, None)
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of packages among themselves
    get_ipython().system = _command


def _command(line: str) -> None:
    """What `!line` does: print its output; progress on stderr is not shown, and a failure ends the build."""
    command = get_ipython().var_expand(line, depth=1)
    run = subprocess.run(["bash", "-eo", "pipefail", "-c", command], capture_output=True, text=True)
    print(run.stdout.rstrip())
    if run.returncode:
        raise RuntimeError(f"exit status {run.returncode}: {command}\n{run.stderr[-2000:]}")
