"""Every script of benchmarks/ still runs: at tiny size, our side alone, without the peers that it is for."""

import importlib
import importlib.util
import json
import os
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from mlip.data.store_export import as_atoms
from mlip.models.m3gnet import M3GNetConfig
from tests.emt_world import emt_frames

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from random_potential import random_potential
from roofline import Limits

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = M3GNetConfig(units=4, n_blocks=1, max_n=2, max_l=2)
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("*.py") if "argparse" in path.read_text())
SIMPLE = {
    "hull": "--references 400 --candidates 20 --workers 1 --sample 2 --out OUT.json",
    "data_build": "--megabytes 0.2 --workers 1 --repeats 1 --out OUT.json",
    "packing": "--data CRYSTALS --batch-sizes 2 --out OUT.json",
    "store": "--frames 300 --filter-frames 100 --index-frames 2000 --reads 20 --processes 1 --out OUT.json",
    "loader": "--frames 600 --workers 0 --blocks 1 --rounds 1 --seconds 0.01 --out OUT.json",
    "cubic": "POTENTIAL --steps 1 --dtype float32 --out OUT.md",
    "optimizers": "POTENTIAL CRYSTALS --count 2 --max-calls 2 --only LBFGS --out OUT.jsonl",
    "roofline": "POTENTIAL CRYSTALS --batch 2 --out OUT.json",
    "training_speed": "CRYSTALS --models tiny --precisions tf32 --batch 2 --repeats 1 --out OUT.json",
    "cost": "CRYSTALS --crystals 2 --repeats 1 --seconds 0 --out OUT.json",
    "gpu": "--small --only limits properties --out OUT",
    "lowered": "--only CGAT --out OUT.md",
    "many_structures": "--potential POTENTIAL --structures 2 --most-atoms 8 --ways predict --out OUT.md",
    "fusion": "--potential POTENTIAL --data CRYSTALS --steps 1 --out OUT.json",
    "m3gnet": "--data CRYSTALS --weights POTENTIAL --parts predict --repeats 1 --seconds 0 --out OUT.json",
    "mattersim": "--data CRYSTALS --weights POTENTIAL --parts predict --repeats 1 --seconds 0 --out OUT.json",
    "default_potential": "FOLDER POTENTIAL --out OUT.md",
    "uncertainty": "cost POTENTIAL --structures CRYSTALS --n 2 --repeats 1 --out OUT.md",
    "response": "--potential POTENTIAL --data LABELED --crystals 1 --rounds 1 --steps 2 --only-ours --parts elasticity"
    " --out OUT.json",
    "nequip": "--data CRYSTALS --weights POTENTIAL --parts predict model --repeats 1 --seconds 0 --out OUT.json",
}
"""Arguments of the scripts that need no more than crystals and a potential."""
SLOW = ("training_speed", "fusion", "many_structures")
"""Compile training steps, one for each precision; start processes."""
SMALLER = {
    "roofline": {"MATMUL_SIZES": (64,), "COPY_MEGABYTES": (1,), "LOGISTIC_MEGABYTES": (1,)},
    "training_speed": {"MATMUL_SIZES": (64,), "MODELS": {"tiny": TINY}},
    "cost": {"MODELS": {"tiny": TINY}},
    "packing": {"WINDOW": 16},
    "m3gnet": {"BATCH_SIZES": (2,)},
    "mattersim": {"BATCH": 2},
    "nequip": {"BATCH": 2},
    "default_potential": {"SETS": {"metals": "crystals.extxyz"}},
    "loader": {"BATCH_SIZE": 16},
    "gpu": {"measure_limits": lambda: Limits(1e9, 1e9, 1e9)},
}
"""Constants of the scripts that make a run long."""


def load(script: str):
    """The script as a module; under another name those that have a package's: mace-torch's, mattersim's, nequip's."""
    if script not in ("mace", "mattersim", "nequip"):
        return importlib.import_module(script)
    spec = importlib.util.spec_from_file_location(f"benchmark_of_{script}", BENCHMARKS / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script: str, arguments: list[str], monkeypatch) -> int:
    """The exit status of the script's `main`; cores that it pins itself to are given back."""
    module, cores = load(script), os.sched_getaffinity(0)
    for name, value in SMALLER.get(script, {}).items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    try:
        return int(module.main() or 0)
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        os.sched_setaffinity(0, cores)


@pytest.fixture(scope="module")
def crystals(tmp_path_factory) -> Path:
    """Labeled, small, of four metals."""
    path = tmp_path_factory.mktemp("crystals") / "crystals.extxyz"
    ase.io.write(path, [as_atoms(frame, {}) for frame in emt_frames(24, seed=1)])
    assert isinstance(ase.io.read(path, 0).calc, SinglePointCalculator)
    return path


@pytest.fixture(scope="module")
def potential(tmp_path_factory) -> Path:
    return random_potential(TINY).save(tmp_path_factory.mktemp("potential") / "tiny.safetensors")


@pytest.fixture(scope="module")
def labeled(tmp_path_factory) -> Path:
    """A crystal with a bulk modulus, in matcalc's form."""
    path = tmp_path_factory.mktemp("labeled") / "labeled.json"
    lattice = [[0.0, 1.8, 1.8], [1.8, 0.0, 1.8], [1.8, 1.8, 0.0]]
    record = {"mp_id": "mp-30", "lattice": lattice, "species": ["Cu"], "frac_coords": [[0, 0, 0]]}
    path.write_text(json.dumps([record | {"bulk_modulus_vrh": 145.0}]))
    return path


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_knows_its_options(script, monkeypatch, capsys):
    assert run(script, ["--help"], monkeypatch) == 0
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    "script", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in SIMPLE]
)
def test_a_script_runs_at_tiny_size(script, crystals, labeled, potential, tmp_path, monkeypatch):
    places = {
        "CRYSTALS": str(crystals),
        "LABELED": str(labeled),
        "FOLDER": str(crystals.parent),
        "POTENTIAL": str(potential),
    }
    arguments = [places.get(word, word.replace("OUT", str(tmp_path / "out"))) for word in SIMPLE[script].split()]
    assert run(script, arguments, monkeypatch) == 0
    (out,) = [path for path in map(Path, arguments) if path.stem == "out"]
    assert out.stat().st_size


def test_a_hull_is_made_once_and_grows_in_the_next_call(tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    arguments = f"--grow {tmp_path / 'hull.npz'} --references 500 --added 30 --workers 1 --sample 3 --out {out}".split()
    assert run("hull", arguments, monkeypatch) == 0
    assert not out.exists()
    assert run("hull", arguments, monkeypatch) == 0
    figures = json.loads(out.read_text())
    assert (figures["entries"], figures["added"]) == (500, 30)
    assert figures["largest difference to pymatgen, eV/atom"] < 1e-9


@pytest.mark.slow
def test_all_of_the_gpu_kit_runs_on_a_cpu(tmp_path, monkeypatch):
    assert run("gpu", ["--small", "--out", str(tmp_path)], monkeypatch) == 0
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    parts = {"parity", "limits", "inference", "training", "relaxation", "feeding", "properties"}
    assert {row["part"] for row in rows} == parts
    assert not [row for row in rows if row["case"] in ("failed", "not begun")]
    assert all(row["eV/atom"] < 1e-6 for row in rows if "eV/atom" in row)


def test_results_of_the_original_are_compared_with_ours_and_a_difference_is_told_by_the_exit_status(
    tmp_path, monkeypatch, capsys
):
    energies = np.linspace(-8.0, -7.0, 5)
    ours = [
        {
            "id": f"m{k}",
            "n_atoms": 2,
            "dft_energy": energy,
            "dft_volume": 30.0,
            "energy": energy,
            "volume": 30.0,
            "n_steps": 3,
        }
        for k, energy in enumerate(energies)
    ]
    results, reference = tmp_path / "results.jsonl", tmp_path / "reference.jsonl"
    results.write_text("".join(json.dumps(line) + "\n" for line in ({"mlip_results": 1}, *ours)))

    def status(shift: float) -> int:
        theirs = [{"id": r["id"], "energy": r["energy"] + shift, "volume": 30.0, "steps": 3} for r in ours]
        reference.write_text("".join(json.dumps(line) + "\n" for line in theirs))
        return run("relaxation_parity", [str(results), str(reference)], monkeypatch)

    assert status(0.0) == 0
    assert status(0.5) != 0


def test_sides_that_end_in_other_minima_are_a_fault():
    relax = load("relax")
    agreement = {"converged_on_both": 9, "same_energy": 9, "median_gap_ev_atom": 3e-7}
    assert relax.faults([{"options": {}, "agreement": agreement}]) == []
    for gap in (0.02, None, float("nan")):
        (fault,) = relax.faults([{"options": {}, "agreement": agreement | {"median_gap_ev_atom": gap}}])
        assert "eV/atom in the median" in fault or "no crystal converged" in fault


def test_outputs_that_differ_are_a_fault_of_the_prototype():
    cgat = load("cgat")
    times = {"ours": {"median_ms": 1.0}, "released": {"error": "outputs of ours and released differ by 0.1"}}
    (fault,) = cgat.faults([{"prototype": "rock salt", "times": times}])
    assert fault == "rock salt: released: outputs of ours and released differ by 0.1"
