"""The registry: each file is an entry, names are unique, what is pinned is what the publishers' files are."""

import hashlib
from pathlib import Path

import pytest
import yaml

from mlip.convert import m3gnet
from mlip.errors import MlipError
from mlip.pretrained import default_potential, find, known
from mlip.pretrained.entry import PretrainedEntry
from mlip.pretrained.registry import near_names, read_entry
from tests.weights_server import entry_of

GOLDENS = {
    "m3gnet/checkpoint": "m3gnet-mp-2021.2.8",
    "m3gnet_alexandria_2d/checkpoint": "m3gnet-2d",
    "m3gnet_alexandria_pbesol/checkpoint": "m3gnet-pbesol",
    "m3gnet_matgl/checkpoints/M3GNet-MP-2021.2.8-PES": "m3gnet-mp-2021.2.8-pes",
    "m3gnet_matgl/checkpoints/M3GNet-MatPES-PBE-v2025.1-PES": "m3gnet-matpes-pbe-v2025.1-pes",
}
NOT_READ = {"checkpoint", "model.pt"}
"""Files of published folders that the converters do not open: names of the others, and a pickle."""


@pytest.mark.parametrize("name", known())
def test_an_entry_says_all_that_a_user_must_know(name):
    entry = known()[name]
    assert all(citation.startswith(("doi:", "arXiv:")) for citation in entry.citation)
    assert entry.license.url.startswith("https://")
    assert entry.license.id in {"MIT", "BSD-3-Clause"} or entry.license.id.startswith("LicenseRef-")
    told = None if " | " in entry.functional else entry.functional  # a file with several heads tells by itself
    assert entry.state in ("in mlip", "not readable yet") or entry.options.functional == told
    assert entry.source.homepage.startswith("https://")


def test_names_and_aliases_are_unique_in_any_case():
    names = [name.casefold() for entry in known().values() for name in entry.names]
    assert len(set(names)) == len(names)


def test_two_potentials_of_one_name_are_an_error(register):
    register(entry_of({"a": b"a"}), entry_of({"a": b"a"}, name="other", aliases=["tiny"]))
    with pytest.raises(MlipError, match="two potentials are called tiny"):
        known()


def test_the_default_is_one_that_can_be_had():
    assert find(default_potential()).state in ("in mlip", "ready")


@pytest.mark.parametrize("name", ["m3gnet", "M3GNet", "M3GNet-MP-2021.2.8", "mp-2021.2.8-EFS"])
def test_a_potential_is_found_by_its_aliases_in_any_case(name):
    assert find(name).name == "m3gnet-mp-2021.2.8"


@pytest.mark.parametrize(
    ("name", "near"), [("m3gent", "m3gnet-mp-2021.2.8"), ("mace-2D-model", "mace-2d"), ("mpa-0", "mace-mpa-0-medium")]
)
def test_a_wrong_name_lists_near_ones(name, near):
    with pytest.raises(MlipError, match=f"{name}: no such potential .*did you mean .*`mlip models`"):
        find(name)
    assert near in [find(found).name for found in near_names(name)]


def test_a_name_like_no_other_lists_none():
    with pytest.raises(MlipError, match=r"no such potential \(`mlip models` lists"):
        find("qqqqqq")


def test_licenses_that_are_not_open_have_their_terms():
    academic = [entry for entry in known().values() if entry.license.id == "LicenseRef-ASL"]
    assert {entry.name for entry in academic} >= {"mace-omat-0-medium", "mace-matpes-r2scan-0"}
    assert all("academic non-commercial use only" in entry.license.text for entry in academic)
    assert find("mace-mp-0a-medium").license.text is None


def test_pickles_that_are_read_have_a_pinned_checksum():
    pickled = [entry for entry in known().values() if entry.source.is_pickle and entry.state == "ready"]
    assert len(pickled) > 10
    assert all(file.sha256 for entry in pickled for file in entry.source.files)


@pytest.mark.parametrize(("folder", "name"), GOLDENS.items())
def test_pinned_checksums_are_those_of_the_published_files(shared, folder, name):
    pinned = {file.name: (file.bytes, file.sha256) for file in find(name).source.files}
    found = {path.name: _size_and_digest(path) for path in (shared / "goldens" / folder).iterdir()}
    assert pinned == {name: value for name, value in found.items() if name not in NOT_READ}


def test_pinned_checksums_of_nequix_are_those_of_the_published_files(shared):
    for path in (shared / "goldens/nequix").glob("*.nqx"):
        (file,) = find(path.stem).source.files
        assert (file.bytes, file.sha256) == _size_and_digest(path)


@pytest.mark.parametrize(("folder", "name"), GOLDENS.items())
def test_entries_tell_of_the_published_potentials_what_these_are(shared, folder, name):
    from mlip.convert import convert

    entry = find(name)
    source = shared / "goldens" / folder
    if entry.converter == "matgl":  # its published files take PyTorch, the same arrays do not
        source = source.parent.parent / f"{source.name}_weights.npz"
    potential = convert(source)
    assert potential.n_parameters == entry.parameters
    assert len(potential.elements) == entry.elements
    assert potential.metadata.functional == entry.functional


def test_what_the_converter_knows_by_checksum_is_known_by_name():
    data = {file.sha256: entry for entry in known().values() for file in entry.source.files}
    for digest, (_, functional) in m3gnet._PUBLISHED.items():
        assert data[digest].functional == functional


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"color": "blue"}, "color: Extra inputs"),
        ({"name": "Tiny Model"}, "not a plain name"),
        ({"citation": []}, "citation"),
        ({"converter": "orb"}, "converter"),
    ],
)
def test_a_file_that_is_no_entry_names_the_key(tmp_path, changes, message):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(entry_of({"a": b"a"}).model_dump(mode="json") | changes))
    with pytest.raises(MlipError, match=message):
        read_entry(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "abc"}, "no SHA-256"),
        ({"name": "../evil"}, "not a plain file name"),
        ({"urls": ["http://publisher.invalid/a"]}, "is not https"),
        ({"path": "/etc/passwd"}, "not a path inside a package"),
        ({"urls": [], "path": "weights/a"}, "files of a package have a path"),
        ({"bytes": 0}, "greater than 0"),
    ],
)
def test_where_weights_come_from_is_checked(changes, message):
    values = entry_of({"a": b"a"}).model_dump(mode="json")
    values["source"]["files"][0] |= changes
    with pytest.raises(ValueError, match=message):
        PretrainedEntry.model_validate(values)


def _size_and_digest(path: Path) -> tuple[int, str]:
    content = path.read_bytes()
    return len(content), hashlib.sha256(content).hexdigest()
