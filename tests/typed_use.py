"""A program that uses the public names; `make lint` has mypy check that their types are what users meet.

It is not run. A line that mypy should refuse says so by `type: ignore`, and mypy warns of one that it would not refuse.
"""

from pathlib import Path

import numpy as np
from ase import Atoms

import mlip


def relax_them(structures: list[Atoms]) -> dict[str, float]:
    potential: mlip.Potential = mlip.load("m3gnet")
    potential = mlip.load()
    structures[0].calc = mlip.MLIPCalculator()
    mlip.relax(structures[0])
    results = mlip.relax(structures, potential, fmax=0.05, symmetry=True)
    energies: dict[str, float] = {}
    for result in results:
        one: mlip.RelaxResult = result
        name: str = one.reason
        energies[name] = one.energy
        atoms: Atoms = one.atoms
        atoms.get_volume()
    print(results[0].no_such_field)  # type: ignore[attr-defined]
    mlip.relax(structures, potential, fmax="small")  # type: ignore[arg-type]
    table: dict[str, object] = results[0].as_record()
    print(table, results.to_dataframe())
    return energies


def evaluate(atoms: Atoms, path: Path) -> np.ndarray:
    atoms.calc = mlip.MLIPCalculator(path, dtype="float64")
    potential = mlip.load(path, head="PBE")
    functional: str = potential.functional
    elements: list[str] = potential.elements
    cutoff: float = potential.cutoff
    energy = potential.energy_fn(atoms)
    energy(atoms.positions)
    print(functional, elements, cutoff)
    forces: np.ndarray = potential.predict([atoms])[0]["forces"]
    return forces


def respond(structures: list[Atoms]) -> list[float]:
    curves = mlip.equation_of_state(structures, "m3gnet", relax_shape=True)
    tensors = mlip.elastic_tensor(structures, mlip.load("m3gnet"), progress=False)
    vibrations = mlip.phonons(structures[0], supercell=(2, 2, 2))
    print(curves[0].bulk_modulus, tensors.to_dataframe(), vibrations[0].reason)
    print(tensors[0].no_such_field)  # type: ignore[attr-defined]
    numbers: list[float] = [tensors[0].bulk_modulus, vibrations[0].heat_capacity(300.0)]
    return numbers


def read(path: str) -> list[str]:
    try:
        with mlip.Store(path) as store:
            return [material.formula for material in store.materials()]
    except mlip.MlipError as error:
        where: str | None = error.where
        return [where or ""]


def train(store: str) -> float:
    run: mlip.TrainingRun = mlip.train("quickstart", data={"store": store}, out="runs/first")
    print(run.to_dataframe(), run.folder)
    return mlip.load(run).cutoff


def properties(path: str) -> None:
    model = mlip.PropertyModel.load(path)
    model.predict(["NaCl"])
