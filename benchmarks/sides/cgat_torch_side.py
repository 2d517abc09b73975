"""The other side of benchmarks/cgat.py: CGAT's forward pass in PyTorch, edge by edge, as its authors released it.

python cgat_torch_side.py WEIGHTS.npz --threads 2 [--without-dead-nets]

Written from the equations of hyllios/CGAT @ 0a5d340 (MIT), with its names of parameters: every edge of every crystal is
an own row, and the networks of the edge module, whose result the released code throws away, are run as it runs them.
What it does by grouped convolutions over repeated inputs is one matrix product here, which is faster. The weights are
random and always the same; they are written for the other side.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from protocol import Job, serve, versions
from torch import nn
from torch.nn.functional import layer_norm, leaky_relu

F, D, HEADS, K, STEPS, ROOST_STEPS = 128, 512, 6, 24, 5, 3
HIDDEN = int((2 * F + D) / 1.5)
OUTPUT = [1024, 1024, 512, 512, 256, 256, 128]
VECTOR = 200


def segment_sum(rows, index, n):
    return rows.new_zeros(n, *rows.shape[1:]).index_add_(0, index, rows)


def segment_softmax(scores, index, n):
    expanded = index.view(-1, *[1] * (scores.dim() - 1)).expand_as(scores)
    largest = scores.new_full((n, *scores.shape[1:]), -torch.inf)
    largest = largest.scatter_reduce(0, expanded, scores, "amax", include_self=True)
    weights = torch.exp(scores - largest[index])
    return weights / (segment_sum(weights, index, n)[index] + 1e-16)


class Convolution(nn.Module):
    """Holds weight and bias of a grouped convolution with kernel size one."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(n_out, n_in, 1)), nn.Parameter(torch.empty(n_out))


class MultiHead(nn.Module):
    def __init__(self, n_in, hidden, n_out):
        super().__init__()
        self.fc_in, self.fc_out = Convolution(n_in, HEADS * hidden), Convolution(hidden, HEADS * n_out)

    def forward(self, z):
        hidden = leaky_relu(torch.addmm(self.fc_in.bias, z, self.fc_in.weight[..., 0].T), 0.01, inplace=True)
        hidden = hidden.view(len(z), HEADS, -1).transpose(0, 1)
        kernel = self.fc_out.weight[..., 0].view(HEADS, -1, hidden.shape[-1])
        out = torch.bmm(hidden, kernel.transpose(1, 2)).transpose(0, 1)
        return out + self.fc_out.bias.view(HEADS, -1)


class Simple(nn.Module):
    def __init__(self, n_in, hidden, n_out):
        super().__init__()
        self.fcs, self.fc_out = nn.ModuleList([nn.Linear(n_in, hidden)]), nn.Linear(hidden, n_out)

    def forward(self, x):
        return self.fc_out(leaky_relu(self.fcs[0](x), 0.01))


class Layer(nn.Module):
    """One linear layer in the place where the released code has it."""

    def __init__(self):
        super().__init__()
        self.net = nn.ModuleList([nn.Linear(F, F)])


class Predictor(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.ModuleList([*(Layer() for _ in range(4)), nn.Linear(F, F * F + F)])

    def forward(self, u, x):
        for layer in self.net[:4]:
            u = torch.tanh(layer.net[0](u))
        raw = self.net[4](u)
        return torch.bmm(raw[:, : F * F].view(-1, F, F), x[:, :, None])[..., 0] + raw[:, F * F :]


class Target(nn.Module):
    def __init__(self, is_last):
        super().__init__()
        if is_last:
            self.hypo_params = Predictor()
        else:
            self.hyper_linear = nn.Module()
            self.hyper_linear.hypo_params = Predictor()

    def forward(self, u, x):
        if hasattr(self, "hypo_params"):
            return self.hypo_params(u, x)
        return torch.tanh(layer_norm(self.hyper_linear.hypo_params(u, x), (F,)))


class Hypernetwork(nn.Module):
    def __init__(self, is_first):
        super().__init__()
        self.Hyper = nn.Module()
        self.Hyper.layers = nn.ModuleList(Target(k == 3) for k in range(4))
        if not is_first:
            self.damping = nn.Parameter(torch.empty(1))

    def forward(self, initial, arrived):
        u = initial
        if hasattr(self, "damping"):
            damping = self.damping.clamp(0, 1)
            u = damping * initial + (1 - damping) * arrived
        for layer in self.Hyper.layers:
            arrived = layer(u, arrived)
        return arrived


class Message(nn.Module):
    """A node or an edge module: two multi-head nets and what follows them."""

    def __init__(self, width, pooling):
        super().__init__()
        self.MH_A, self.MH_M = MultiHead(2 * F + D, HIDDEN, width), MultiHead(2 * F + D, HIDDEN, width)
        self.Pooling_NN = pooling


class Step(nn.Module):
    def __init__(self, is_first):
        super().__init__()
        self.Node, self.Edge = Message(F, Hypernetwork(is_first)), Message(D, Simple(D, D, D))

    def forward(self, x, e, initial, center, neighbor, with_dead_nets):
        z = torch.cat([x[neighbor], e, x[center]], 1)
        weights = segment_softmax(self.Node.MH_A(z), neighbor, len(x))
        arrived = segment_sum(weights * self.Node.MH_M(z), neighbor, len(x)).mean(1)
        change = self.Node.Pooling_NN(initial, arrived)
        if with_dead_nets:
            z = torch.cat([x[center], e, x[neighbor]], 1)
            weights = torch.exp(self.Edge.MH_A(z))
            _ = (weights / weights.sum(1, keepdim=True) * self.Edge.MH_M(z)).mean(1)
        return x + change, e + self.Edge.Pooling_NN(e)


class WeightedAttention(nn.Module):
    def __init__(self, n_in, has_messages):
        super().__init__()
        self.gate_nn = Simple(n_in, 256, 1)
        if has_messages:
            self.message_nn = Simple(n_in, 256, F)
        self.pow = nn.Parameter(torch.empty(1))

    def forward(self, z, rows, weights, index, n):
        scores = self.gate_nn(z)
        largest = scores.new_full((n, 1), -torch.inf).scatter_reduce(0, index[:, None], scores, "amax")
        scores = weights**self.pow * torch.exp(scores - largest[index])
        return segment_sum(scores / (segment_sum(scores, index, n)[index] + 1e-13) * rows, index, n)


class RoostStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.pooling = nn.ModuleList([WeightedAttention(2 * F, True)])


class Roost(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Linear(VECTOR, F - 1)
        self.graphs = nn.ModuleList(RoostStep() for _ in range(ROOST_STEPS))
        self.cry_pool = nn.ModuleList([WeightedAttention(F, False)])

    def forward(self, vectors, weights, self_index, other, crystal, n):
        rows = torch.cat([self.embedding(vectors), weights], 1)
        for step in self.graphs:
            pool = step.pooling[0]
            z = torch.cat([rows[self_index], rows[other]], 1)
            rows = rows + pool(z, pool.message_nn(z), weights[other], self_index, len(rows))
        return self.cry_pool[0](rows, rows, weights, crystal, n)


class Output(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [HEADS * F, *OUTPUT]
        pairs = list(zip(widths, OUTPUT, strict=False))
        self.fcs = nn.ModuleList(nn.Linear(*pair) for pair in pairs)
        self.res_fcs = nn.ModuleList(nn.Linear(*p, bias=False) if p[0] != p[1] else nn.Identity() for p in pairs)
        self.rezeros = nn.ModuleList()
        for _ in pairs:
            rezero = nn.Module()
            rezero.alpha = nn.Parameter(torch.empty(1))
            self.rezeros.append(rezero)
        self.fc_out = nn.Linear(OUTPUT[-1], 2)

    def forward(self, x):
        for layer, kept, rezero in zip(self.fcs, self.res_fcs, self.rezeros, strict=True):
            x = rezero.alpha * torch.relu(layer(x)) + kept(x)
        return self.fc_out(x)


class CrystalPool(nn.Module):
    def __init__(self):
        super().__init__()
        self.MH_A, self.MH_M = MultiHead(2 * F, F, F), MultiHead(F, F, F)

    def forward(self, x, composition, crystal):
        weights = segment_softmax(self.MH_A(torch.cat([x, composition[crystal]], 1)), crystal, len(composition))
        return segment_sum(weights * self.MH_M(x), crystal, len(composition)).flatten(1)


class CGAT(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Linear(VECTOR, F, bias=False)
        self.nbr_embedding = nn.Embedding(K + 1, D)
        self.graphs = nn.ModuleList(Step(step == 0) for step in range(STEPS))
        self.roost, self.cry_pool, self.output_nn = Roost(), CrystalPool(), Output()

    def forward(self, batch, with_dead_nets):
        x = initial = self.embedding(batch["x"])
        e = self.nbr_embedding(batch["shell"])
        for step in self.graphs:
            x, e = step(x, e, initial, batch["center"], batch["neighbor"], with_dead_nets)
        n = int(batch["n_crystals"])
        composition = self.roost(
            batch["vectors"], batch["weights"], batch["self"], batch["other"], batch["crystal_of_element"], n
        )
        return self.output_nn(self.cry_pool(x, composition, batch["crystal_of_atom"]))


def randomize(network: nn.Module) -> None:
    """Uniform, with unit gain; scalars such as damping between 0.2 and 0.8."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.dim() >= 2:
            bound = (3 / parameter[0].numel()) ** 0.5
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        elif name.endswith("bias"):
            nn.init.uniform_(parameter, -0.1, 0.1, generator=generator)
        else:
            nn.init.uniform_(parameter, 0.2, 0.8, generator=generator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="written")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--without-dead-nets", action="store_true", help="leave out what the released code throws away")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = CGAT()
    randomize(network)
    np.savez(options.weights, **{name: tensor.numpy() for name, tensor in network.state_dict().items()})
    network.to(device)

    def forward(path: str) -> Job:
        batch = {name: torch.from_numpy(array).to(device) for name, array in np.load(path).items()}

        def run():
            return network(batch, not options.without_dead_nets).cpu()

        return Job(run, {"output": run().numpy()})

    introduction = {
        "versions": versions("torch", "numpy"),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }
    serve({"forward": forward}, introduction)


if __name__ == "__main__":
    main()
