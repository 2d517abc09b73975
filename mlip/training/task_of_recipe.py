"""Selection of a recipe's task, the only part of training that depends on the kind of target."""

from mlip.training.potentials.potential_task import PotentialTask
from mlip.training.properties.property_task import PropertyTask
from mlip.training.recipe import Recipe
from mlip.training.task import Task


def task_of(recipe: Recipe) -> Task:
    return PotentialTask(recipe) if recipe.property is None else PropertyTask(recipe)
