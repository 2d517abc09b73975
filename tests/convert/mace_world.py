"""Modules of mace-torch with random weights, of the layouts of its published foundation models but few channels."""

from pathlib import Path
from typing import Any

import ase.build
import numpy as np

ELEMENTS = (6, 8, 14, 26, 29, 55)
_RESIDUAL = {"first": "RealAgnosticResidualInteractionBlock", "later": "RealAgnosticResidualInteractionBlock"}
_DENSITY = {
    "first": "RealAgnosticDensityInteractionBlock",
    "later": "RealAgnosticDensityResidualInteractionBlock",
    "distance_transform": "Agnesi",
    "pair_repulsion": True,
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "MACE-MP-0 small": _RESIDUAL | {"max_l": 0},
    "MACE-MP-0 medium": _RESIDUAL | {"max_l": 1},
    "MACE-MP-0 large": _RESIDUAL | {"max_l": 2},
    "MACE-MP-0b2": _DENSITY | {"max_l": 1, "r_max": 5.0, "num_bessel": 8},
    "MACE-MPA-0": _DENSITY | {"max_l": 1},
    "MACE-OMAT-0": _DENSITY | {"max_l": 1, "num_polynomial_cutoff": 6},
    "three heads": _DENSITY | {"max_l": 1, "heads": ["PBE", "PBEsol", "SCAN"]},
    "MACE": _RESIDUAL | {"first": "RealAgnosticInteractionBlock", "max_l": 1, "is_scaled": False, "max_ell": 2},
    "one layer": _RESIDUAL | {"max_l": 1, "max_ell": 1, "num_interactions": 1},
    "three layers": _RESIDUAL | {"max_l": 1, "max_ell": 1, "num_interactions": 3, "radial_MLP": [8]},
    "correlation 4": _RESIDUAL | {"max_l": 1, "max_ell": 1, "correlation": 4},
}


def structures() -> list[ase.Atoms]:
    """Periodic, of two and more elements, with short and long bonds."""
    crystals = [
        ase.build.bulk("SiC", "zincblende", a=4.4, cubic=True),
        ase.build.bulk("FeO", "rocksalt", a=4.3),
        ase.build.bulk("CsCu", "cesiumchloride", a=3.9),  # within the repulsion of nuclei
    ]
    for crystal in crystals:
        crystal.rattle(0.1, seed=1)
    return crystals


def mace_module(
    max_l: int,
    first: str,
    later: str,
    dtype: str = "float64",
    channels: int = 4,
    elements: tuple[int, ...] = ELEMENTS,
    is_scaled: bool = True,
    seed: int = 0,
    **options: Any,
) -> Any:
    """ScaleShiftMACE, or MACE, in evaluation mode."""
    import torch
    from mace import modules  # before e3nn 0.4, which cannot be imported by itself with torch >= 2.6
    from mace.modules.models import o3

    random = np.random.default_rng(seed)
    heads = options.setdefault("heads", ["default"])
    shape = (len(heads), len(elements))
    arguments = {
        "r_max": 6.0,
        "num_bessel": 10,
        "num_polynomial_cutoff": 5,
        "max_ell": 3,
        "interaction_cls": modules.interaction_classes[later],
        "interaction_cls_first": modules.interaction_classes[first],
        "num_interactions": 2,
        "num_elements": len(elements),
        "hidden_irreps": o3.Irreps([(channels, (order, (-1) ** order)) for order in range(max_l + 1)]),
        "MLP_irreps": o3.Irreps("16x0e"),
        "atomic_energies": random.uniform(-9, -1, shape).squeeze()
        if len(heads) == 1
        else random.uniform(-9, -1, shape),
        "avg_num_neighbors": 20.5,
        "atomic_numbers": list(elements),
        "correlation": 3,
        "gate": torch.nn.functional.silu,
    }
    if is_scaled:
        several = len(heads) > 1
        arguments["atomic_inter_scale"] = [0.75, 0.5, 0.875][: len(heads)] if several else 0.75
        arguments["atomic_inter_shift"] = [0.125, -0.25, 0.0][: len(heads)] if several else 0.125
    default = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    torch.manual_seed(seed)
    try:
        make = modules.ScaleShiftMACE if is_scaled else modules.MACE
        return _with_large_forces(make(**arguments | options).eval())
    finally:
        torch.set_default_dtype(default)


def _with_large_forces(module: Any) -> Any:
    """Initial weights give forces that are nearly zero."""
    import torch

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "skip_tp" in name or "node_embedding" in name:
                parameter *= len(module.atomic_numbers) ** 0.5  # the norm over elements, of which an atom is one
            elif "contractions" in name:
                parameter *= 2 * parameter.shape[1] ** 0.5
            elif name.endswith(".linear.weight") and "interactions" in name:
                parameter *= 0.5 if hasattr(module.interactions[0], "density_fn") else 8
            elif "density_fn" in name:
                parameter *= 20
    return module


def save_module(module: Any, path: Path) -> Path:
    import torch

    torch.save(module, path)
    return path


def their_results(module_path: Path, structures: list[ase.Atoms], dtype: str, head: str | None = None) -> list[dict]:
    """Energies, forces and stresses by mace-torch's own calculator."""
    import torch
    from mace.calculators import MACECalculator

    choice = {} if head is None else {"head": head}
    calculator = MACECalculator(model_paths=str(module_path), device="cpu", default_dtype=dtype, **choice)
    default = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))  # otherwise ZBL's 14.3996 Z_i Z_j is rounded to float32
    try:
        return [_results_of(structure, calculator) for structure in structures]
    finally:
        torch.set_default_dtype(default)


def _results_of(structure: ase.Atoms, calculator: Any) -> dict:
    atoms = structure.copy()
    atoms.calc = calculator
    return {
        "energy": atoms.get_potential_energy(),
        "forces": atoms.get_forces(),
        "stress": atoms.get_stress(),
    }


def deviations(ours: list[dict], theirs: list[dict]) -> tuple[float, float, float]:
    """The largest: eV/atom, eV/A, eV/A^3."""
    errors = [
        (
            abs(a["energy"] - b["energy"]) / len(a["forces"]),
            np.abs(a["forces"] - b["forces"]).max(),
            np.abs(a["stress"] - b["stress"]).max(),
        )
        for a, b in zip(ours, theirs, strict=True)
    ]
    return tuple(np.max(errors, axis=0))
