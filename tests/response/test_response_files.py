"""`mlip eos`, `mlip elastic` and `mlip phonons` as a user meets them: files in, records and figures out."""

import json

import ase.io
import pytest
from ase.build import bulk

from mlip.errors import MlipError
from mlip.relaxation.results_file import read_results
from mlip.response import elasticity
from mlip.response.response_files import respond_to_files
from tests.command_line import mlip

EMT = "ase:ase.calculators.emt:EMT"


@pytest.fixture
def files(tmp_path):
    ase.io.write(tmp_path / "copper.cif", bulk("Cu", a=3.65))
    ase.io.write(tmp_path / "two.extxyz", [bulk("Al", a=4.0), bulk("Xe", "fcc", a=6.0)])
    (tmp_path / "torn.cif").write_text("no")
    return [tmp_path / name for name in ("copper.cif", "two.extxyz", "torn.cif")]


@pytest.mark.parametrize("kind", ["eos", "elastic", "phonons"])
def test_every_frame_has_its_record_and_the_last_line_counts_them(files, tmp_path, kind):
    more = ["--min-length", 6] if kind == "phonons" else []
    if more:
        pytest.importorskip("phonopy", reason="needs phonopy: pip install 'alexandria-mlip[phonons]'")
    run = mlip(kind, EMT, *files, "--out", tmp_path / "out", *more)
    assert run.returncode == 1, run.stderr
    assert run.stdout.splitlines()[-1] == "4 structures (4 computed now): 2 ok, 2 error"
    header, records = read_results(tmp_path / "out" / "results.jsonl")
    assert header["response"]["kind"] == kind
    assert header["response"]["dtype"] == "the calculator's"
    records.sort(key=lambda record: record["structure"])
    assert [record["reason"] for record in records] == ["ok", "ok", "error", "error"]
    assert [record["formula"] for record in records] == ["Cu", "Al", "Xe", ""]
    page = tmp_path / "out" / "report.html"
    if kind == "elastic":
        assert not page.exists()
        assert records[0]["bulk_hill"] == pytest.approx(135, abs=2)
        assert len(records[0]["tensor"]) == 6
    else:
        text = page.read_text(encoding="utf-8")
        assert "Cu (copper.cif)" in text
        assert "<svg" in text
        assert "Xe" in text  # the table tells of those without a figure


def test_a_run_goes_on_with_what_is_missing(files, tmp_path, monkeypatch):
    out = tmp_path / "out"
    summary = respond_to_files("elastic", EMT, files, out, progress=False)
    assert summary["computed_now"] == 4
    results = out / "results.jsonl"
    lines = results.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if b'"structure": 1' not in line]
    assert len(kept) == len(lines) - 1
    results.write_bytes(b"".join(kept) + lines[-1][:20])  # a record lost, and one cut short
    asked = []
    computed = elasticity._tensors

    def counted(planned, *rest):
        asked.extend(start.atoms for start, _ in planned)
        return computed(planned, *rest)

    monkeypatch.setattr(elasticity, "_tensors", counted)
    again = respond_to_files("elastic", EMT, files, out, progress=False)
    assert [str(atoms.symbols) for atoms in asked] == ["Al"]
    assert (again["computed_now"], again["structures"]) == (1, 4)
    assert again["records"][1]["tensor"] == summary["records"][1]["tensor"]


def test_results_of_other_options_are_not_mixed(files, tmp_path):
    out = tmp_path / "out"
    respond_to_files("eos", EMT, files[:1], out, progress=False)
    with pytest.raises(MlipError, match=r"another response: fmax is 0.001, not 0.01"):
        respond_to_files("eos", EMT, files[:1], out, fmax=0.01, progress=False)
    with pytest.raises(MlipError, match="another"):
        respond_to_files("elastic", EMT, files[:1], out, progress=False)
    assert respond_to_files("eos", EMT, files[:1], out, fmax=0.01, force=True, progress=False)["computed_now"] == 1


def test_options_come_from_the_command_line_and_mistakes_are_one_line(files, tmp_path):
    out = tmp_path / "out"
    run = mlip("eos", EMT, files[0], "--out", out, "--volumes", "0.95,0.97,0.99,1.01,1.03", "--no-ions", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["reasons"] == {"ok": 1}
    header, (record,) = read_results(out / "results.jsonl")
    assert header["response"]["relax_ions"] is False
    assert len(record["volumes"]) == 5
    for arguments, told in (
        (["eos", "--volumes", "0.9,one"], "--volumes: is '0.9,one'"),
        (["elastic", "--shear-strains", "0.9"], "shear_strains"),
        (["phonons", "--supercell", "2,2"], "supercell"),
        (["elastic", "--dtype", "float32"], "precision"),
    ):
        kind, *options = arguments
        failed = mlip(kind, EMT, files[0], "--out", tmp_path / "none", *options)
        assert failed.returncode == 2
        assert told in failed.stderr
        assert len(failed.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "none").exists()
