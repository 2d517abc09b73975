"""A real OPTIMADE server (package `optimade`, in-memory database) with the structures of a file, for the tests.

python optimade_server.py PAGE.json[.gz] PORT
"""

import datetime
import gzip
import json
import logging
import os
import sys
import tempfile
from pathlib import Path

FIELDS = [
    "xc_functional",
    "energy",
    "energy_corrected",
    "formation_energy_per_atom",
    "hull_distance",
    "forces",
    "stress_tensor",
    "magnetic_moments",
    "space_group",
    "band_gap",
    "band_gap_direct",
    "dos_ef",
    "magnetization",
    "prototype_id",
]


def main(path: Path, port: int) -> None:
    config = {
        "insert_test_data": False,
        "database_backend": "mongomock",
        "page_limit_max": 20,
        "provider": {"prefix": "alexandria", "name": "Alexandria", "description": "A test", "homepage": None},
        "provider_fields": {"structures": FIELDS},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        os.environ["OPTIMADE_CONFIG_FILE"] = file.name
        import uvicorn
        from optimade.server.main import app
    with (gzip.open if path.suffix == ".gz" else open)(path) as stream:
        structures = json.load(stream)["data"]
    app.state.entry_collections["structures"].insert([as_row(structure) for structure in structures])
    logging.disable()
    print("ready", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical")


def as_row(structure: dict) -> dict:
    """As the server's database holds it: its own fields without their prefix."""
    attributes = {key.removeprefix("_alexandria_"): value for key, value in structure["attributes"].items()}
    times = {"last_modified": datetime.datetime(2023, 11, 16)}
    return attributes | times | {"id": structure["id"], "type": "structures", "relationships": {}}


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
