"""What VASP leaves in a folder with its inputs, without VASP: the vasprun.xml that INCAR and POSCAR ask for."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure
from pymatgen.io.vasp.inputs import Incar, Kpoints, Poscar

NELM = 100


def pretend_run(
    folder: Path,
    *,
    energies: Sequence[float] = (-9.0, -10.0),
    strain: float = 0.01,
    force: float = 0.001,
    electronic_steps: Sequence[int] | None = None,
    tags: dict[str, Any] | None = None,
    structure: Structure | None = None,
    titles: Sequence[str] | None = None,
    vacuum_relaxes: bool = False,
    grid: Sequence[int] | None = None,
    name: str = "vasprun.xml",
) -> Structure:
    """Write a run of as many ionic steps as energies (at sigma -> 0).

    Args:
        strain: of the last cell, of its repeated vectors alone if the INCAR says so.
        force: on the first atom in the last step, eV/A.
        electronic_steps: of each ionic step.
        tags: instead of the INCAR's.
        structure: instead of the POSCAR's.
        titles: of the pseudopotentials, instead of POTCAR.spec's.
        grid: divisions of the k-points, instead of those of KPOINTS.

    Returns:
        The last structure.
    """
    incar = dict(Incar.from_file(folder / "INCAR")) | (tags or {})
    structure = structure or Poscar.from_file(folder / "POSCAR").structure
    titles = titles or [f"PAW_PBE {line} 01Jan2000" for line in (folder / "POTCAR.spec").read_text().split()]
    free = np.array(incar.get("LATTICE_CONSTRAINTS", [True] * 3)) | vacuum_relaxes
    structures, steps = [], electronic_steps or [5] * len(energies)
    for k in range(len(energies)):
        share = strain * k / max(len(energies) - 1, 1)
        cell = structure.lattice.matrix @ np.diag(1 + share * free)
        structures.append(Structure(cell, structure.species, structure.frac_coords))
    calculations = [
        _calculation(one, energy, n, force if k == len(energies) - 1 else 10 * force)
        for k, (one, energy, n) in enumerate(zip(structures, energies, steps, strict=True))
    ]
    grid = grid or Kpoints.from_file(folder / "KPOINTS").kpts[0]
    content = _vasprun(structure, incar, titles, grid, calculations, structures[-1])
    data = content.encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return structures[-1]


def _vasprun(
    structure: Structure,
    incar: dict,
    titles: Sequence[str],
    grid: Sequence[int],
    calculations: list[str],
    last: Structure,
) -> str:
    symbols = list(dict.fromkeys(site.specie.symbol for site in structure))
    taken = {
        "NELM": NELM,
        "GGA": "--",
        "LHFCALC": False,
        "AEXX": 0.0,
        "HFSCREEN": 0.0,
        "LDAU": False,
        "IBRION": 2 if incar.get("NSW") else -1,
        "NSW": 0,
        "ISIF": 2,
        "ISPIN": 1,
        "EDIFFG": 0.0,
        "ENMAX": incar.get("ENCUT", 400.0),
    }
    taken |= {tag: value for tag, value in incar.items() if tag in taken}
    atoms = "".join(
        f"<rc><c>{site.specie.symbol}</c><c>{symbols.index(site.specie.symbol) + 1}</c></rc>" for site in structure
    )
    types = "".join(
        f"<rc><c>{structure.composition[symbol]:.0f}</c><c>{symbol}</c><c>1.0</c><c>1.0</c><c>{title}</c></rc>"
        for symbol, title in zip(symbols, titles, strict=True)
    )
    fields = "".join(f"<field>{f}</field>" for f in ("atomspertype", "element", "mass", "valence", "pseudopotential"))
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n'
        f"<generator>{_item('program', 'vasp')}{_item('version', '6.4.2')}</generator>\n"
        f"<incar>{''.join(_item(*pair) for pair in incar.items())}</incar>\n"
        '<kpoints><generation param="Gamma">'
        f'<v type="int" name="divisions">{" ".join(map(str, grid))}</v></generation>'
        f"{_vectors('kpointlist', [[0.0] * 3])}{_vectors('weights', [[1.0]])}</kpoints>\n"
        f"<parameters>{''.join(_item(*pair) for pair in taken.items())}</parameters>\n"
        f"<atominfo><atoms>{len(structure)}</atoms><types>{len(symbols)}</types>"
        '<array name="atoms"><dimension dim="1">ion</dimension><field>element</field><field>atomtype</field>'
        f'<set>{atoms}</set></array><array name="atomtypes"><dimension dim="1">type</dimension>{fields}'
        f"<set>{types}</set></array></atominfo>\n{_structure(structure, 'initialpos')}\n"
        + "\n".join(calculations)
        + f"\n{_structure(last, 'finalpos')}\n</modeling>\n"
    )


def _calculation(structure: Structure, energy: float, n_electronic: int, force: float) -> str:
    free = energy - 0.01
    forces = np.zeros((len(structure), 3))
    forces[0, 0] = force
    scf = "".join(f"<scstep>{_energies(free, energy, energy)}</scstep>" for _ in range(n_electronic))
    return (
        f"<calculation>{scf}{_structure(structure)}{_vectors('forces', forces)}"
        f"{_vectors('stress', np.eye(3))}{_energies(free, energy, free - energy)}</calculation>"
    )


def _energies(free: float, second: float, third: float) -> str:
    pairs = zip(("e_fr_energy", "e_wo_entrp", "e_0_energy"), (free, second, third), strict=True)
    return "<energy>" + "".join(f'<i name="{name}">{value:.8f}</i>' for name, value in pairs) + "</energy>"


def _structure(structure: Structure, name: str = "") -> str:
    lattice = structure.lattice
    return (
        f"<structure{f' name={chr(34)}{name}{chr(34)}' if name else ''}><crystal>{_vectors('basis', lattice.matrix)}"
        f'<i name="volume">{lattice.volume:.8f}</i>{_vectors("rec_basis", np.linalg.inv(lattice.matrix).T)}</crystal>'
        f"{_vectors('positions', structure.frac_coords)}</structure>"
    )


def _vectors(name: str, rows) -> str:
    lines = "".join(f"<v>{' '.join(f'{x:.8f}' for x in row)}</v>" for row in rows)
    return f'<varray name="{name}">{lines}</varray>'


def _item(name: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        kind = ' type="logical"' if isinstance(value[0], bool) else ' type="int"' if name == "LDAUL" else ""
        texts = ("T" if one is True else "F" if one is False else f"{one}" for one in value)
        return f'<v{kind} name="{name}">{" ".join(texts)}</v>'
    if isinstance(value, bool):
        return f'<i type="logical" name="{name}">{"T" if value else "F"}</i>'
    if isinstance(value, float):
        return f'<i name="{name}">{value:.8f}</i>'
    return f'<i type="{"int" if isinstance(value, int) else "string"}" name="{name}">{value}</i>'
