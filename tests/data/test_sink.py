"""Disks that are full, and places that cannot be."""

import io
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from mlip.data import Store
from mlip.data.build import BuildSettings, build
from mlip.data.sink import Sink
from mlip.data.store_export import export
from mlip.errors import MlipError

BUILT = """
    import os, resource, sys

    from mlip.cli import main

    sys.argv[0], limits = "mlip", map(int, sys.argv.pop(1).split(","))
    for limit in limits:
        # To the process, a disk that is full at this size.
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            main()
        except SystemExit as end:
            print(end.code, *(name for name in os.listdir() if not name.endswith(".lock")))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Frames of random numbers: 1.5 MB as a store."""
    path = tmp_path_factory.mktemp("source") / "random.extxyz"
    rng = np.random.default_rng(0)
    lattice = "5 0 0 0 5 0 0 0 5"
    with path.open("w") as stream:
        for k in range(300):
            stream.write(
                f'40\nLattice="{lattice}" Properties=species:S:1:pos:R:3:forces:R:3 energy={-k} material_id=m{k}\n'
            )
            for row in rng.normal(size=(40, 6)):
                stream.write(f"C {' '.join(f'{x:.16f}' for x in row)}\n")
    return path


@pytest.fixture(scope="module")
def store(source):
    build([source], source.with_name("whole.h5"), BuildSettings(functional="PBE"))
    return source.with_name("whole.h5")


def test_a_build_on_a_full_disk_ends_with_one_line_and_leaves_nothing(source, store, tmp_path):
    # The disk is full before anything is written, while blocks are written, while the file is closed.
    limits = [int(share * store.stat().st_size) for share in (0.0, 0.01, 0.5, 0.95)]
    command = ["data", "build", source, "--functional", "PBE", "--out", "s.h5", "--workers", "1"]
    script = [sys.executable, "-c", textwrap.dedent(BUILT), ",".join(map(str, limits)), *map(str, command)]
    result = subprocess.run(script, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr  # no segmentation fault at the end either
    assert result.stdout.splitlines() == ["2"] * len(limits)
    errors = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(errors) == len(limits)
    for line in errors:
        assert line.startswith("mlip: error: ")
        assert "File too large" in line


EXPORTED = """
    import resource, sys
    from pathlib import Path

    from mlip.data import Store
    from mlip.data.store_export import export
    from mlip.errors import MlipError

    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    with Store(sys.argv[1]) as store:
        for end in sys.argv[3:]:
            try:
                export(store, Path(sys.argv[2]) / f"out.{end}")
            except MlipError as error:
                print(error)
"""


def test_an_export_to_a_full_disk_ends_with_one_line_and_leaves_nothing(store, tmp_path):
    pytest.importorskip("lmdb")
    ends = ["extxyz", "extxyz.gz", "db", "aselmdb", "lmdb"]
    script = [sys.executable, "-c", textwrap.dedent(EXPORTED), str(store), str(tmp_path), *ends]
    lines = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == len(ends)
    for end, line in zip(ends, lines, strict=True):
        assert f"out.{end}: cannot be written (" in line
        assert "make room" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file/s", "/proc/none/s", "x" * 300, "file/a/b/s"])
def test_a_place_that_cannot_be_is_one_line_for_builds_and_exports(source, store, tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(MlipError, match="cannot be written") as of_build:
        build([source], tmp_path / f"{name}.h5", BuildSettings(functional="PBE"))
    with Store(store) as opened, pytest.raises(MlipError, match="cannot be written") as of_export:
        export(opened, tmp_path / f"{name}.extxyz")
    from mlip.report.store_figures import plot_elements

    with pytest.raises(MlipError, match="cannot be written") as of_plot:
        plot_elements({"Cu": 3}, tmp_path / f"{name}.png", "")
    for error in (of_build, of_export, of_plot):
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("room", [0, 1, 700, 10_000])
def test_what_finds_no_room_can_be_read_again_all_the_same(tmp_path, monkeypatch, room):
    """As a file in memory that has the same fortune."""
    import mlip.data.sink as module

    written = 0

    def pwrite(handle, data, place):
        nonlocal written
        if written >= room:
            raise OSError(28, "No space left on device")
        n = real_pwrite(handle, data[: room - written], place)
        written += n
        return n

    real_pwrite = module.os.pwrite
    monkeypatch.setattr(module.os, "pwrite", pwrite)
    rng = np.random.default_rng(room)
    sink, reference = Sink(tmp_path / "file"), io.BytesIO()
    for _ in range(200):
        place, n = (int(x) for x in rng.integers(0, 300, 2))
        data = rng.bytes(n)
        for file in (sink, reference):
            file.seek(place)
            file.write(data)
        place, n = (int(x) for x in rng.integers(0, 700, 2))
        sink.seek(place)
        reference.seek(place)
        assert sink.read(n) == reference.read(n)
        assert sink.seek(0, 2) == reference.seek(0, 2)
    with pytest.raises(OSError, match="No space left"):
        sink.check()
    sink.close()
