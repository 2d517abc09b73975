"""Does a potential that was exported to matgl give the same numbers there?

    python benchmarks/matgl_parity.py STRUCTURES --peer-python matgl=PYTHON [--potential OURS.safetensors ...]

writes each potential (by default random networks of several shapes) with `mlip.convert.export`, loads it with matgl's
own `load_model` in its own environment, and compares energies, forces and stresses of the structures in both
precisions. Needs PyTorch here too (`pip install 'alexandria-mlip[convert]'`). Exit status 0 when they agree.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import ase.io
import numpy as np

LIMITS = {"float64": (1e-9, 1e-8, 1e-8), "float32": (1e-4, 1e-3, 1e-4)}
"""eV/atom; forces and stresses as a share of 1 eV/A (eV/A^3) plus the largest one of the structure. matgl keeps cosines
1e-7 away from +-1, which shows in float64."""
NETWORKS = {
    "smooth, 64 units": {},
    "bessel, 64 units": {"smooth": False},
    "smooth, 128 units": {"hidden_units": 128},
    "smooth, max_n = max_l = 4, four blocks": {"max_n": 4, "max_l": 4, "n_blocks": 4},
}


def matgl_side(folder: str, structures: str, dtype: str, out: str) -> None:
    """In matgl's environment: everything is imported here."""
    import matgl
    import torch

    if dtype == "float64":
        torch.set_default_dtype(torch.float64)
        matgl.set_default_dtype("float", 64)
        # Its table of roots of spherical Bessel functions was rounded to float32 on import.
        from matgl.layers import _basis
        from matgl.utils import maths

        roots = np.load(Path(maths.__file__).parent / "sb_roots.npy")
        _basis.SPHERICAL_BESSEL_ROOTS = torch.tensor(roots, dtype=torch.float64)
    from matgl.ext.ase import PESCalculator

    potential = matgl.load_model(folder).to(getattr(torch, dtype))
    calculator = PESCalculator(potential, stress_unit="eV/A3", use_voigt=True)
    results = {"version": matgl.__version__}
    for place, atoms in enumerate(ase.io.read(structures, ":")):
        atoms.calc = calculator
        results[f"{place}/energy"] = atoms.get_potential_energy()
        results[f"{place}/forces"] = atoms.get_forces()
        results[f"{place}/stress"] = atoms.get_stress()
    np.savez(out, **results)


def random_potentials(structures: list[ase.Atoms]) -> dict:
    from mlip.models.m3gnet import matgl_config
    from mlip.network import init_parameters
    from mlip.potential import Potential, PotentialMetadata

    elements = sorted({symbol for atoms in structures for symbol in atoms.get_chemical_symbols()})
    generator = np.random.default_rng(0)
    metadata = PotentialMetadata(
        reference_energies={symbol: -10 * generator.random() for symbol in elements}, scale=3.0, shift=-0.5
    )
    configs = {name: matgl_config(**changes) for name, changes in NETWORKS.items()}
    return {name: Potential(config, init_parameters(config, seed=1), metadata) for name, config in configs.items()}


def largest_differences(structures: list[ase.Atoms], ours: list[dict], theirs) -> np.ndarray:
    """(2, 3): of energy per atom, forces and stress over all structures; as they are, and as shares (`LIMITS`)."""
    differences = []
    for place, (atoms, result) in enumerate(zip(structures, ours, strict=True)):
        energy = abs(result["energy"] - float(theirs[f"{place}/energy"])) / len(atoms)
        pairs = [(result[name], theirs[f"{place}/{name}"]) for name in ("forces", "stress")]
        plain = [np.abs(a - b).max() for a, b in pairs]
        shares = [difference / (1 + np.abs(b).max()) for difference, (_, b) in zip(plain, pairs, strict=True)]
        differences.append([[energy, *plain], [energy, *shares]])
    return np.max(differences, axis=0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structures", type=Path)
    parser.add_argument("--peer-python", required=True, help="matgl=PYTHON, of an environment with matgl")
    parser.add_argument("--potential", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    python = arguments.peer_python.removeprefix("matgl=")

    from mlip.convert import export
    from mlip.potential import Potential

    structures = ase.io.read(arguments.structures, ":")
    potentials = {path.name: Potential.load(path) for path in arguments.potential} or random_potentials(structures)
    agrees = True
    for name, potential in potentials.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = export(potential, "matgl", Path(temporary) / "model")
            for dtype, limits in LIMITS.items():
                out = Path(temporary) / f"{dtype}.npz"
                command = [python, __file__, "--matgl-side", folder, arguments.structures, dtype, out]
                subprocess.run(list(map(str, command)), check=True)
                theirs = np.load(out)
                found = largest_differences(structures, potential.predict(structures, dtype=dtype), theirs)
                agrees &= bool(np.all(found[1] < limits))
                print(
                    f"{name}, {dtype}: {len(structures)} structures, largest differences from matgl "
                    f"{theirs['version']}: {found[0, 0]:.1e} eV/atom, {found[0, 1]:.1e} eV/A, {found[0, 2]:.1e} eV/A^3"
                )
    print("agree" if agrees else "DIFFER")
    return 0 if agrees else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--matgl-side"]:
        matgl_side(*sys.argv[2:])
    else:
        sys.exit(main())
