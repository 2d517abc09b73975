"""matgl's published M3GNets as an ASE calculator, with the direction of messages that their weights were trained with.

    PYTHONPATH=benchmarks/sides mlip benchmark relaxation "ase:matgl_calculator:calculator?folder=CHECKPOINT" STORE

Checkpoints from before matgl 3.0 learned with atom messages summed at the neighbor of a bond; later releases sum them
at its center and load the old weights without a word. Runs with matgl and its dependencies alone.
"""

import matgl
import torch
from matgl.ext.ase import PESCalculator
from matgl.layers._graph_convolution import M3GNetGraphConv
from matgl.utils.maths import scatter_add


def node_update(self, edge_index, edge_feat, node_feat, rbf, u_per_edge, num_nodes):
    """As `M3GNetGraphConv.node_update_`, summed at the neighbor."""
    center, neighbor = edge_index[0], edge_index[1]
    states = () if u_per_edge is None else (u_per_edge,)
    inputs = torch.hstack([node_feat[center], node_feat[neighbor], edge_feat, *states])
    messages = self.node_update_func(inputs) * self.node_weight_func(rbf)
    return scatter_add(messages, neighbor, dim_size=num_nodes, dim=0)


def calculator(folder: str, threads: int = 1) -> PESCalculator:
    """The potential in a folder of matgl's, saved before its release 3.0."""
    torch.set_num_threads(threads)
    M3GNetGraphConv.node_update_ = node_update
    potential = matgl.load_model(folder)
    potential.eval()
    return PESCalculator(potential, stress_unit="eV/A3", use_voigt=True)
