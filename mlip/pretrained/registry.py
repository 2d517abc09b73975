"""Registry of the potentials that mlip knows by name, one YAML file each, beside this file."""

import difflib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml
from pydantic import ValidationError

from mlip.errors import MlipError
from mlip.pretrained.entry import PretrainedEntry

DEFAULT = "m3gnet-mp-2021.2.8"
"""Name of the potential that commands and functions use if none is given; `default` is an alias of it everywhere."""

_DEFAULT_ALIAS = "default"
_FOLDER = Path(__file__).parent


def default_potential() -> str:
    """Name of the potential that is used if none is given."""
    return DEFAULT


def declared_name(potential: str) -> str:
    """The default potential's own name for `default`, and any other text unchanged. A name that is stored must not mean
    another potential in a later version."""
    is_meant = potential.casefold() == _DEFAULT_ALIAS and not Path(potential).exists()
    return default_potential() if is_meant else potential


def weights_folder() -> Path:
    """Folder of the weights that come with mlip."""
    return _FOLDER / "weights"


@cache
def known() -> dict[str, PretrainedEntry]:
    """Entries of all potentials by name, sorted by family and name.

    Raises:
        MlipError: a file is not a valid entry, or two entries share a name.
    """
    entries = _entries()
    _by_any_name(entries)
    return {entry.name: entry for entry in sorted(entries, key=lambda entry: (entry.family, entry.name))}


def find(name: str) -> PretrainedEntry:
    """Entry of a name or an alias, case-insensitive.

    Raises:
        MlipError: the name is unknown; the message suggests similar names.
    """
    names = _names()
    entry = names.get(name.casefold())
    if entry is None:
        near = near_names(name)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise MlipError("no such potential", where=name, fix=f"{hint}`mlip models` lists those known by name")
    return entry


def is_known(name: str) -> bool:
    """Whether a potential has this name or alias, case-insensitive."""
    return name.casefold() in _names()


def near_names(name: str) -> list[str]:
    """Up to three names or aliases, of different potentials, that are similar to `name`."""
    names, sought = _names(), name.casefold()
    similar = [entry for entry in names if sought in entry] if len(sought) > 2 else []
    similar = difflib.get_close_matches(sought, names, n=5, cutoff=0.6) + similar
    nearest: dict[str, str] = {}
    for found in similar:
        nearest.setdefault(names[found].name, found)
    return list(nearest.values())[:3]


@cache
def entry_of_digest() -> dict[str, PretrainedEntry]:
    """Entries of the potentials whose checkpoint is one file, by the file's SHA-256."""
    single = (entry for entry in known().values() if len(entry.source.files) == 1)
    return {entry.source.files[0].sha256: entry for entry in single if entry.source.files[0].sha256 is not None}


def read_entry(path: Path) -> PretrainedEntry:
    """Read an entry.

    Raises:
        MlipError: the file is not a valid entry; the message names the key.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        entry = PretrainedEntry.model_validate(values)
    except yaml.YAMLError as error:
        raise MlipError(f"not YAML ({str(error).splitlines()[0]})", where=str(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise MlipError(f"no entry of a potential: {key}: {first['msg']}", where=str(path)) from None
    if entry.name != path.stem:
        raise MlipError(f"the entry is called {entry.name}, its file {path.stem}", where=str(path))
    return entry


def _entries() -> list[PretrainedEntry]:
    return [read_entry(path) for path in sorted(_FOLDER.glob("*.yaml"))]


@cache
def _names() -> dict[str, PretrainedEntry]:
    names = _by_any_name(known().values())
    return names | {_DEFAULT_ALIAS: names[DEFAULT]} if DEFAULT in names else names


def _by_any_name(entries: Iterable[PretrainedEntry]) -> dict[str, PretrainedEntry]:
    names: dict[str, PretrainedEntry] = {}
    for entry in entries:
        for name in entry.names:
            if name in names:
                raise MlipError(f"two potentials are called {name}", where=f"{names[name].name}, {entry.name}")
            if name == _DEFAULT_ALIAS:
                raise MlipError("no potential is called default: DEFAULT names the one that is", where=entry.name)
            names[name] = entry
    return names
