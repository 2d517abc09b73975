"""Elastic tensors, equations of state and phonons by mlip and by matcalc, with one potential, on the same crystals.

    peers/matcalc/bin/python benchmarks/response.py --potential m3gnet --data .../mp_binary_elasticity.json.gz \
        --crystals 50 --out response.json --report response.md

matcalc (pip install matcalc) goes through crystals one by one, with mlip's own calculator of ASE or with another one of
the same weights (--calculator, such as matgl's); mlip takes those of a round together. Both have the same protocol,
which is matcalc's: relaxation first, ions clamped in strained cells, shear strains up to 0.06; eleven volumes up to
10 % of length away, the shape relaxed; displaced supercells. Rounds are done by one and the other in turn. Before them
mlip goes through all rounds twice, and compiles; that time is told beside. Without matcalc there is mlip's side alone.
The process keeps freed memory, as mlip's commands do (`mlip.keep_freed_memory`), for both sides.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from pymatgen.io.ase import AseAtomsAdaptor

import mlip
from mlip.benchmark.labeled_materials import read_labeled
from mlip.foreign import ForeignSpec
from mlip.response.birch_murnaghan import fit_birch_murnaghan
from mlip.response.elastic_moduli import moduli, symmetrized
from mlip.response.strains import point_group
from mlip.runtime import jax_facts

NORMAL, SHEAR = (-0.01, -0.005, 0.005, 0.01), (-0.06, -0.03, 0.03, 0.06)
LENGTHS = np.linspace(-0.1, 0.1, 11)
DISPLACEMENT = 0.015
LABELS = {"any": ("bulk_modulus_vrh", "heat_capacity_300K")}
QUANTITIES = {
    "elasticity": ("K", "G", "K, symmetric", "G, symmetric"),
    "eos": ("B0", "B0 of the middle seven"),
    "phonons": ("Cv",),
}
Side = Callable[[list[Atoms]], list[list[float]]]


def our_sides(potential: mlip.Potential, arguments: argparse.Namespace) -> dict[str, Side]:
    """Values of a list of crystals, part by part."""
    common = {"fmax": arguments.fmax, "steps": arguments.steps, "dtype": arguments.dtype, "progress": False}

    def elasticity(crystals):
        strains = {"normal_strains": NORMAL, "shear_strains": SHEAR, "relax_ions": False}
        found = mlip.elastic_tensor(crystals, potential, **strains, **common)
        return [[one.bulk_modulus, one.shear_modulus] * 2 for one in found]

    def eos(crystals):
        found = mlip.equation_of_state(crystals, potential, volumes=(1 + LENGTHS) ** 3, relax_shape=True, **common)
        return [[one.bulk_modulus, _of_the_middle(one.volumes, one.energies)] for one in found]

    def phonons(crystals):
        how = {"min_length": arguments.min_length, "displacement": DISPLACEMENT, "temperatures": (300.0,)}
        return [[one.heat_capacity(300.0)] for one in mlip.phonons(crystals, potential, **how, **common)]

    return {"elasticity": elasticity, "eos": eos, "phonons": phonons}


def sides_of_matcalc(potential: mlip.Potential, arguments: argparse.Namespace) -> dict[str, Side] | None:
    """The same of matcalc; None where it is not installed."""
    try:
        from matcalc import ElasticityCalc, EOSCalc, PhononCalc
    except ImportError:
        return None
    if arguments.calculator is None:
        calculator = mlip.MLIPCalculator(potential, dtype=arguments.dtype)
    else:
        calculator = ForeignSpec.parse(arguments.calculator).open()
    limits = {"max_steps": arguments.steps}
    elastic = ElasticityCalc(
        calculator,
        norm_strains=NORMAL,
        shear_strains=SHEAR,
        fmax=arguments.fmax,
        units_GPa=True,
        relax_calc_kwargs=limits,
        r2_min=-1,
    )
    curve = EOSCalc(calculator, fmax=arguments.fmax, **limits, max_abs_strain=LENGTHS[-1], n_points=11, r2_min=-1e9)
    vibrations = PhononCalc(
        calculator,
        atom_disp=DISPLACEMENT,
        min_length=arguments.min_length,
        fmax=arguments.fmax,
        **limits,
        t_min=300,
        t_max=300,
        write_phonon=False,
    )

    def one_by_one(calculate, values) -> Side:
        return lambda crystals: [_tried(calculate, values, atoms) for atoms in crystals]

    return {
        "elasticity": one_by_one(elastic.calc, _moduli_of_matcalc),
        "eos": one_by_one(curve.calc, _bulk_moduli_of_matcalc),
        "phonons": one_by_one(vibrations.calc, lambda r: [r["thermal_properties"]["heat_capacity"][0]]),
    }


def _bulk_moduli_of_matcalc(result: dict[str, Any]) -> list[float]:
    return [result["bulk_modulus_bm"], _of_the_middle(result["eos"]["volumes"], result["eos"]["energies"])]


def _of_the_middle(volumes: Sequence[float], energies: Sequence[float]) -> float:
    """Bulk modulus fitted to the volumes of lengths at most 6 % away, GPa: stretched further, some crystals fall into
    another minimum, on one side before the other."""
    return fit_birch_murnaghan(np.array(volumes)[2:-2], np.array(energies)[2:-2]).bulk_modulus


def _moduli_of_matcalc(result: dict[str, Any]) -> list[float]:
    """matcalc's K and G, and those of its tensor once this has the symmetry of the crystal, as ours has, GPa.

    At shear strains of 6 % stresses are not linear in the strains, and matcalc's fitted tensors differ from their
    transposes and break the crystal's symmetry.
    """
    group = point_group(AseAtomsAdaptor.get_atoms(result["structure"], msonable=False))
    found = moduli(symmetrized(np.array(result["elastic_tensor"].voigt), group))
    return [result["bulk_modulus_vrh"], result["shear_modulus_vrh"], found["bulk_hill"], found["shear_hill"]]


def _tried(calculate, values, atoms: Atoms) -> list[float]:
    try:
        return [float(value) for value in values(calculate(atoms.copy()))]
    except Exception as error:  # matcalc passes on whatever its parts raise
        warnings.warn(f"matcalc: {atoms.symbols}: {error}", stacklevel=2)
        return []


def race(part: str, crystals: list[Atoms], sides: dict[str, Side], rounds: int, warm_up: int | None) -> dict[str, Any]:
    """Values and seconds of each side; rounds in turn.

    Args:
        warm_up: crystals of matcalc's untimed round; None are those of one round.
    """
    found: dict[str, Any] = {name: {"seconds": [], "values": []} for name in sides}
    split = np.array_split(np.arange(len(crystals)), rounds)
    for name, side in sides.items():
        started = time.perf_counter()
        parts = 2 * split if name == "mlip" else [split[0][:warm_up]]  # the second pass finds better shapes
        for places in parts:
            side([crystals[k] for k in places])
        seconds = time.perf_counter() - started
        found[name]["warm_up"] = {"crystals": sum(map(len, parts)), "seconds": seconds}
    for number, places in enumerate(split):
        order = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for name in order:
            started = time.perf_counter()
            values = sides[name]([crystals[k] for k in places])
            found[name]["seconds"].append(time.perf_counter() - started)
            found[name]["values"] += values
        print(
            part,
            f"round {number + 1}/{rounds}",
            {name: round(found[name]["seconds"][-1], 1) for name in sides},
            flush=True,
        )
    return found


def differences(part: str, found: dict[str, Any]) -> dict[str, Any]:
    """Relative differences of ours from matcalc's, in %, by quantity; and how often each has no value."""
    n = len(QUANTITIES[part])
    values = {
        name: np.array([row if len(row) == n else [np.nan] * n for row in side["values"]], dtype=float)
        for name, side in found.items()
    }
    told: dict[str, Any] = {f"{name}_without": int((~np.isfinite(v)).any(axis=1).sum()) for name, v in values.items()}
    if "matcalc" not in values:
        return told
    for k, quantity in enumerate(QUANTITIES[part]):
        ours, theirs = values["mlip"][:, k], values["matcalc"][:, k]
        relative = np.abs(100 * (ours / theirs - 1))
        relative = relative[np.isfinite(relative)]
        told[quantity] = {
            "compared": len(relative),
            "median_percent": float(np.median(relative)) if len(relative) else None,
            "largest_percent": float(relative.max(initial=0.0)),
            "within_1_percent": int((relative <= 1).sum()),
        }
    return told


def report(result: dict[str, Any]) -> str:
    """A table in Markdown."""
    lines = [
        f"# Responses: mlip and matcalc, {result['potential']}, {result['crystals']} crystals",
        "",
        f"{result['protocol']}. {', '.join(f'{key} {value}' for key, value in result['jax'].items())}.",
        "",
        "| part | mlip s | before, compiling | matcalc s | ratio | quantity | compared | median difference % "
        "| largest % | within 1 % |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for part, found in result["parts"].items():
        ours = sum(found["sides"]["mlip"]["seconds"])
        theirs = sum(found["sides"]["matcalc"]["seconds"]) if "matcalc" in found["sides"] else None
        for quantity in QUANTITIES[part]:
            one = found["differences"].get(quantity)
            told = "- | - | - | -" if not one or one["median_percent"] is None else _shares(one)
            before = found["sides"]["mlip"]["warm_up"]["seconds"]
            times = "- | -" if theirs is None else f"{theirs:.1f} | {theirs / ours:.1f}"
            lines.append(f"| {part} | {ours:.1f} | {before:.1f} | {times} | {quantity} | {told} |")
    return "\n".join(lines) + "\n"


def _shares(one: dict[str, Any]) -> str:
    return f"{one['compared']} | {one['median_percent']:.3f} | {one['largest_percent']:.2f} | {one['within_1_percent']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", required=True, help="file or name")
    parser.add_argument("--data", type=Path, required=True, help="JSON (.gz) of matcalc's form")
    parser.add_argument("--crystals", type=int, default=50)
    parser.add_argument("--most-atoms", type=int, default=20)
    parser.add_argument("--parts", nargs="+", default=list(QUANTITIES), choices=list(QUANTITIES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fmax", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--min-length", type=float, default=10.0)
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--calculator", help="matcalc's, ase:MODULE:CLASS?key=value; by default mlip's own")
    parser.add_argument("--only-ours", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    mlip.keep_freed_memory()
    materials = [m for m in read_labeled(arguments.data, LABELS) if len(m.atoms) <= arguments.most_atoms]
    chosen = [materials[k] for k in np.linspace(0, len(materials) - 1, arguments.crystals).round().astype(int)]
    potential = mlip.load(arguments.potential)
    ours = our_sides(potential, arguments)
    theirs = None if arguments.only_ours else sides_of_matcalc(potential, arguments)
    if theirs is None:
        print("mlip alone" + ("" if arguments.only_ours else ": matcalc is not installed"))
    result: dict[str, Any] = {
        "potential": str(arguments.potential),
        "crystals": len(chosen),
        "ids": [material.id for material in chosen],
        "protocol": f"fmax {arguments.fmax} eV/A, {arguments.dtype}, supercells of {arguments.min_length} A, "
        f"matcalc's calculator: {arguments.calculator or 'that of mlip'}",
        "jax": jax_facts(),
        "parts": {},
    }
    warm_up = None if arguments.calculator is None else 1  # XLA compiles each shape, others do not
    for part in arguments.parts:
        sides = {"mlip": ours[part]} | ({} if theirs is None else {"matcalc": theirs[part]})
        found = race(part, [material.atoms for material in chosen], sides, arguments.rounds, warm_up)
        result["parts"][part] = {"sides": found, "differences": differences(part, found)}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.report:
        arguments.report.write_text(report(result))
    print(report(result))


if __name__ == "__main__":
    main()
