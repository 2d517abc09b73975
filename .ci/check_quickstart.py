"""What the quickstart must show, checked on the output of `mlip evaluate --json` (standard input).

The held-out energies are at least five times better than reference energies alone, forces better than none.
"""

import json
import sys

overall = next(row for row in json.load(sys.stdin)["rows"] if row["dimensionality"] == "all")
gain = overall["energy_mae_e0"] / overall["energy_mae"]
print(f"quickstart: energies {gain:.1f} times better than E0 only on {overall['n_frames']} held-out frames")
if gain < 5 or overall["forces_mae"] >= 0.8 * overall["forces_mae_zero"]:
    sys.exit("quickstart: the trained potential is worse than promised")
