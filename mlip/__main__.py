"""Command line as `python -m mlip`, for installations without the `mlip` script."""

from mlip.cli import main

main()
