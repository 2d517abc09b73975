"""A command of mlip in this process: what it prints, and its exit status, without the seconds that imports take.

What only a process of its own can show (signals, `python -m`, no output to the terminal) is tested with one.
"""

import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from unittest.mock import patch

from mlip.cli import main


def mlip(*arguments: object) -> subprocess.CompletedProcess:
    """Run `mlip ARGUMENTS`."""
    words = ["mlip", *map(str, arguments)]
    out, err, status = StringIO(), StringIO(), 0
    with patch.object(sys, "argv", words), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())
