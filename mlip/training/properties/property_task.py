"""Training task for a property model."""

from dataclasses import dataclass
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, PyTree
from jraph import GraphsTuple

from mlip.data import Store
from mlip.data.element_vectors import read_element_vectors, vectors_by_number
from mlip.models import has_batch_statistics
from mlip.network import init_parameters
from mlip.property_model import PropertyMetadata, PropertyModel, property_outputs
from mlip.runtime import ProductPrecision, products_in
from mlip.training.parallel import sum_over_devices
from mlip.training.properties.property_dataset import PropertyDataset, PropertyLabels, open_property_dataset
from mlip.training.properties.property_loss import ROBUST, property_counts, property_terms
from mlip.training.properties.property_section import report_predictions
from mlip.training.quantity import Quantity
from mlip.training.report.predictions import PredictionReport
from mlip.training.run_folder import RunFolder
from mlip.training.task import Task
from mlip.training.terms import Counts, Terms


@dataclass(frozen=True)
class PropertyTask(Task):
    noun = "model"
    file_name = "model.safetensors"
    load = PropertyModel.load

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return (Quantity("property", word=self.recipe.property.name, symbol="MAE"),)

    def weights(self, stage: int) -> dict[str, float]:
        return {"property": 1.0}

    def judgement(self, errors: dict[str, float]) -> float:
        """The MAE for losses with an uncertainty, which may grow while errors shrink; otherwise the loss."""
        return errors[self.quantities[0].error_key] if self.recipe.property.loss in ROBUST else errors["loss"]

    def initial_params(self) -> PyTree:
        model, path = self.recipe.model, self.recipe.property.element_vectors
        params = init_parameters(model, self.recipe.train.seed)
        if path is None:
            return params
        flat = flatten_dict(params)
        place = next(name for name in flat if name[-1] == "element_vectors")
        flat[place] = vectors_by_number(read_element_vectors(path), model.max_atomic_number)
        return unflatten_dict(flat)

    def open_data(self, store: Store, start: PropertyModel | None, folder: RunFolder | None) -> PropertyDataset:
        return open_property_dataset(store, self.recipe, start, remembered=folder and folder.statistics)

    def labels(self, store: Store, data: PropertyDataset) -> PropertyLabels:
        return PropertyLabels(data.normalized.astype(self.recipe.train.precision))

    def label_counts(self, graph: GraphsTuple) -> Counts:
        return property_counts(graph)

    def terms(
        self,
        params: PyTree,
        graph: GraphsTuple,
        scale: Float[Array, ""],
        products: ProductPrecision = "highest",
    ) -> Terms:
        outputs = property_outputs(self.network, params, graph, products=products)
        return property_terms(outputs, graph, self.recipe.property.loss, scale)

    def training_terms(
        self,
        params: PyTree,
        graph: GraphsTuple,
        scale: Float[Array, ""],
        products: ProductPrecision,
        key: Array | None = None,
    ) -> tuple[Terms, PyTree]:
        options = {} if key is None else {"deterministic": False, "rngs": {"dropout": key}}
        if has_batch_statistics(self.recipe.model):
            options |= {"total": sum_over_devices, "mutable": ["statistics"]}
        if not options:
            return self.terms(params, graph, scale, products), {}
        with products_in(products):
            outputs = self.network.apply({"params": params}, graph, **options)
        outputs, state = outputs if isinstance(outputs, tuple) else (outputs, {})
        return property_terms(outputs, graph, self.recipe.property.loss, scale), state.get("statistics", {})

    def report_predictions(self, model: PropertyModel, store: Store, at_most: int) -> PredictionReport | None:
        return report_predictions(model, store, largest=self.recipe.property.largest, at_most=at_most)

    def export(self, params: PyTree, data: PropertyDataset, provenance: dict[str, Any]) -> PropertyModel:
        metadata = PropertyMetadata(
            property=data.property,
            mean=data.mean,
            std=data.std,
            elements=data.elements,
            functional=data.functional,
            knows_uncertainty=self.recipe.property.loss in ROBUST,
            provenance=provenance,
            precision=self.recipe.train.product_precision,
        )
        return PropertyModel(self.recipe.model, params, metadata)
