"""The other side of benchmarks/crabnet.py: CrabNet in PyTorch, as pip's `crabnet` has it.

python crabnet_torch_side.py WEIGHTS.npz --threads 2

Runs with PyTorch, pip's crabnet and what that imports. The network, its losses and its optimizer are the package's own.
Three things that the package misses are given: its own name in capitals, by which its modules import each other; the
file of the elements' vectors; and the hooks that optimizers of PyTorch 2 have. The weights are its own random ones;
they are written for the other side.
"""

import argparse
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from protocol import Job, serve, versions

matplotlib.use("Agg")
ELEMENTS, VECTOR = 118, 200


def import_peer(vectors: np.ndarray, features: int = 512):
    """The network with these vectors of the elements, (118, v), and the classes of its optimizer and loss."""
    import crabnet

    sys.modules["CrabNet"] = crabnet
    read_csv, pd.read_csv = pd.read_csv, lambda *_, **__: pd.DataFrame(vectors)
    from crabnet.kingcrab import CrabNet
    from crabnet.utils.utils import Lamb, Lookahead, RobustL1

    Lookahead._optimizer_step_pre_hooks = Lookahead._optimizer_step_post_hooks = {}
    torch.manual_seed(42)
    model = CrabNet(d_model=features, compute_device="cpu")
    pd.read_csv = read_csv
    return model, Lamb, Lookahead, RobustL1


def read(path: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Atomic numbers, fractions and targets, as the package's loader gives them."""
    arrays = np.load(path)
    return (
        torch.as_tensor(arrays["species"], dtype=torch.long),
        torch.as_tensor(arrays["fractions"]),
        torch.as_tensor(arrays["targets"]),
    )


def forward(model, path: str) -> Job:
    species, fractions, _ = read(path)
    model.eval()

    def run() -> torch.Tensor:
        with torch.no_grad():
            return model(species, fractions)

    return Job(run, {"output": run().numpy()})


def train(model, optimizer, robust_l1, path: str) -> Job:
    """A step of the package's loop: noise on fractions, forward, loss, backward, LAMB with look-ahead."""
    species, fractions, targets = read(path)

    def loss_of(fractions: torch.Tensor) -> torch.Tensor:
        prediction, uncertainty = model(species, fractions).chunk(2, dim=-1)
        return robust_l1(prediction.view(-1), uncertainty.view(-1), targets)

    model.eval()
    with torch.no_grad():
        at_start = loss_of(fractions).item()
    model.train()

    def run() -> float:
        noisy = torch.clamp(fractions * (1 + torch.randn_like(fractions) * 0.02), 0, 1)
        noisy[species == 0] = 0
        noisy = noisy / noisy.sum(dim=1).unsqueeze(1).repeat(1, noisy.shape[-1])
        loss = loss_of(noisy)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return Job(run, {"loss": at_start})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="written here")
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    random_vectors = np.random.default_rng(0).normal(size=(ELEMENTS, VECTOR)) * VECTOR**-0.5
    model, lamb, lookahead, robust_l1 = import_peer(random_vectors)
    np.savez(options.weights, **{name: tensor.numpy() for name, tensor in model.state_dict().items()})
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def train_from_start(path: str) -> Job:
        model.load_state_dict(start)
        return train(model, lookahead(base_optimizer=lamb(params=model.parameters(), lr=1e-4)), robust_l1, path)

    def forward_from_start(path: str) -> Job:
        model.load_state_dict(start)
        return forward(model, path)

    introduction = {"versions": versions("torch", "crabnet", "numpy"), "threads": torch.get_num_threads()}
    serve({"forward": forward_from_start, "train": train_from_start}, introduction)


if __name__ == "__main__":
    main()
