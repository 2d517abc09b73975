"""The results of benchmarks are kept as those of relaxations are: see `mlip.relaxation.results_file`."""

from mlip.relaxation.results_file import ResultsFile, read_results

__all__ = ["ResultsFile", "read_results"]
