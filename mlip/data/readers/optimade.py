"""ALEXANDRIA (or another database) over OPTIMADE: pages are downloaded into a folder, and read from there.

    optimade://pbe?filter=elements HAS ALL "Al","Co" AND nelements=2      ALEXANDRIA's PBE database
    optimade://pbesol?filter=...                                         ... and its PBEsol database
    optimade+https://HOST/PATH?filter=...                                any other base URL

`optimade`'s own client (extra `optimade`) requests one page at a time. Each page is saved on arrival with the address
of the next, so that an interrupted query resumes at the page where it stopped. Energies, forces and stresses are not
part of the standard: they are ALEXANDRIA's fields `_alexandria_energy` (eV), `_alexandria_forces` (eV/A) and
`_alexandria_stress_tensor` (kB, VASP's sign). They describe relaxed structures, which become entries, not paths.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlip.data.readers.alexandria import scalar_properties
from mlip.data.readers.naming import dimensionality_by_id, functional_by_name, settled_functional
from mlip.data.readers.pymatgen_json import array, is_number, stress_of
from mlip.data.readers.streams import OnBytes, read_blocks
from mlip.data.records import Entry, Frame, MalformedError, Skipped
from mlip.data.structures import FULL
from mlip.errors import MlipError
from mlip.files.output_paths import writing_to
from mlip.files.whole_file import whole_file

PAGE_SUFFIX = ".optimade.json"
_PREFIX = "_alexandria_"
_ALEXANDRIA = "https://alexandria.icams.rub.de/"
_SCHEME = re.compile(r"optimade(\+https?)?://")
_ATTEMPTS = 6
_BACKOFF = 1.0
"""Seconds before the second attempt; doubled before each further one."""

_PROPERTIES = {
    "energy_corrected": "energy_corrected",
    "formation_energy_per_atom": "e_form",
    "hull_distance": "e_above_hull",
    "phase_separation_energy": "e_phase_separation",
    "band_gap_indirect": "band_gap_ind",
    "band_gap_direct": "band_gap_dir",
    "band_gap": "band_gap",
    "dos_ef": "dos_ef",
    "magnetization": "total_mag",
    "space_group": "spg",
    "decomposition": "decomposition",
    "prototype_id": "prototype_id",
}
"""Name of a property in ALEXANDRIA's files, by its name in OPTIMADE."""

OnPage = Callable[[int, int | None], None]
"""Function that receives the number of structures that have arrived, and the total if the server knows it."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query to a server."""

    base_url: str
    filter: str
    page_limit: int | None
    """Structures per page; None: the server's choice. A server refuses requests above its own maximum."""

    @property
    def slug(self) -> str:
        """Folder name that is unique to the query."""
        digest = hashlib.sha256(repr(self).encode()).hexdigest()[:8]
        return f"{re.sub(r'[^a-z0-9]+', '-', urlsplit(self.base_url).path.lower()).strip('-') or 'optimade'}-{digest}"


def is_query(source: str) -> bool:
    """Whether a source is a query to a server, not a file."""
    return _SCHEME.match(source) is not None


def query_of(source: str) -> Query:
    """Query that an `optimade://...` source describes.

    Raises:
        MlipError: the address is incomplete, or has an unknown parameter.
    """
    scheme, _, rest = source.partition("://")
    url = urlsplit(f"https://{rest}")
    parameters = parse_qs(url.query, keep_blank_values=True)
    unknown = set(parameters) - {"filter", "page_limit"}
    limit = parameters.get("page_limit", [None])[0]
    if unknown or not url.netloc or not (limit or "0").isdigit():
        what = f"the parameter {unknown.pop()!r}" if unknown else "an incomplete address"
        raise MlipError(what, where=source, fix="e.g. optimade://pbe?filter=nelements=2")
    base = f"{scheme.removeprefix('optimade+')}://{url.netloc}{url.path}" if "+" in scheme else _ALEXANDRIA + url.netloc
    return Query(base.rstrip("/"), parameters.get("filter", [""])[0], int(limit) if limit else None)


def fetch_pages(query: Query, folder: Path, on_page: OnPage | None = None) -> Path:
    """Download the missing pages of a query's answer; returns the folder of its pages.

    Raises:
        MlipError: the client is not installed, or the server refuses or keeps failing.
    """
    pages = folder / query.slug
    with writing_to(pages):
        pages.mkdir(parents=True, exist_ok=True)
    number, n_here, url = _last_page(pages)
    while number == 0 or url is not None:
        answer = _ask(query, url)
        n_here += len(answer["data"])
        url = answer["next"]
        _write_page(pages / f"page-{number:06d}{PAGE_SUFFIX}", answer)
        number += 1
        if on_page:
            on_page(n_here, answer["n_all"])
    return pages


def _last_page(pages: Path) -> tuple[int, int, str | None]:
    """Number of saved pages, number of structures in them, and address of the next page."""
    files = sorted(pages.glob(f"*{PAGE_SUFFIX}"))
    contents = [msgspec.json.decode(file.read_bytes()) for file in files[-1:]]
    n_here = sum(len(msgspec.json.decode(file.read_bytes())["data"]) for file in files)
    return len(files), n_here, contents[0]["next"] if contents else None


def _write_page(path: Path, answer: dict[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_bytes(msgspec.json.encode(answer))


def _ask(query: Query, url: str | None) -> dict[str, Any]:
    """One page: its structures, the address of the next page, and the number of structures in the whole answer."""
    client = _client(query)
    with redirect_stderr(StringIO()):  # the client prints errors there even if it is told to be silent
        answers = client.get_one(
            "structures",
            query.filter,
            query.base_url,
            page_limit=query.page_limit,
            paginate=False,
            override_url=url,
        )
    results = answers[query.base_url]
    if results.errors:
        raise MlipError(
            f"no answer: {str(results.errors[0]).splitlines()[0][:300]}", where=url or query.base_url, fix=_FIX
        )
    link = results.links.get("next")
    link = link.get("href") if isinstance(link, dict) else link
    return {"data": results.data, "next": link if results.data else None, "n_all": results.meta.get("data_returned")}


_FIX = "repeat the command: it goes on at this page; or fetch ALEXANDRIA's files (mlip data fetch)"


def _client(query: Query) -> Any:
    try:
        from optimade.client import OptimadeClient
    except ImportError:
        raise MlipError(
            "optimade's client is not installed", where="optimade://", fix="pip install 'alexandria-mlip[optimade]'"
        ) from None
    return OptimadeClient(
        base_urls=[query.base_url],
        max_results_per_provider=0,
        use_async=False,
        silent=True,
        http_client=_patient_session(),
    )


def _patient_session() -> type:
    """Session class that repeats requests when a server is overloaded, briefly down, or closes the connection."""
    from requests import Session
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    class PatientSession(Session):
        def __init__(self) -> None:
            super().__init__()
            retry = Retry(total=_ATTEMPTS, backoff_factor=_BACKOFF, status_forcelist=(429, 500, 502, 503, 504))
            for scheme in ("http://", "https://"):
                self.mount(scheme, HTTPAdapter(max_retries=retry))

    return PatientSession


def is_page(path: Path) -> bool:
    return path.name.endswith(PAGE_SUFFIX)


def read(
    path: Path,
    *,
    functional: str | None = None,
    dimensionality: int | None = None,
    on_bytes: OnBytes | None = None,
) -> Iterator[Entry | Skipped]:
    """Structures of a page.

    Args:
        functional: functional of structures without a field `xc_functional`; None: as the folder's name states.
        dimensionality: 1, 2 or 3 for all structures; None: as the id states, else the number of periodic directions.

    Raises:
        MlipError: the file is not a page.
    """
    try:
        items = json.loads(b"".join(read_blocks(path, on_bytes)))["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise MlipError(f"not a page of an OPTIMADE answer ({error})", where=str(path)) from None
    for item in items:
        material_id = str(item.get("id", "structure without an id"))
        try:
            yield _entry(material_id, item.get("attributes") or {}, path, functional, dimensionality)
        except MalformedError as fault:
            yield fault.as_skipped(material_id, str(path))


def structure_of(attributes: Mapping[str, Any]) -> Atoms:
    """A structure without labels, as ASE Atoms.

    Raises:
        MalformedError: unusable coordinates, a disordered or partly occupied site, or an unknown element.
    """
    numbers, positions, cell, pbc = _sites(attributes)
    return Atoms(numbers, positions, cell=cell, pbc=pbc)


def _sites(attributes: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Atomic numbers, Cartesian positions (A), cell (A) and periodicity of a structure."""
    numbers = np.array(_atomic_numbers(attributes), dtype=np.int16)
    cell = array(attributes.get("lattice_vectors"), (3, 3))
    positions = array(attributes.get("cartesian_site_positions"), (len(numbers), 3))
    if len(numbers) == 0 or positions is None or cell is None:
        raise MalformedError("bad coordinates", "lattice_vectors or cartesian_site_positions")
    return numbers, positions, cell, np.array(attributes.get("dimension_types") or (1, 1, 1), dtype=bool)


def _entry(
    material_id: str, attributes: dict[str, Any], path: Path, functional: str | None, dimensionality: int | None
) -> Entry:
    numbers, positions, cell, pbc = _sites(attributes)
    n = len(numbers)
    own = {key.removeprefix(_PREFIX): value for key, value in attributes.items() if key.startswith(_PREFIX)}
    if not is_number(own.get("energy")):
        raise MalformedError("no energy", f"{_PREFIX}energy is {own.get('energy')!r}")
    frame = Frame(
        numbers,
        positions,
        cell,
        pbc,
        energy=float(own["energy"]),
        forces=array(own.get("forces"), (n, 3)),
        stress=stress_of(own.get("stress_tensor")),
        magmoms=array(own.get("magnetic_moments"), (n,)),
    )
    properties = scalar_properties({name: own[key] for key, name in _PROPERTIES.items() if key in own})
    properties["volume"] = float(abs(np.linalg.det(cell)))
    return Entry(
        material_id,
        frame,
        settled_functional(functional, _functional(own.get("xc_functional")), path, functional_by_name),
        dimensionality or dimensionality_by_id(material_id) or int(pbc.sum()),
        properties,
    )


def _atomic_numbers(attributes: Mapping[str, Any]) -> list[int]:
    """Atomic numbers of the sites. A site names its species, and each species must be one element."""
    elements = {}
    for species in attributes.get("species") or []:
        symbols = species.get("chemical_symbols") or []
        if len(symbols) != 1:
            raise MalformedError("disordered site", f"species {species.get('name')} is {symbols}")
        if sum(filter(is_number, species.get("concentration") or [1.0])) < FULL:
            raise MalformedError("partly occupied site", f"species {species.get('name')} is {species['concentration']}")
        elements[species.get("name")] = symbols[0]
    found = [elements.get(name, name) for name in attributes.get("species_at_sites") or []]
    unknown = next((symbol for symbol in found if not atomic_numbers.get(symbol)), None)
    if unknown is not None:
        raise MalformedError("unknown element", repr(unknown))
    return [atomic_numbers[symbol] for symbol in found]


def _functional(told: Any) -> str | None:
    """Functional in ALEXANDRIA's field: one of its names, or any other text unchanged (PBE+U)."""
    if not isinstance(told, str):
        return None
    words = re.split(r"[^a-z0-9+]+", told.lower())
    return next((name for name in ("PBEsol", "R2SCAN", "SCAN", "PBE") if name.lower() in words), told)
