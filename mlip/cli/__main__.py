"""`python -m mlip.cli`: run the console script where its entry point is not installed."""

from mlip.cli import main

main()
