"""Our side of benchmarks/cgat.py: a CGAT on one prototype with many assignments of elements, or on any crystals.

python cgat_side.py MODEL.safetensors --threads 2
"""

import argparse
from pathlib import Path

import ase.io
import jax
import numpy as np
from protocol import Job, serve, versions

from mlip.graph.prototype import Prototype
from mlip.property_model import PropertyModel, property_outputs
from mlip.runtime import set_up_jax


def forward(model: PropertyModel, structures: str) -> Job:
    """The network on a batch that is ready: crystals of the file, all of the first one's prototype."""
    crystals = ase.io.read(structures, ":")
    batch = Prototype.of(crystals[0]).batch(assignments(crystals))
    batch, params = jax.device_put(batch), model.cast("float32")
    program = property_outputs.lower(model.model, params, batch).compile()
    return Job(lambda: np.asarray(program(params, batch)), {"output": np.asarray(program(params, batch))})


def predict_prototype(model: PropertyModel, structures: str) -> Job:
    """From atomic numbers to the property, in batches of the library's size."""
    crystals = ase.io.read(structures, ":")
    prototype, numbers = Prototype.of(crystals[0]), assignments(crystals)
    return Job(
        lambda: model.predict_prototype(prototype, numbers), {"property": model.predict_prototype(prototype, numbers)}
    )


def predict(model: PropertyModel, structures: str) -> Job:
    """From atoms to the property, neighbor lists included."""
    crystals = ase.io.read(structures, ":")
    return Job(lambda: model.predict(crystals), {"property": model.predict(crystals)})


def assignments(crystals) -> np.ndarray:
    """Of each crystal, the atomic numbers of its sites in order of appearance."""
    first = np.sort(np.unique(crystals[0].numbers, return_index=True)[1])
    return np.array([crystal.numbers[first] for crystal in crystals])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, required=True, help="how many cores this process is pinned to")
    options = parser.parse_args()
    set_up_jax()
    model = PropertyModel.load(options.model)
    introduction = {
        "versions": versions("alexandria-mlip", "jax", "jaxlib", "numpy"),
        "threads": options.threads,
        "device": jax.devices()[0].device_kind,
    }
    tasks = (forward, predict_prototype, predict)
    serve({task.__name__: lambda path, t=task: t(model, path) for task in tasks}, introduction)


if __name__ == "__main__":
    main()
