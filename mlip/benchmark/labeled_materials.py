"""Materials with labels of a property, from a store or from a JSON file in matcalc's format."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip.data import Store
from mlip.errors import MlipError

JSON_ENDINGS = (".json", ".json.gz")


@dataclass(frozen=True)
class LabeledMaterial:
    id: str
    atoms: Atoms
    labels: dict[str, float]
    """Label by the name of the quantity; NaN where the source has none."""
    functional: str = "unknown"


def read_labeled(source: str | PathLike, names: Mapping[str, Sequence[str]]) -> list[LabeledMaterial]:
    """Read the materials of a source that have at least one of the labels.

    Args:
        source: a store, or a JSON file (.json, .json.gz) with a list of records, each with `mp_id` or `material_id`,
            labels, and `structure` (pymatgen's) or `lattice`, `species` and `frac_coords`.
        names: quantity -> its possible names in a source; the first that a material has is taken.

    Raises:
        MlipError: there is no such file, it has another format, or no material has a label.
    """
    path = Path(source)
    found = _of_json(path, names) if path.name.endswith(JSON_ENDINGS) else _of_store(path, names)
    labeled = [material for material in found if not np.isnan(list(material.labels.values())).all()]
    if not labeled:
        known = ", ".join(name for options in names.values() for name in options)
        raise MlipError("no material has a label of this benchmark", where=str(path), fix=f"labels: {known}")
    return labeled


def _of_store(path: Path, names: Mapping[str, Sequence[str]]) -> list[LabeledMaterial]:
    with Store(path) as store:
        found = []
        for material in store.materials():
            frame = store.relaxed_frame(material)
            if frame is not None:
                atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
                labels = _labels(material.properties, names)
                found.append(LabeledMaterial(material.id, atoms, labels, material.functional))
        return found


def _of_json(path: Path, names: Mapping[str, Sequence[str]]) -> list[LabeledMaterial]:
    if not path.is_file():
        raise MlipError("no such file", where=str(path))
    try:
        content = path.read_bytes()
        records = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
        return [
            LabeledMaterial(
                str(record.get("mp_id", record.get("material_id", k))), _atoms(record), _labels(record, names)
            )
            for k, record in enumerate(records)
        ]
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise MlipError(
            f"is no list of materials ({why})",
            where=str(path),
            fix="records with lattice, species, frac_coords, labels",
        ) from None


def _atoms(record: Mapping[str, Any]) -> Atoms:
    if "structure" in record:
        from pymatgen.core import Structure
        from pymatgen.io.ase import AseAtomsAdaptor

        return Atoms(AseAtomsAdaptor.get_atoms(Structure.from_dict(record["structure"]), msonable=False))
    return Atoms(
        record["species"], scaled_positions=record["frac_coords"], cell=np.array(record["lattice"], float), pbc=True
    )


def _labels(known: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, float]:
    return {quantity: float(_first(known, options)) for quantity, options in names.items()}


def _first(known: Mapping[str, Any], names: Sequence[str]) -> float:
    """Value of the first name that is known; NaN if none is."""
    return next((known[name] for name in names if known.get(name) is not None), np.nan)
