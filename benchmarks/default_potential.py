"""Potentials on the DFT labels that the default potential has never seen, and on its teacher's: errors side by side.

    mlip convert .../goldens/m3gnet m3gnet.safetensors
    python benchmarks/default_potential.py .../data default m3gnet.safetensors nequix-oam-1 --out runs/default.md \\
        [--labeled runs/default/labeled] [--only alexandria-random-1k]

Sets are those of the data pack that `datasets/default/real_structures.py` holds out, with labels. With --labeled the
validation split of the teacher's labels is a further set, by dimensionality. Errors that are in the JSON file beside
--out are not measured again, unless the potential's file has changed.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from mlip.benchmark.tables import Table
from mlip.evaluation.evaluate import evaluate_path
from mlip.potential import open_potential

SETS = {
    "alexandria-random-1k": "benchmarks/alexandria-random-1k.extxyz.gz",
    "mptrj-random-1k": "benchmarks/mptrj-random-1k.extxyz.gz",
    "mptrj-highest-stress-1k": "benchmarks/mptrj-highest-stress-1k.extxyz.gz",
    "DFT relaxations": "trajectories/pbe_relaxations.extxyz.gz",
    "DFT molecular dynamics": "trajectories/pbe_md.extxyz.gz",
    "layers (mech2d)": "lowdim/pbe_2d_relaxations_mech2d.extxyz.gz",
    "Si64, displaced": "static/pbe_phonon_displacements_phono3py.extxyz.gz",
}
COLUMNS = ("potential", "frames", "E meV/atom", "E median", "F meV/Å", "F slope", "S GPa", "S median")


def measured(potential: str, data: Path, split: str | None, known: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of errors by dimensionality, from `known` where they are there."""
    loaded = open_potential(potential)
    key = f"{loaded.fingerprint} {data.name} {split}"
    if key not in known:
        errors = evaluate_path(loaded, data, split=split, functional="PBE", allow_functional_mismatch=True)
        known[key] = {row["dimensionality"]: row for row in errors.as_json()["rows"]}
    return known[key]


def cells(potential: str, row: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table."""
    return (
        Path(potential).stem,
        f"{row['n_frames']:,}",
        f"{row['energy_mae']:.1f}",
        f"{row['energy_median']:.1f}",
        f"{1000 * row['forces_mae']:.1f}",
        f"{row['forces_slope']:.3f}",
        f"{row['stress_mae']:.3f}",
        f"{row['stress_median']:.3f}",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data pack")
    parser.add_argument("potentials", nargs="+", help="files or names")
    parser.add_argument("--labeled", type=Path, help="store of the teacher's labels")
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--out", type=Path, required=True, help="Markdown; figures go to a JSON file beside it")
    options = parser.parse_args()
    kept = options.out.with_suffix(".json")
    known = json.loads(kept.read_text()) if kept.exists() else {}
    sets = [(name, options.data / SETS[name], None) for name in options.only]
    if options.labeled:
        sets.append(("the teacher's labels, validation split", options.labeled, "val"))
    parts = ["# The default potential beside others", "By benchmarks/default_potential.py. Mean absolute errors."]
    for name, path, split in sets:
        by_dimensionality: dict[str, list[tuple[str, ...]]] = {}
        for potential in options.potentials:
            found = measured(potential, path, split, known)
            for dimensionality, row in found.items():
                if split or dimensionality == "all":
                    by_dimensionality.setdefault(dimensionality, []).append(cells(potential, row))
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(known, indent=1))
        for dimensionality, rows in by_dimensionality.items():
            title = name if dimensionality == "all" else f"{name}, {dimensionality}"
            parts.append(Table("errors", title, COLUMNS, tuple(rows)).to_markdown())
    text = "\n\n".join(parts) + "\n"
    options.out.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
