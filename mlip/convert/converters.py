"""Which converter reads a source, and which writes a format: readers offer `recognizes(path)` and
`read(path, options) -> Potential | PropertyModel`, writers `write(potential, path)`."""

from pathlib import Path

from mlip.convert import (
    alignn,
    cgat,
    crabnet,
    m3gnet,
    mace,
    mace_export,
    matgl,
    matgl_export,
    mattersim,
    nequix,
    sevennet,
)
from mlip.convert.checkpoint_files import ReadOptions
from mlip.errors import MlipError
from mlip.potential import Potential
from mlip.property_model import PropertyModel

_READERS = (m3gnet, mace, cgat, crabnet, alignn, nequix, sevennet, mattersim, matgl)
"""In this order: matgl takes any NAME_weights.npz."""
_WRITERS = {"matgl": matgl_export.write, "mace": mace_export.write, "nequix": nequix.write}


def convert(
    source: str | Path,
    functional: str | None = None,
    aggregate: str | None = None,
    trust_pickle: bool = False,
    element_vectors: str | Path | None = None,
    predicts: str | None = None,
) -> Potential | PropertyModel:
    """The potential, or the property model, that a published checkpoint holds.

    Args:
        functional: whose energies these are; by default what the checkpoint, or its name, tells.
        aggregate: "center" or "neighbor", the end of a bond to which atom messages are added; by default what the
            checkpoint tells. What was decided, and why, is in the provenance's `notes`.
        trust_pickle: load a file that can run any code, as models of mace-torch can.
        element_vectors: JSON of the vectors that a property model takes for its elements, such as matscholar's.
        predicts: the property, by its name in a store; by default what the checkpoint tells, or e_above_hull.

    Raises:
        MlipError: no such source, a layout that no converter knows, a damaged or unsupported checkpoint.
    """
    source = Path(source)
    if aggregate not in (None, "center", "neighbor"):
        raise MlipError(f"aggregate = {aggregate!r}", fix="center or neighbor")
    if not source.exists():
        raise MlipError("no such file or folder", where=str(source))
    for reader in _READERS:
        if reader.recognizes(source):
            return reader.read(source, ReadOptions(functional, aggregate, trust_pickle, element_vectors, predicts))
    known = "; ".join(reader.LAYOUT for reader in _READERS)
    raise MlipError("is no checkpoint that mlip can convert", where=str(source), fix=f"known: {known}")


def export(potential: Potential, to: str, out: str | Path, *, force: bool = False) -> Path:
    """Write a potential for another code; nothing is overwritten unasked.

    Args:
        to: "matgl", whose models are folders, "mace" or "nequix", whose models are files.
        force: a file at `out` is replaced; a folder never is.

    Raises:
        MlipError: an unknown code, or a potential that it cannot represent.
    """
    if to not in _WRITERS:
        raise MlipError(f"there is no format {to!r}", fix=f"known: {', '.join(_WRITERS)}")
    out, write = Path(out), _WRITERS[to]
    if not (force and out.is_file()):
        return write(potential, out)
    new = write(potential, out.with_name(f".{out.name}.new"))
    out.unlink()
    return new.rename(out)
