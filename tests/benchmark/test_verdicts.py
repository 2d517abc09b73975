"""The authors' verdict: each rule, and whole relaxations against a second reading of the rules that ASE applies."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene, mx2

import mlip
from mlip.benchmark.paper_tables import volume_table
from mlip.benchmark.reference import Reference
from mlip.benchmark.relaxation import run_relaxation_benchmark
from mlip.benchmark.results import PotentialResults, in_all_verdicts
from mlip.benchmark.verdicts import authors
from mlip.benchmark.verdicts.pieces import n_pieces
from mlip.benchmark.verdicts.rounds import relax_in_rounds
from mlip.benchmark.verdicts.table import verdict_table
from mlip.benchmark.verdicts.vacuum import Setting, extents, gathered, with_vacuum
from mlip.benchmark.volume import effective_volume
from mlip.data import Frame, Store, StoreWriter, Trajectory
from mlip.errors import MlipError
from mlip.models.m3gnet import M3GNetConfig
from mlip.network import init_parameters
from mlip.potential import Potential, PotentialMetadata
from mlip.relaxation import relaxations
from tests import command_line
from tests.relaxation.morse import morse_potential

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import authors_by_ase

ALONG_A = np.array([True, False, False])
IN_PLANE = np.array([True, True, False])
EVERYWHERE = np.array([True, True, True])


def chain_along_a(spread: float = 1.0) -> Atoms:
    """Copper in a zigzag, cut by the boundary across b."""
    return Atoms("Cu2", [[0, 0.2, 8], [1.3, 0.2 - spread, 8]], cell=[2.6, 16, 16], pbc=True)


def monolayer() -> Atoms:
    layer = mx2("MoS2", a=3.18, thickness=3.19, vacuum=8)
    layer.pbc = True
    return layer


def tilted(atoms: Atoms) -> Atoms:
    atoms = atoms.copy()
    atoms.rotate(35, (1, 2, 0.5), rotate_cell=True)
    return atoms


@pytest.mark.parametrize(
    ("atoms", "supercell", "n"),
    [
        (bulk("Cu"), (2, 2, 2), 1),
        (bulk("NaCl", "rocksalt", a=5.6), (2, 2, 2), 1),
        (Atoms("C4", [[0, 0, 0], [0, 1.42, 0], [0, 0, 3.35], [1.23, 0.71, 3.35]],
               cell=[[2.46, 0, 0], [-1.23, 2.13, 0], [0, 0, 6.7]], pbc=True), (2, 2, 2), 4),
        (Atoms("He", cell=[4, 4, 4], pbc=True), (2, 2, 2), 8),
        (Atoms("Cu", cell=[2.5, 15, 15], pbc=True), (2, 1, 1), 1),
    ],
    ids=["metal", "salt", "graphite", "helium", "wire"],
)  # fmt: skip
def test_pieces_are_those_of_the_laplacian_of_the_supercell(atoms, supercell, n):
    assert n_pieces(atoms, supercell, 1.5) == authors_by_ase.pieces(atoms, supercell) == n


def test_pieces_of_random_gases_are_those_of_the_laplacian():
    rng = np.random.default_rng(0)
    counts = []
    for density in (3.5, 4.0, 4.5, 5.0, 6.0):
        cell = density * (np.eye(3) + 0.3 * rng.normal(size=(3, 3)))
        atoms = Atoms("ONaC", rng.uniform(-1, 2, (3, 3)) @ cell, cell=cell, pbc=True)
        counts.append(n_pieces(atoms, (2, 2, 1), 1.5))
        assert counts[-1] == authors_by_ase.pieces(atoms, (2, 2, 1))
    assert len(set(counts)) > 1


def test_a_layer_in_any_position_gets_its_vacuum_along_its_normal():
    layer = monolayer()
    cut = layer.copy()
    cut.positions[:, 2] -= 8.5
    cut.wrap()
    for atoms in (layer, cut, tilted(layer)):
        whole = gathered(atoms, 2)
        assert extents(whole, 2) == pytest.approx([3.19])
        renewed = with_vacuum(whole, 2)
        assert renewed.cell[2] == pytest.approx([0, 0, 18.19])
        assert renewed.positions[:, 2].mean() == pytest.approx(18.19 / 2)
        np.testing.assert_allclose(
            np.sort(renewed.get_all_distances(mic=True).ravel()), np.sort(layer.get_all_distances(mic=True).ravel()),
            atol=1e-9,
        )  # fmt: skip


def test_a_chain_gets_a_hexagonal_cell_and_comes_back_to_its_own_axes():
    atoms = chain_along_a()
    for start in (atoms, tilted(atoms)):
        setting = Setting.of(start, ALONG_A)
        inside = setting.enter(start)
        assert inside.cell[2] == pytest.approx([0, 0, 2.6])
        renewed = with_vacuum(gathered(inside, 1), 1)
        a = 15 + 0.5
        assert renewed.cell.cellpar() == pytest.approx([a, a, 2.6, 90, 90, 120])
        back = setting.leave(renewed)
        assert back.cell[0] == pytest.approx(start.cell[0])
        distance = start.get_distance(0, 1, mic=True)
        assert back.get_distance(0, 1, mic=True) == pytest.approx(distance)
        volumes = [effective_volume(one.positions, one.cell.array, one.pbc, ALONG_A) for one in (start, back)]
        assert volumes[0] == pytest.approx(volumes[1])


def test_a_layer_with_open_boundaries_is_periodic_in_the_setting_and_open_after():
    layer = graphene(vacuum=None)
    layer.pbc = IN_PLANE
    setting = Setting.of(layer, IN_PLANE)
    renewed = with_vacuum(gathered(setting.enter(layer), 2), 2)
    assert renewed.pbc.all()
    assert renewed.cell[2] == pytest.approx([0, 0, 15])
    assert setting.leave(renewed).pbc.tolist() == [True, True, False]


def slab(layers: int) -> Atoms:
    atoms = fcc111("Cu", (1, 1, layers), a=3.6, vacuum=10)
    atoms.pbc = True
    return atoms


@pytest.mark.parametrize(
    ("atoms", "dimensionality", "slack", "broken"),
    [
        (bulk("Cu"), 3, 1.0, ()),
        (bulk("Cu", cubic=True) * (9, 1, 1), 3, 1.0, (authors.LONG_CELL,)),
        (Atoms("He", cell=[4, 4, 31], pbc=True), 3, 1.0, (authors.LONG_CELL, authors.APART)),
        (monolayer(), 2, 1.0, ()),
        (slab(4), 2, 1.0, ()),
        (slab(5), 2, 1.0, (authors.THICK,)),
        (slab(5), 2, authors.BETWEEN_ROUNDS, ()),
        (slab(7), 2, authors.BETWEEN_ROUNDS, (authors.THICK,)),
        (monolayer() * (10, 1, 1), 2, 1.0, (authors.LONG_CELL,)),
        (Atoms("Cu", cell=[15, 15, 2.5], pbc=True), 1, 1.0, ()),
        (Atoms("Cu2", [[0, 0, 0], [12.6, 0, 0]], cell=[40, 40, 2.5], pbc=True), 1, 1.0, (authors.THICK, authors.APART)),
        (Atoms("Cu", cell=[15, 15, 4.0], pbc=True), 1, 1.0, (authors.APART,)),
    ],
)
def test_each_rule_on_geometry(atoms, dimensionality, slack, broken):
    before = atoms.copy()
    assert authors.examine(atoms, dimensionality, slack).broken == broken
    assert atoms == before


def test_rules_on_forces():
    assert authors.of_forces(0.0399, 0.04) == ()
    assert authors.of_forces(0.04, 0.04) == (authors.UNCONVERGED,)
    assert authors.of_forces(2e4, 0.04) == (authors.ABSURD_FORCES,)
    assert authors.of_forces(float("nan"), 0.04) == (authors.ABSURD_FORCES,)


def materials() -> list[tuple[Atoms, int]]:
    """Crystals, layers and chains that converge, that do not, and that break each rule, off their equilibrium."""
    rng = np.random.default_rng(3)
    chosen = [
        (bulk("Cu", a=3.8), 3),
        (bulk("NaCl", "rocksalt", a=5.3), 3),
        (bulk("Mg"), 3),
        (bulk("ZnO", "wurtzite", a=3.3, c=5.1), 3),
        (bulk("Cu", cubic=True) * (9, 1, 1), 3),
        (_apart(), 3),
        (monolayer(), 2),
        (slab(2), 2),
        (slab(4), 2),
        (slab(5), 2),
        (slab(7), 2),
        (chain_along_a(), 1),
        (chain_along_a(2.0), 1),
        (Atoms("Cu4", [[0, 8, 8], [2.5, 8, 8], [5.0, 8, 8], [7.5, 8, 8]], cell=[10.2, 16, 16], pbc=True), 1),
    ]
    moved = []
    for atoms, dimensionality in chosen:
        atoms = atoms.copy()
        along = np.diag([True, dimensionality > 1, dimensionality > 2]).astype(float)
        shear = along @ rng.normal(size=(3, 3)) @ along
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * (shear + shear.T)), scale_atoms=True)
        atoms.positions += 0.03 * rng.normal(size=atoms.positions.shape)
        moved.append((atoms, dimensionality))
    return moved


def _apart() -> Atoms:
    """Molecules far from one another, which the potential holds together all the same."""
    return Atoms("Cu2", [[0, 0, 0], [2.3, 0, 0]], cell=[7, 4.9, 4.9], pbc=True)


def in_the_code_s_setting(atoms: Atoms, dimensionality: int) -> Atoms:
    """Chains along z, by hand, in the middle of their cell."""
    if dimensionality != 1:
        return atoms
    length = atoms.cell[0, 0]
    positions = atoms.positions[:, [1, 2, 0]].copy()
    positions[:, :2] += 8 - positions[:, :2].mean(axis=0)
    return Atoms(atoms.numbers, positions, cell=[16, 16, length], pbc=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("verdicts") / "materials.h5"
    with StoreWriter(path) as writer:
        for k, (atoms, dimensionality) in enumerate(materials()):
            frame = Frame(atoms.numbers.astype(np.int16), atoms.positions, atoms.cell.array, atoms.pbc, energy=-1.0)
            writer.add(Trajectory(f"m{k}", [frame], "PBE", dimensionality), "test")
    return path


FACTOR = 1.6


@pytest.fixture(scope="module")
def judged(store):
    """Verdict and structure of each material in our engine, all at once."""
    potential = morse_potential()
    with Store(store) as opened:
        references = [Reference.read(opened, k, "last") for k in range(opened.n_materials)]
    options = {"fmax": authors.FMAX / 2, "steps": authors.STEPS, "stress_factor": FACTOR, "dtype": "float64"}

    def relax(structures, cells):
        for index, result in relaxations(structures, potential, cell=cells, **options):
            yield index, result, 0.5

    ended = {k: (result, seconds, told) for k, result, seconds, told in relax_in_rounds(references, relax, 0.04)}
    assert sorted(ended) == list(range(len(references)))
    return references, ended


@pytest.mark.parametrize("connected", [True, False], ids=["with the rule of one piece", "without"])
def test_relaxations_have_the_verdict_and_the_end_that_ase_gives_one_by_one(judged, connected):
    references, ended = judged
    calculator = authors_by_ase.WithStressFactor(morse_potential(), FACTOR, "float64")
    outcomes = set()
    for k, (atoms, dimensionality) in enumerate(materials()):
        end, rule = authors_by_ase.relax(
            in_the_code_s_setting(atoms, dimensionality), f"{dimensionality}d", calculator, connected
        )
        result, _, told = ended[k]
        rules = [broken for broken in told["rules"] if connected or broken != authors.APART]
        assert rules[:1] == ([] if rule is None else [rule]), (k, references[k].formula, told, rule)
        outcomes.add(rule)
        if rule is None:
            measured = [
                effective_volume(end.positions, end.cell.array, end.pbc, _directions_of_the_code(dimensionality)),
                references[k].volume_of(result.atoms),
            ]
            assert measured[0] == pytest.approx(measured[1], rel=1e-5)
            energy = end.get_potential_energy()
            assert result.energy == pytest.approx(energy, abs=1e-5)
    assert {None, authors.LONG_CELL, authors.THICK} <= outcomes
    assert (authors.APART in outcomes) == connected


def _directions_of_the_code(dimensionality: int) -> np.ndarray:
    return {3: EVERYWHERE, 2: IN_PLANE, 1: np.array([False, False, True])}[dimensionality]


def test_what_does_not_converge_in_a_round_goes_on_and_counts_its_steps(store):
    """Rounds of twelve steps: some need several, and a structure's steps and seconds are the sum over its rounds."""
    potential = morse_potential()
    with Store(store) as opened:
        references = [Reference.read(opened, k, "last") for k in (0, 1, 3)]
    calls = []

    def relax(structures, cells):
        calls.append(len(structures))
        for index, result in relaxations(structures, potential, cell=cells, fmax=0.02, steps=12, dtype="float64"):
            yield index, result, 0.5

    ended = {k: (result, seconds, told) for k, result, seconds, told in relax_in_rounds(references, relax, 0.04)}
    rounds = [ended[k][2]["rounds"] for k in range(3)]
    assert max(rounds) > 1
    assert sum(calls) == sum(rounds)
    assert len(calls) == max(rounds)
    for result, seconds, told in ended.values():
        assert seconds == 0.5 * told["rounds"]
        assert result.n_steps <= 12 * told["rounds"]
        assert result.n_steps > 12 * (told["rounds"] - 1)
        assert not told["failed"], told


def test_a_cell_under_a_factor_on_its_stress_ends_at_the_same_place_by_another_path():
    atoms = bulk("Cu", a=3.8)
    plain, scaled = (
        mlip.relax(atoms, morse_potential(), stress_factor=f, fmax=1e-4, dtype="float64", progress=False)[0]
        for f in (1.0, 1.6)
    )
    assert plain.n_steps != scaled.n_steps
    assert plain.atoms.get_volume() == pytest.approx(scaled.atoms.get_volume(), rel=1e-4)
    with pytest.raises(MlipError, match="stress_factor: is 0"):
        mlip.relax(atoms, morse_potential(), stress_factor=0.0)


@pytest.fixture(scope="module")
def run(store, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return out, run_relaxation_benchmark(tiny, store, out, steps=3, verdict="authors", progress=False)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    config = M3GNetConfig(units=4, n_blocks=1, max_n=2, max_l=2)
    elements = ("Cu", "Na", "Cl", "Mg", "Zn", "O", "Mo", "S")
    metadata = PotentialMetadata(reference_energies=dict.fromkeys(elements, -1.0), scale=0.1)
    return Potential(config, init_parameters(config), metadata).save(
        tmp_path_factory.mktemp("potential") / "tiny.safetensors"
    )


def test_the_factor_on_the_stress_is_m3gnets_alone(tiny):
    assert authors.stress_factor(Potential.load(tiny)) == pytest.approx(1.602, abs=1e-3)
    assert authors.stress_factor(morse_potential()) == 1


def test_a_run_records_each_verdict_and_its_tables_count_both(run):
    _, finished = run
    assert finished.header["verdict"] == {
        "name": "authors", "rounds": 15, "stress_factor": pytest.approx(1.602, abs=1e-3)
    }  # fmt: skip
    assert finished.header["fmax"] == 0.04
    verdicts = {record["id"]: record["verdicts"]["authors"] for record in finished.records}
    assert len(verdicts) == len(materials())
    assert verdicts["m4"]["reason"] == authors.LONG_CELL
    assert verdicts["m10"]["reason"] == authors.THICK
    ours, theirs = in_all_verdicts([finished.results])
    n_failed = sum(record["volume"] is None for record in ours.records)
    by_theirs = sum(record["volume"] is None for record in theirs.records)
    assert by_theirs == sum(verdict["failed"] for verdict in verdicts.values()) > n_failed
    (table,) = verdict_table([finished.results])
    assert [row[0] for row in table.rows] == ["3D", "2D", "1D"]
    assert "too thick" in table.rows[1][6]
    rows = volume_table([ours, theirs]).rows
    assert [row[1] for row in rows if row[0] == "2D"] == ["tiny", "tiny, authors' verdict"]
    assert verdict_table([PotentialResults("plain", "", [], [])]) == ()


def test_a_run_goes_on_and_is_not_mixed_with_one_without_the_verdict(run, store, tiny):
    out, finished = run
    again = run_relaxation_benchmark(tiny, store, out, steps=3, verdict="authors", progress=False)
    assert again.n_added == 0
    assert again.records == finished.records
    with pytest.raises(MlipError, match="results of another verdict"):
        run_relaxation_benchmark(tiny, store, out, steps=3, fmax=0.04, progress=False)


def test_the_command_prints_the_table_of_verdicts(store, tiny, tmp_path):
    arguments = "benchmark", "relaxation", tiny, store, "--out", tmp_path, "--steps", 1
    shown = command_line.mlip(*arguments, "--verdict", "authors")
    assert shown.returncode == 0, shown.stderr
    assert "Failed relaxations, by verdict" in shown.stdout
    assert (tmp_path / "verdicts.md").exists()
    assert "by verdict" in (tmp_path / "report.html").read_text()
    refused = command_line.mlip(*arguments, "--verdict", "mine")
    assert refused.returncode != 0
    assert "one of: authors" in refused.stderr
