"""`python -m mlip.cli`: the console script where no entry point is installed."""

from mlip.cli import main

main()
