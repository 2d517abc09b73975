"""Training task for a potential."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Float, PyTree
from jraph import GraphsTuple

from mlip.data import Store
from mlip.energy_gradient import energies_forces_stress
from mlip.graph.ends import graph_of_node
from mlip.graph.labeled_graphs import CurvatureLabels, EnergyLabels
from mlip.models import heads_of
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.runtime import ProductPrecision
from mlip.training.log import RunLog
from mlip.training.potentials.parity import draw_parity
from mlip.training.potentials.potential_dataset import Dataset, factors_of_materials, open_dataset
from mlip.training.potentials.potential_loss import CURVATURE, QUANTITIES, label_counts, loss_terms
from mlip.training.potentials.potential_section import report_predictions
from mlip.training.potentials.transfer import add_replay, take_over_energies
from mlip.training.quantity import Quantity
from mlip.training.report.predictions import PredictionReport
from mlip.training.run_folder import RunFolder
from mlip.training.task import Task
from mlip.training.terms import Counts, Terms


@dataclass(frozen=True)
class PotentialTask(Task):
    noun = "potential"
    file_name = "potential.safetensors"
    load = Potential.load

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return (*QUANTITIES, CURVATURE) if self._fits_curvature else QUANTITIES

    @property
    def _fits_curvature(self) -> bool:
        return self.recipe.loss.curvature > 0

    def weights(self, stage: int) -> dict[str, float]:
        loss, stage_two = self.recipe.loss, self.recipe.stage_two
        weights = {"energy": loss.energy, "forces": loss.forces, "stress": loss.stress}
        if self._fits_curvature:
            weights["curvature"] = loss.curvature
        if stage == 2:
            given = {name: getattr(stage_two, name) for name in weights}
            weights |= {name: weight for name, weight in given.items() if weight is not None}
        return weights

    def initial_params(self) -> PyTree:
        return init_parameters(self.recipe.model, self.recipe.train.seed)

    def open_data(self, store: Store, start: Potential | None, folder: RunFolder | None) -> Dataset:
        data = open_dataset(
            store,
            heads_of(self.recipe.model),
            remembered=folder and folder.statistics,
            given=self.recipe.data.statistics,
        )
        if start is not None:
            data = take_over_energies(data, self.recipe, start, store, remembered=folder and folder.heads)
        if self.recipe.data.replay is not None:
            data = add_replay(data, self.recipe, store.n_frames)
        return data

    def labels(self, store: Store, data: Dataset) -> EnergyLabels:
        factors = factors_of_materials(self.recipe.loss, store)
        kind = CurvatureLabels if self._fits_curvature else EnergyLabels
        return kind(data.reference_energies_by_z, data.head_of_material, factors)

    def label_counts(self, graph: GraphsTuple) -> Counts:
        return label_counts(graph)

    def terms(
        self,
        params: PyTree,
        graph: GraphsTuple,
        scale: Float[Array, "*h"],
        products: ProductPrecision = "highest",
    ) -> Terms:
        scale = scale_of_nodes(scale, graph)
        directions = graph.nodes.get("direction")
        prediction = energies_forces_stress(self.network, params, graph, scale, 0.0, products, directions)
        return loss_terms(prediction, graph, self.recipe.loss)

    def export(self, params: PyTree, data: Dataset, provenance: dict[str, Any]) -> Potential:
        precision = self.recipe.train.product_precision
        metadata = PotentialMetadata.of_heads(data.heads, provenance=provenance, precision=precision)
        return Potential(self.recipe.model, params, metadata)

    def report_predictions(self, model: Potential, store: Store, at_most: int) -> PredictionReport | None:
        return report_predictions(model, store, at_most)

    def draw(self, folder: RunFolder, model: Potential, store: Store, log: RunLog) -> None:
        draw_parity(folder.path, model, store, log)


def scale_of_nodes(scale: Float[Array, "*h"], graph: GraphsTuple) -> Float[Array, "*n"]:
    """Energy per unit of the network's output, eV; for each node if there are several heads."""
    return scale if scale.ndim == 0 else scale[graph.globals["head"][graph_of_node(graph)]]
