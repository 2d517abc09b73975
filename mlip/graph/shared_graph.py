"""The graph that all crystals of a prototype share, of the kind that a model reads."""

from ase import Atoms

from mlip.data.records import Frame
from mlip.errors import MlipError
from mlip.graph.bond_pair_prototype import BondPairPrototype
from mlip.graph.bond_pairs import BondPairGraph
from mlip.graph.inputs import ModelInputs
from mlip.graph.prototype import Prototype, SharedGraph
from mlip.graph.shells import ShellGraph


def check_shares_graphs(inputs: ModelInputs, where: str | None = None) -> None:
    """Check that the crystals of a prototype share a graph of this kind.

    Args:
        where: name of the model in error messages.

    Raises:
        MlipError: they do not.
    """
    if not isinstance(inputs, ShellGraph | BondPairGraph):
        raise MlipError(
            f"the network reads {inputs.describe()}, by which the crystals of a prototype are not told apart",
            where=where,
            fix="a model that reads structures: CGAT or ALIGNN",
        )


def shared_graph(structure: Atoms | Frame, inputs: ModelInputs) -> SharedGraph:
    """The structure as a prototype; all atoms of one element form one site.

    Args:
        inputs: the model's `config.inputs`.

    Raises:
        MlipError: the model reads another kind of input, or no graph can be built from the structure.
    """
    check_shares_graphs(inputs)
    if isinstance(inputs, ShellGraph):
        return Prototype.of(structure, inputs.n_neighbors, cutoff=inputs.cutoff, tolerance=inputs.tolerance)
    return BondPairPrototype.of(structure, inputs)
