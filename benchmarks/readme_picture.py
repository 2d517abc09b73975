"""The picture of the README: relaxed volumes against DFT's, from the results of `mlip benchmark relaxation`.

    mlip benchmark relaxation m3gnet.safetensors random-1k.h5 --split all --out results
    python benchmarks/readme_picture.py results/results.jsonl --out docs/_static/volumes.png
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from mlip.benchmark.results import read_results

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("results", type=Path)
parser.add_argument("--out", type=Path, required=True)
