"""What JAX's broken fusion on the CPU changes in a potential's results: the same crystals with it and without.

    python benchmarks/fusion.py --potential m3gnet.safetensors --data alexandria-random-1k.extxyz.gz --report FILE.md

jaxlib 0.10.2 and 0.11.0 fuse some sums wrongly (jax issue 39103), and mlip switches that fusion off before JAX starts.
Here one process lets mlip do so, and another starts JAX first, which leaves it on. Each tells whether the pattern of
that issue is right, predicts all crystals in float64 and float32 in batches, and relaxes them in float64 (in float32 a
crystal between two minima goes to either, whatever the reason for another last digit). Then the results are compared.
Versions that fuse rightly have no other setting.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from side_by_side import machine

DTYPES = ("float64", "float32")


def compute(potential: Path, data: Path, steps: int, first: str, out: Path) -> None:
    """Predict and relax with the fusion on ("jax" starts first) or off ("mlip" does)."""
    if first == "jax":
        import jax

        jax.devices()
    import ase.io

    import mlip
    from mlip.runtime import jax_facts, sums_are_right

    every = ase.io.read(data, ":")
    loaded = mlip.load(potential)
    known = [atoms for atoms in every if set(atoms.get_chemical_symbols()) <= set(loaded.elements)]
    arrays = {}
    for dtype in DTYPES:
        found = loaded.predict(known, dtype)
        arrays[f"energy {dtype}"] = np.array([o["energy"] / len(a) for o, a in zip(found, known, strict=True)])
        arrays[f"forces {dtype}"] = np.concatenate([one["forces"] for one in found])
        arrays[f"stress {dtype}"] = np.array([one["stress"] for one in found])
    relaxed = mlip.relax(known, loaded, steps=steps, dtype="float64", progress=False)
    arrays["relaxed energy"] = np.array([one.energy / len(a) for one, a in zip(relaxed, known, strict=True)], float)
    arrays["relaxed volume"] = np.array([one.atoms.cell.volume / len(one.atoms) for one in relaxed])
    np.savez(out, facts=json.dumps(jax_facts() | {"right": sums_are_right()}), **arrays)


def differences(off: np.lib.npyio.NpzFile, on: np.lib.npyio.NpzFile) -> list[tuple[str, float, float, int]]:
    """(Quantity, largest difference, median difference, how many differ by more than a thousandth of its unit)."""
    rows = []
    for name in off.files:
        if name != "facts":
            apart = np.abs(off[name] - on[name])
            rows.append((name, float(np.nanmax(apart)), float(np.nanmedian(apart)), int((apart > 1e-3).sum())))
    return rows


UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³", "volume": "Å³/atom"}


def as_markdown(rows: list[tuple[str, float, float, int]], facts: dict, counts: dict[str, int]) -> str:
    settings = "; ".join(
        f"fusion {setting}: jaxlib {told['jaxlib']}, the issue's sums are {'right' if told['right'] else 'wrong'}"
        for setting, told in facts.items()
    )
    where = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in machine().items())
    lines = [
        "# JAX 0.10.2's broken fusion, off and on",
        "",
        f"Written by `benchmarks/fusion.py`: {counts['crystals']} crystals, {counts['atoms']} atoms. {settings}. "
        f"{where}.",
        "",
        "| | largest difference | median | beyond 0.001 |",
        "|---|---:|---:|---:|",
    ]
    for name, largest, median, count in rows:
        unit = next(unit for quantity, unit in UNITS.items() if quantity in name)
        lines.append(f"| {name}, {unit} | {largest:.2g} | {median:.2g} | {count} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="crystals as ASE reads them")
    parser.add_argument("--steps", type=int, default=500, help="of a relaxation, at most")
    parser.add_argument("--out", type=Path, help="JSON with all numbers")
    parser.add_argument("--report", type=Path, help="write the table here as Markdown")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # who is first, where to: the work of a process
    options = parser.parse_args()
    if options.one:
        compute(options.potential, options.data, options.steps, options.one[0], Path(options.one[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for first in ("mlip", "jax"):
            path = Path(folder) / f"{first}.npz"
            command = [sys.executable, __file__, "--potential", options.potential, "--data", options.data]
            command += ["--steps", options.steps, "--one", first, path]
            subprocess.run(list(map(str, command)), check=True)
            found[first] = np.load(path)
        rows = differences(found["mlip"], found["jax"])
        facts = {
            {"mlip": "off", "jax": "on"}[first]: json.loads(str(arrays["facts"])) for first, arrays in found.items()
        }
        counts = {"crystals": len(found["mlip"]["energy float64"]), "atoms": len(found["mlip"]["forces float64"])}
    for setting, told in facts.items():
        verdict = "right" if told["right"] else "wrong"
        print(f"fusion {setting}: jaxlib {told['jaxlib']}, sums of the issue's pattern are {verdict}")
    print(f"{counts['crystals']} crystals, {counts['atoms']} atoms; eV/atom, eV/A, eV/A^3, A^3/atom")
    for name, largest, median, count in rows:
        print(f"{name:16}  largest difference {largest:.2g}  median {median:.2g}  beyond 0.001: {count}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        answer = {"settings": facts, **counts, "differences": {name: list(numbers) for name, *numbers in rows}}
        options.out.write_text(json.dumps(answer, indent=1) + "\n")
    if options.report:
        options.report.write_text(as_markdown(rows, facts, counts))


if __name__ == "__main__":
    main()
