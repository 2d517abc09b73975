"""What a newcomer meets: an empty environment, the wheel alone, no network for weights; every step timed.

    python benchmarks/wheel_smoke.py --weights .../goldens/m3gnet/checkpoint --out benchmarks/results/wheel_smoke.md

A crystal is relaxed by the default potential, with $MLIP_OFFLINE set: twice, the second time with its programs cached.
With --weights, a published potential is loaded by name as well: its files are offered by a server on this machine
($MLIP_MIRROR), which is gone after the first `mlip.load`, so their publisher is not asked. They are needed as long as
the default potential is that one, and does not come with mlip. The packages come from whatever index pip is set to.
Exit status 1 when a step fails, or the wheel is larger than it may be.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from side_by_side import machine

from mlip.pretrained import default_potential, find

ROOT = Path(__file__).parents[1]
PUBLISHED = "m3gnet-mp-2021.2.8"
LARGEST = 8_000_000
"""Bytes of the wheel."""
CIF = """data_NaCl
_cell_length_a 5.75
_cell_length_b 5.75
_cell_length_c 5.75
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na 0 0 0
Cl1 Cl 0.5 0.5 0.5
"""
LOAD = "import mlip; print(mlip.load({!r}))"
PIP = "pip install WHEEL"
FIRST = "mlip relax NaCl.cif, by the default"
ENVIRONMENT = "python -m venv"


class Step(NamedTuple):
    """A command and what became of it."""

    title: str
    seconds: float
    status: int
    last_line: str


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def timed(title: str, command: list, folder: Path, environment: dict[str, str]) -> Step:
    started = time.perf_counter()
    run = subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    lines = (run.stdout.strip() if run.returncode == 0 else run.stderr.strip()).splitlines()
    step = Step(title, seconds, run.returncode, lines[-1].strip() if lines else "")
    print(f"{step.title}: {step.seconds:.1f} s, exit status {step.status}: {step.last_line[:120]}", flush=True)
    return step


def serve(folder: Path) -> ThreadingHTTPServer:
    """A server of the folder's files, running."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def published(folder: Path, weights: Path, python: Path, bare: dict[str, str]) -> list[Step]:
    """A published potential by name: from a server, then without it."""
    (folder / "offered").mkdir()
    (folder / "offered" / PUBLISHED).symlink_to(weights.resolve())
    command = [python, "-c", LOAD.format(PUBLISHED)]
    server = serve(folder / "offered")
    mirrored = bare | {"MLIP_MIRROR": f"http://127.0.0.1:{server.server_port}"}
    steps = [timed("mlip.load(name), fetched and converted", command, folder, mirrored)]
    server.shutdown()
    server.server_close()
    offline = bare | {"MLIP_OFFLINE": "1"}
    return [*steps, timed("mlip.load(name) again, without a network", command, folder, offline)]


def newcomer(folder: Path, weights: Path | None) -> list[Step]:
    """All steps, in a folder that is empty before."""
    bare = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    bare |= {"MLIP_CACHE": str(folder / "cache"), "NO_PROXY": "127.0.0.1"}
    environment = folder / "environment"
    python, mlip = environment / "bin/python", environment / "bin/mlip"
    (folder / "NaCl.cif").write_text(CIF)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT]
    steps = [timed("building the wheel", build, folder, bare)]
    steps.append(timed(ENVIRONMENT, [sys.executable, "-m", "venv", environment], folder, bare))
    (wheel,) = folder.glob("alexandria_mlip-*.whl")
    steps.append(weighed(wheel))
    steps.append(timed(PIP, [python, "-m", "pip", "install", "-q", wheel], folder, bare))
    steps.append(timed("mlip models", [mlip, "models"], folder, bare))
    if weights is not None:
        steps += published(folder, weights, python, bare)
    offline = bare | {"MLIP_OFFLINE": "1"}
    steps.append(timed(FIRST, [mlip, "relax", "NaCl.cif"], folder, offline))
    again = [mlip, "relax", "NaCl.cif", "--out", "again"]
    steps.append(timed("mlip relax NaCl.cif again, programs cached", again, folder, offline))
    return [*steps, timed("mlip.load() in Python", [python, "-c", "import mlip; print(mlip.load())"], folder, offline)]


def weighed(wheel: Path) -> Step:
    """The size of the wheel, as a step that fails if it is too large."""
    size = wheel.stat().st_size
    step = Step("the wheel's size", 0.0, int(size > LARGEST), f"{size / 1e6:.1f} MB, at most {LARGEST / 1e6:.0f}")
    print(f"{step.title}: {step.last_line}", flush=True)
    return step


def from_nothing(steps: list[Step]) -> float:
    """Seconds from an empty folder, the wheel at hand, to a relaxed crystal."""
    return sum(step.seconds for step in steps if step.title in (ENVIRONMENT, PIP, FIRST))


def as_markdown(steps: list[Step], facts: dict) -> str:
    rows = [f"| {s.title} | {s.seconds:.1f} | {s.last_line.replace('|', '/')[:100]} |" for s in steps]
    seconds = f"{from_nothing(steps):.1f} s (environment, pip, first relaxation)"
    told = ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in facts.items())
    return "\n".join(
        [
            "# From an empty environment to a relaxed crystal",
            "",
            f"`benchmarks/wheel_smoke.py`: the wheel alone; the default potential is {default_potential()}. "
            f"{told}; Python {sys.version.split()[0]}.",
            "",
            f"From an empty folder to a relaxed crystal: {seconds}.",
            "",
            "| step | s | its last line |",
            "|---|---:|---|",
            *rows,
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help=f"the published checkpoint's folder of {PUBLISHED}")
    parser.add_argument("--out", type=Path, help="write the table here as Markdown")
    options = parser.parse_args()
    if options.weights is None and not find(default_potential()).source.bundled:
        parser.error("the default potential does not come with mlip: --weights")
    facts = machine()
    with tempfile.TemporaryDirectory() as name:
        steps = newcomer(Path(name), options.weights)
        text = as_markdown(steps, facts).replace(name, "FOLDER")
    if options.out:
        options.out.write_text(text)
    return int(any(step.status for step in steps))


if __name__ == "__main__":
    raise SystemExit(main())
