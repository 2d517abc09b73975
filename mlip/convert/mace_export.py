"""Export of a potential as a pickled module, which mace-torch's MACECalculator, its fine-tuning and LAMMPS read.

mace-torch builds the module from its constructor's arguments. Its parameters are then replaced by ours, and all its
constants are compared with ours. The module, including E0, scale and shift, has the precision of the parameters.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from flax.traverse_util import flatten_dict

from mlip.convert.layers import Arrays
from mlip.convert.mace import BLOCKS, constants
from mlip.convert.mace_layout import coupling_tensor, coupling_weights, state_from_parameters, weights_of_couplings
from mlip.convert.pytorch import import_mace_torch
from mlip.errors import MlipError
from mlip.files.whole_file import whole_file
from mlip.models.mace import MACEConfig
from mlip.models.symmetric_contraction import coupling_polynomials, polynomials_of_tensor
from mlip.potential import Head, Potential


def write(potential: Potential, out: Path) -> Path:
    """Write the file `out` with all heads of the potential.

    Raises:
        MlipError: the potential is not a MACE, the file exists, or PyTorch or mace-torch is missing.
    """
    if not isinstance(potential.config, MACEConfig):
        raise MlipError(f"mace-torch's format is written for MACE only, not for {potential.config.model}")
    if out.exists():
        raise MlipError("exists", where=str(out), fix="choose another name, such as OUT.model")
    torch = import_mace_torch("mace-torch's format is written")
    module = _module(torch, potential)
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as partial:
        torch.save(module, partial)
    return out


def _module(torch: ModuleType, potential: Potential) -> Any:
    """mace.modules.ScaleShiftMACE with the potential's parameters."""
    from mace.modules import ScaleShiftMACE

    dtype = _dtype(potential)
    default = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        module = ScaleShiftMACE(**_arguments(torch, potential))
    finally:
        torch.set_default_dtype(default)
    empty = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    _check_constants(potential.config, empty)
    state = _in_their_couplings(potential.config, state_from_parameters(potential.config, potential.params), empty)
    parameters = {name for name, parameter in module.named_parameters() if parameter.numel()}
    if parameters != state.keys():
        raise MlipError(f"this mace-torch has other parameters: {', '.join(sorted(parameters ^ state.keys())[:3])}")
    module.load_state_dict({name: torch.tensor(array.astype(dtype)) for name, array in state.items()}, strict=False)
    return module


def _dtype(potential: Potential) -> str:
    """Precision of most parameters: a float32 potential may have a few arrays in float64."""
    flat = flatten_dict(potential.params).values()
    return "float32" if any(np.asarray(array).dtype == np.float32 for array in flat) else "float64"


def _arguments(torch: ModuleType, potential: Potential) -> dict[str, Any]:
    from mace.modules import interaction_classes
    from mace.modules.models import o3

    config = potential.config
    classes = {variant: interaction_classes[name] for name, variant in BLOCKS.items()}
    heads = [potential.metadata.heads.get(name, potential.metadata) for name in config.heads]
    several = len(heads) > 1
    return {
        "r_max": config.cutoff,
        "num_bessel": config.n_bessel,
        "num_polynomial_cutoff": config.cutoff_power,
        "max_ell": config.max_ell,
        "interaction_cls": classes["residual", config.normalization],
        "interaction_cls_first": classes[config.first_block, config.normalization],
        "num_interactions": config.n_layers,
        "num_elements": len(config.elements),
        "hidden_irreps": o3.Irreps([(config.channels, (order, (-1) ** order)) for order in range(config.max_l + 1)]),
        "MLP_irreps": o3.Irreps(f"{config.readout_hidden}x0e"),
        "atomic_energies": np.array([_reference_energies(config, head) for head in heads]),
        "avg_num_neighbors": config.mean_neighbors,
        "atomic_numbers": list(config.elements),
        "correlation": config.correlation,
        "gate": torch.nn.functional.silu,
        "pair_repulsion": config.zbl,
        "distance_transform": {"agnesi": "Agnesi", "none": "None"}[config.distance_transform],
        "radial_MLP": list(config.radial_hidden),
        "radial_type": "bessel",
        "heads": list(config.heads),
        "use_reduced_cg": False,
        "atomic_inter_scale": [head.scale for head in heads] if several else heads[0].scale,
        "atomic_inter_shift": [head.shift for head in heads] if several else heads[0].shift,
    }


def _reference_energies(config: MACEConfig, head: Head) -> list[float]:
    """Reference energies by element, eV; as in mace-torch, 0 for elements that only other heads know."""
    symbols = [chemical_symbols[z] for z in config.elements]
    strangers = [symbol for symbol in symbols if symbol not in head.reference_energies]
    if strangers and len(config.heads) == 1:
        raise MlipError(
            f"the network has parameters for {', '.join(strangers)}, but no reference energies; mace-torch needs both"
        )
    return [head.reference_energies.get(symbol, 0.0) for symbol in symbols]


def _check_constants(config: MACEConfig, empty: Arrays) -> None:
    """Check that the module, as built, has the same constants as our network."""
    for name, value in constants(config).items():
        if not np.allclose(empty[name], value, rtol=1e-6):  # float32
            raise MlipError(f"this mace-torch has another {name}")


def _in_their_couplings(config: MACEConfig, state: Arrays, empty: Arrays) -> Arrays:
    """Convert weights of our couplings to weights of the module's; they do not change where the couplings are equal."""
    for layer in range(config.n_layers):
        for order in config.orders_out(layer):
            for degree in range(1, config.correlation + 1):
                theirs = polynomials_of_tensor(empty[coupling_tensor(layer, order, degree)], degree)
                ours = coupling_polynomials(config.max_ell, degree, order)
                weights = coupling_weights(config, layer, order, degree)
                state[weights] = weights_of_couplings(state[weights], ours, theirs)
    return state
