"""pip's ALIGNN (PyTorch, DGL) for benchmarks/alignn.py; knows nothing of mlip.

python alignn_torch_side.py WEIGHTS.npz --threads 2 --model alignn_atomwise

It makes a network of random weights and writes them, its settings and the elements' vectors beside WEIGHTS.npz, for
the other side to convert.
"""

import argparse
import copy
import json
from pathlib import Path

import dgl
import numpy as np
import torch
from alignn.graphs import Graph
from alignn.models.alignn import ALIGNN, ALIGNNConfig
from alignn.models.alignn_atomwise import ALIGNNAtomWise, ALIGNNAtomWiseConfig
from ase.data import chemical_symbols
from jarvis.core.atoms import Atoms
from jarvis.core.specie import get_node_attributes
from protocol import Job, serve, versions

SETTINGS = {"neighbor_strategy": "k-nearest", "cutoff": 8.0, "max_neighbors": 12}
PUBLISHED = {
    "alignn_layers": 4,
    "gcn_layers": 4,
    "atom_input_features": 92,
    "embedding_features": 64,
    "hidden_features": 256,
    "calculate_gradient": True,
    "graphwise_weight": 1.0,
    "gradwise_weight": 0.0,
    "stresswise_weight": 0.0,
    "atomwise_weight": 0.0,
    "energy_mult_natoms": False,
    "force_mult_natoms": False,
    "add_reverse_forces": False,
    "use_cutoff_function": False,
    "lg_on_fly": False,
    "use_penalty": False,
}
"""The configuration that the authors of the paper published, without the penalty on bonds shorter than 1 A: the code
adds the sum over a batch to every crystal of it."""


def network_of(name: str) -> tuple[torch.nn.Module, dict]:
    torch.manual_seed(0)
    if name == "alignn":
        config = ALIGNNConfig(name="alignn")
        return ALIGNN(config), config.model_dump()
    config = ALIGNNAtomWiseConfig(name=name, **PUBLISHED)
    return ALIGNNAtomWise(config), config.model_dump()


def write(network: torch.nn.Module, model: dict, weights: Path) -> None:
    np.savez(weights, **{name: tensor.detach().numpy() for name, tensor in network.state_dict().items()})
    weights.with_name(weights.name.replace("_weights.npz", "_config.json")).write_text(
        json.dumps(SETTINGS | {"model": model}, default=str)
    )
    vectors = {}
    for z in range(1, 95):
        symbol = chemical_symbols[z]
        vectors[symbol] = [float(x) for x in get_node_attributes(symbol, atom_features="cgcnn")]
    weights.with_name("vectors.json").write_text(json.dumps(vectors))
    torch.save(network.state_dict(), weights.with_name("best_model.pt"))
    weights.with_name("config.json").write_text(json.dumps(SETTINGS | {"model": model}, default=str))


def read_structures(path: str) -> tuple[list[Atoms], torch.Tensor]:
    content = json.loads(Path(path).read_text())
    atoms = [
        Atoms(lattice_mat=one["cell"], coords=one["positions"], elements=one["symbols"], cartesian=True)
        for one in content["structures"]
    ]
    return atoms, torch.tensor(content["targets"], dtype=torch.float32)


def graph_of(atoms: Atoms):
    return Graph.atom_dgl_multigraph(
        atoms,
        neighbor_strategy="k-nearest",
        cutoff=SETTINGS["cutoff"],
        max_neighbors=SETTINGS["max_neighbors"],
        atom_features="cgcnn",
        compute_line_graph=True,
        use_canonize=True,
    )


def batched(path: str):
    atoms, targets = read_structures(path)
    pairs = [graph_of(one) for one in atoms]
    lattices = torch.tensor(np.array([one.lattice_mat for one in atoms]), dtype=torch.float32)
    graph, lines = dgl.batch([g for g, _ in pairs]), dgl.batch([lg for _, lg in pairs])
    sizes = {
        "edges": [g.num_edges() for g, _ in pairs],
        "lengths": [float(torch.norm(g.edata["r"], dim=1).mean()) for g, _ in pairs],
        "cosines": [float((lg.edata["h"] ** 2).mean()) for _, lg in pairs],
    }
    return [graph, lines, lattices], targets, sizes


def output_of(network, batch) -> torch.Tensor:
    out = network(batch)
    return torch.squeeze(out["out"] if isinstance(out, dict) else out)


def graphs(network, path: str) -> Job:
    """From structures to graphs and line graphs."""
    atoms, _ = read_structures(path)

    def run():
        return [graph_of(one) for one in atoms]

    return Job(run, {"edges": [g.num_edges() for g, _ in run()]})


def forward(network, path: str) -> Job:
    """The network on a batch that is ready."""
    batch, _, sizes = batched(path)
    network.eval()

    def run() -> np.ndarray:
        with torch.no_grad():
            return output_of(network, batch).numpy()

    return Job(run, {"output": run()} | sizes)


def train(network, path: str) -> Job:
    """A step: forward, L1 loss, backward, AdamW."""
    batch, targets, sizes = batched(path)
    network = copy.deepcopy(network).train()  # that of the other jobs stays as it is
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, weight_decay=1e-5)
    with torch.no_grad():
        found = output_of(network, batch)

    def run() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.l1_loss(output_of(network, batch), targets)
        loss.backward()
        optimizer.step()
        return float(loss)

    return Job(run, {"output": found.numpy()} | sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--model", default="alignn_atomwise", choices=["alignn", "alignn_atomwise"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network, model = network_of(options.model)
    write(network, model, options.weights)
    introduction = {
        "versions": versions("alignn", "dgl", "torch", "jarvis-tools", "numpy"),
        "threads": options.threads,
        "device": "cpu",
    }
    tasks = (graphs, forward, train)
    serve({task.__name__: lambda path, t=task: t(network, path) for task in tasks}, introduction)


if __name__ == "__main__":
    main()
