"""Error messages for paths that were given as a model but are something else: what they are, and which command to
use."""

import re
from pathlib import Path

from mlip.data.shard import is_store
from mlip.errors import MlipError

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?=\w)", re.IGNORECASE)
"""Start of a URL; accepts a single slash, because `Path` merges two."""

_CONVERTIBLE = (
    "models of M3GNet, matgl, mace-torch, MatterSim, Nequix, SevenNet and CGAT can be read: "
    "mlip convert SOURCE OUT.safetensors"
)
_CHECKPOINTS = (".pt", ".pth", ".model", ".ckpt", ".npz", ".index", ".nqx")
UNREADABLE = {".eqx": "equinox"}
"""File suffixes of models that no converter reads, with the code that writes them."""
_IN_CHECKPOINT_FOLDERS = ("*.index", "model.json", "m3gnet.json", "*.pt", "*.pth", "*.ckpt", "*.model")
_EXPORTED = ("potential.safetensors", "model.safetensors")
"""File names of the models that training runs export."""


def mistaken(path: Path) -> MlipError | None:
    """Error that says why `path` is no model file of mlip; None if neither its name nor its type shows that."""
    where = str(path)
    if _URL.match(where):
        url = _URL.sub(r"\1://", where, count=1)
        return MlipError("is a URL, not a file", where=url, fix=f"fetch it: curl -LO {url}; then give the file")
    if path.is_dir():
        return _mistaken_folder(path)
    if not path.exists():
        return None
    kind = path.suffix.lower()
    if is_store(path):
        return MlipError("is a store, not a potential", where=where, fix=f"look at it: mlip data info {path}")
    if kind in (".yaml", ".yml"):
        return MlipError("is a recipe, not a potential", where=where, fix=f"train by it: mlip train {path}")
    if kind in UNREADABLE:
        return MlipError(f"is a model of {UNREADABLE[kind]}, which no converter reads", where=where, fix=_CONVERTIBLE)
    if kind in _CHECKPOINTS:
        return _checkpoint(path, "a checkpoint of another code")
    return None


def _mistaken_folder(path: Path) -> MlipError:
    where = str(path)
    runs = [folder for folder in (path, *path.absolute().parents[:2]) if (folder / "recipe.yaml").is_file()]
    if runs:
        found = [runs[0] / name for name in _EXPORTED if (runs[0] / name).is_file()]
        fix = f"give {found[0]}" if found else f"export its best state: mlip export {runs[0]} OUT.safetensors"
        return MlipError("is the folder of a training run, not a potential", where=where, fix=fix)
    if (path / "sweep.csv").is_file():
        return MlipError("is the folder of a sweep", where=where, fix=f"give one of {path}/*/{_EXPORTED[0]}")
    if is_store(path):
        return MlipError("is a store, not a potential", where=where, fix=f"look at it: mlip data info {path}")
    if any(next(path.glob(pattern), None) for pattern in _IN_CHECKPOINT_FOLDERS):
        return _checkpoint(path, "a checkpoint folder of another code")
    inside = sorted(path.glob("*.safetensors"))
    fix = f"give {inside[0]}" if inside else "give a .safetensors file; of a checkpoint: mlip convert SOURCE OUT"
    return MlipError("is a folder, not a potential", where=where, fix=fix)


def _checkpoint(path: Path, what: str) -> MlipError:
    return MlipError(f"is {what}", where=str(path), fix=f"convert it: mlip convert {path} OUT.safetensors")
