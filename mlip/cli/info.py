"""`mlip info`: describe a potential; without a path, the installation and its devices."""

from pathlib import Path
from typing import Annotated

import typer

from mlip.cli import options
from mlip.errors import MlipError


def info(
    path: Annotated[
        Path | None,
        typer.Argument(help="A potential or a property model. Without it: versions and devices."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Describe a potential or a property model; without a path, describe and test this installation and its devices."""
    import json

    faults: list[str] = []
    facts = _installation(faults) if path is None else _model(path)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _show(facts, str(path or "mlip"))
    if faults:
        raise MlipError("; ".join(faults), fix="install another version of JAX: results are not to be trusted")


def _show(facts: dict, title: str) -> None:
    import json

    from mlip.cli.output import console
    from mlip.terminal import terminal_table

    rows = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in facts.items()]
    style = {"show_header": False, "box": None, "title": title, "title_justify": "left"}
    console().print(terminal_table(("", ""), rows, ("",), **style))


def _installation(faults: list[str]) -> dict:
    """Versions and devices of the installation; faults found in its self-test are added to `faults`."""
    import platform

    from mlip import __version__
    from mlip.runtime import cache_folder, jax_facts, set_up_jax

    set_up_jax()  # first, because it explains why JAX cannot start
    import jax

    from mlip import hardware, self_test

    faults += self_test.faults()
    return {
        "mlip": __version__,
        "python": platform.python_version(),
        **jax_facts(),
        "devices": [str(device) for device in jax.devices()],
        "platform": jax.default_backend(),
        "batch sizes": hardware.told(),
        "compilation cache": str(cache_folder()),
        "self-test": "; ".join(faults) or "passed",
    }


def _model(path: Path) -> dict:
    from mlip.property_model import is_property_model

    return _property_model(path) if is_property_model(path) else _potential(path)


def _property_model(path: Path) -> dict:
    from mlip.property_model import PropertyModel

    model = PropertyModel.load(path)
    metadata = model.metadata
    return {
        "model": model.config.model,
        "predicts": metadata.property,
        "parameters": model.n_parameters,
        "config": model.config.model_dump(),
        "elements": " ".join(model.elements),
        "functional": metadata.functional,
        "mean, standard deviation": [metadata.mean, metadata.std],
        "precision": metadata.precision,
        "provenance": metadata.provenance,
        "written by mlip": metadata.mlip_version,
    }


def _potential(path: Path) -> dict:
    from mlip.potential import Potential

    potential = Potential.load(path)
    metadata = potential.metadata
    return {
        "model": potential.config.model,
        "parameters": potential.n_parameters,
        "config": potential.config.model_dump(),
        "elements": " ".join(potential.elements),
        **({f"head {name}": _energies(head) for name, head in metadata.heads.items()} or _energies(metadata)),
        "precision": metadata.precision,
        **({} if potential.uncertainty is None else {"uncertainty": potential.uncertainty.header()}),
        "provenance": metadata.provenance,
        "written by mlip": metadata.mlip_version,
    }


def _energies(head) -> dict:
    """Energy scale of one head, or of a potential with a single head."""
    return {"functional": head.functional, "scale (eV)": head.scale, "shift (eV/atom)": head.shift}
