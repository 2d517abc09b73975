"""Makes a trained potential the one that comes with mlip: its weights, and its entry in the registry with a model card.

    python bundle.py POTENTIAL LABELED [--card card.yaml] [--package mlip/pretrained]

POTENTIAL is the file that `mlip train` or `mlip export` wrote, LABELED the store that it was trained on. Writes
PACKAGE/weights/NAME.safetensors and PACKAGE/NAME.yaml; DEFAULT in PACKAGE/registry.py then makes it the default.
"""

import argparse
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from ase.data import chemical_symbols

import mlip
from mlip.data import Store
from mlip.errors import MlipError
from mlip.pretrained.registry import read_entry

HERE = Path(__file__).parent
LARGEST = 4_000_000
"""Bytes of the weights."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential", type=Path)
    parser.add_argument("labeled", type=Path)
    parser.add_argument("--card", type=Path, default=HERE / "card.yaml")
    parser.add_argument("--package", type=Path, default=HERE.parents[1] / "mlip" / "pretrained")
    options = parser.parse_args()
    print(bundle(options.potential, options.labeled, options.card, options.package))


def bundle(potential: Path, labeled: Path, card: Path, package: Path) -> Path:
    """Write weights and entry.

    Returns:
        The entry's file.

    Raises:
        MlipError: the card has no measured errors, the weights are too large, or the entry is none.
    """
    told = yaml.safe_load(card.read_text(encoding="utf-8"))
    if not told.get("errors"):
        raise MlipError("no errors were measured", where=str(card), fix="mlip evaluate, mlip benchmark relaxation")
    loaded = mlip.load(potential)
    counts = frames_by_element(labeled)
    told["card"]["frames_by_element"] = {symbol: counts[symbol] for symbol in loaded.elements}
    weights = package / "weights" / f"{told['name']}.safetensors"
    # The file goes to everybody: its provenance names no store and no folder of ours.
    provenance = {
        "name": told["name"],
        "license": told["license"]["id"],
        "citation": told["citation"],
        "teacher": told["card"].get("teacher"),
        "made_by": told["card"]["made_by"],
        "step": loaded.metadata.provenance.get("step"),
    }
    loaded.with_metadata(provenance=provenance).save(weights)
    content = weights.read_bytes()
    if len(content) > LARGEST:
        raise MlipError(f"has {len(content):,} bytes, and may have {LARGEST:,}", where=str(weights))
    file = {"name": weights.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    entry = {
        **told,
        "family": {"m3gnet": "M3GNet", "nequip": "NequIP", "mace": "MACE"}[loaded.config.model],
        "functional": loaded.functional,
        "elements": len(loaded.elements),
        "parameters": loaded.n_parameters,
        "source": {"homepage": told["homepage"], "bundled": True, "files": [file]},
        "converter": "mlip",
    }
    del entry["homepage"]
    return _written(entry, package / f"{told['name']}.yaml")


def frames_by_element(labeled: Path) -> Counter[str]:
    """How many training frames have an element."""
    counts: Counter[str] = Counter()
    with Store(labeled) as store:
        for material in store.materials():
            if material.split == "train":
                numbers = set(store.frame(material.frames[0]).numbers.tolist())
                counts.update({chemical_symbols[z]: len(material.frames) for z in numbers})
    return counts


def _written(entry: dict[str, Any], path: Path) -> Path:
    text = yaml.safe_dump(entry, sort_keys=False, width=110, allow_unicode=True)
    path.write_text(f"# Written by datasets/default/bundle.py; what it has from card.yaml is changed there.\n{text}")
    read_entry(path)
    return path


if __name__ == "__main__":
    main()
