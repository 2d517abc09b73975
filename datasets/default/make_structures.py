"""Writes the structures that the teacher labels: shards of a store without labels, all kinds mixed in each.

    python make_structures.py DATA OUT PART [--teacher nequix-oam-1] [--scale 1.0]

DATA is the folder of the data pack, OUT/PART-000.h5, OUT/PART-001.h5, ... are the shards. The teacher tells its
elements. Always the same ones: every kind has a seed of its own. No structure of a test set is among them
(`held_out.py`); the counts are printed.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import built_structures as built
import numpy as np
from ase import Atoms
from held_out import HeldOut
from parents import Parent, expanded, far, is_sparse, near
from real_structures import held_out_structures, real_parents, sample_parents

import mlip
from mlip.data.records import Frame, Trajectory
from mlip.data.split import assign_split
from mlip.data.writer import StoreWriter

PARENTS_OF_SHARD = 1000
FRACTIONS = (0.97, 0.03, 0.0)
"""Of train and val; the test sets are others' DFT."""
DIMENSIONALITY = {"crystal": 3, "slab": 2, "layer": 2, "chain": 1, "molecule": 3}
Way = Callable[[Parent, np.random.Generator], Atoms]


Parents = Iterator[tuple[Parent, tuple[Way, ...]]]


def broad(data: Path, elements: list[int], held_out: HeldOut, scale: float) -> Parents:
    """Real crystals and layers, random elements in prototypes, elements in many packings, surfaces, chains, molecules,
    with the ways in which frames are made of each."""
    real = _new_ones(real_parents(data), elements, held_out)
    crystals = [parent for parent in real if parent.kind == "crystal"]
    layers = [parent for parent in real if parent.kind == "layer"]
    for parent in crystals:
        yield parent, (near, far, expanded)
    for parent in layers:
        yield parent, (near, near, far, far, expanded)

    ordered = [parent.atoms for parent in crystals]
    volumes = built.AtomicVolumes(ordered)
    small = [atoms for atoms in ordered if len(atoms) <= built.MOST_ATOMS] + built.prototypes_of_aflow() * 4
    flat = [parent.atoms for parent in layers]
    substituted = built.substituted(small, elements, volumes, round(9000 * scale), _rng(1))
    yield from ((parent, (far, expanded)) for parent in _allowed(substituted, held_out))
    substituted = built.substituted_layers(flat, elements, round(900 * scale), _rng(2))
    yield from ((parent, (far, expanded)) for parent in _allowed(substituted, held_out))
    for parent in built.elemental(elements, volumes):
        if parent.kind != "crystal" or not held_out.matches(parent.atoms):
            yield parent, (near, far, expanded, expanded)
    yield from ((parent, (near, far)) for parent in built.slabs(ordered, round(1000 * scale), _rng(3)))
    yield from ((parent, (near, expanded)) for parent in built.chains(elements, round(800 * scale), _rng(4)))
    yield from ((parent, (near, near, far, far)) for parent in built.molecules())
    yield from ((parent, (_as_it_is,)) for parent in built.single_atoms(elements))
    for seed, range_ in ((5, (0.75, 1.3)), (6, (1.1, 2.2))):
        yield from ((parent, (_as_it_is,)) for parent in built.dimers(elements, range_, _rng(seed)))


def compounds(data: Path, elements: list[int], held_out: HeldOut, scale: float) -> Parents:
    """Compounds with an anion, published ones and such as have other elements of the same kind in their places."""
    samples = _new_ones(sample_parents(data), elements, held_out)
    for parent in samples:
        yield parent, (near, far, expanded)
    real = [parent.atoms for parent in _new_ones(real_parents(data), elements, held_out) if parent.kind == "crystal"]
    volumes = built.AtomicVolumes(real)
    anions = built.known_to(["H", "N", "O", "F", "P", "S", "Cl", "Se", "Br", "Te", "I"])
    large = built.prototypes_of_aflow(most_atoms=24)
    prototypes = [atoms for atoms in real if np.isin(atoms.numbers, anions).any()] + 6 * large
    prototypes += 6 * [parent.atoms for parent in samples]
    made = built.alike(prototypes, elements, volumes, round(9000 * scale), _rng(8))
    yield from ((parent, (near, far, expanded)) for parent in _allowed(made, held_out))


PARTS = {"broad": broad, "compounds": compounds}


def _new_ones(parents: Iterable[Parent], elements: list[int], held_out: HeldOut) -> list[Parent]:
    """Those that the teacher can label and no test set has; says how many were left out."""
    kept, left_out = [], Counter()
    for parent in parents:
        if not set(parent.atoms.numbers) <= set(elements):
            left_out["elements that the teacher lacks"] += 1
        elif held_out.has_id(parent.id.split("-", 1)[1]):
            left_out["id of a test set"] += 1
        elif parent.kind == "crystal" and held_out.matches(parent.atoms):
            left_out["structure of a test set"] += 1
        elif parent.kind == "layer" and held_out.has_formula(parent.atoms):
            left_out["layer of a composition of a test set"] += 1
        else:
            kept.append(parent)
    print(f"{len(kept):,} published structures; left out: {dict(left_out)}")
    return kept


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _allowed(parents: Iterable[Parent], held_out: HeldOut) -> Iterator[Parent]:
    """Those of compositions that no test set has."""
    return (parent for parent in parents if not held_out.has_formula(parent.atoms))


def _as_it_is(parent: Parent, rng: np.random.Generator) -> Atoms:
    return parent.atoms.copy()


def frames_of(parent: Parent, ways: tuple[Way, ...], rng: np.random.Generator) -> list[Frame]:
    """Frames in which no two atoms are in one another."""
    found = []
    for k, way in enumerate(ways):
        atoms = way(parent, rng)
        if is_sparse(atoms):
            pbc = np.asarray(atoms.pbc)
            numbers = atoms.numbers.astype(np.int16)
            found.append(Frame(numbers, atoms.positions, atoms.cell.array, pbc, calculation=0, ionic_step=k))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--teacher", default="nequix-oam-1", help="potential that will label them")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the numbers of built structures")
    options = parser.parse_args()
    held_out = HeldOut(held_out_structures(options.data))
    print("held out:", dict(held_out.counts))
    teacher = mlip.load(options.teacher)
    elements = built.known_to(teacher.elements)
    everything = list(PARTS[options.part](options.data, elements, held_out, options.scale))
    order = np.random.default_rng(0).permutation(len(everything))
    rng, counts, n_atoms = np.random.default_rng(7), Counter(), 0
    shards = [order[k : k + PARENTS_OF_SHARD] for k in range(0, len(order), PARENTS_OF_SHARD)]
    checked = []
    for shard, members in enumerate(shards):
        seen: Counter[str] = Counter()
        with StoreWriter(options.out / f"{options.part}-{shard:03d}.h5") as writer:
            for k in members:
                parent, ways = everything[k]
                frames = frames_of(parent, ways, rng)
                seen[parent.id] += 1
                if not frames:
                    counts["no frame is left"] += 1
                    continue
                identity = parent.id if seen[parent.id] == 1 else f"{parent.id}-{seen[parent.id]}"
                split = assign_split(parent.id, 0, FRACTIONS)
                writer.add(Trajectory(identity, frames, teacher.functional, DIMENSIONALITY[parent.kind]), split)
                counts[parent.kind] += len(frames)
                n_atoms += sum(map(len, frames))
                if parent.kind == "crystal":
                    checked.append(parent.atoms)
    print(f"{options.part}: {len(shards)} shards, {sum(counts.values()):,} frames, {n_atoms:,} atoms: {dict(counts)}")
    print(f"structures of {len(checked):,} crystals that a test set has, too: {dict(held_out.overlap(checked)) or 0}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
