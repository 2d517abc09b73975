"""Choice of the reader for a source, or of the writer for a format. Readers define `recognizes(path)` and
`read(path, options) -> Potential | PropertyModel`; writers define `write(potential, path)`."""

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
"""Readers in the order in which they are tried; matgl is last because it accepts any NAME_weights.npz."""
_WRITERS = {"matgl": matgl_export.write, "mace": mace_export.write, "nequix": nequix.write}


def convert(
    source: str | Path,
    functional: str | None = None,
    aggregate: str | None = None,
    trust_pickle: bool = False,
    element_vectors: str | Path | None = None,
    predicts: str | None = None,
) -> Potential | PropertyModel:
    """Potential or property model of a published checkpoint.

    Args:
        functional: functional of the training data; by default the one stated by the checkpoint or its name.
        aggregate: "center" or "neighbor", the end of a bond at which atom messages are added; by default the one that
            the checkpoint implies. The provenance's `notes` record the choice and its reason.
        trust_pickle: load a file that can run arbitrary code, as models of mace-torch can.
        element_vectors: JSON file with the element vectors that a property model needs, such as matscholar's.
        predicts: name of the predicted property in a store; by default the one that the checkpoint implies.

    Raises:
        MlipError: the source does not exist, no converter knows its layout, or it is damaged or unsupported.
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
    """Write a potential in the format of another code; nothing is overwritten unless `force` is true.

    Args:
        to: "matgl" (writes a folder), "mace" or "nequix" (write a file).
        force: replace an existing file at `out`; an existing folder is never replaced.

    Raises:
        MlipError: the format is unknown, or cannot represent the potential.
    """
    if to not in _WRITERS:
        raise MlipError(f"there is no format {to!r}", fix=f"known: {', '.join(_WRITERS)}")
    out, write = Path(out), _WRITERS[to]
    if not (force and out.is_file()):
        return write(potential, out)
    new = write(potential, out.with_name(f".{out.name}.new"))
    out.unlink()
    return new.rename(out)
