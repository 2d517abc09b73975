"""`python -m mlip`: the command line where no entry point is installed."""

from mlip.cli import main

main()
