"""Relaxation paths written as VASP would have: a `vasprun.xml` a folder, for the tutorials.

VASP's files cannot be passed on with a program, and the bundled paths are of a learned surface. Their energies, forces
and stresses stand here in the places and units of VASP's; no number was computed by VASP.
"""

from collections import Counter
from pathlib import Path

import numpy as np
from ase import Atoms

from mlip.units import stress_to_vasp


def write_run(folder: Path, path: list[Atoms]) -> None:
    """Write folder/vasprun.xml.

    Args:
        path: steps of one relaxation, each with energy, forces and stress; equal elements together.
    """
    folder.mkdir(parents=True, exist_ok=True)
    first = path[0]
    parts = [
        '<?xml version="1.0" encoding="ISO-8859-1"?><modeling>',
        f"<generator>{_item('program', 'vasp')}{_item('version', '6.3.0')}</generator>",
        f"<incar>{_item('GGA', 'PE')}</incar>",
        '<kpoints><generation param="Gamma"><v type="int" name="divisions">1 1 1</v></generation>',
        f"{_vectors('kpointlist', [[0.0, 0.0, 0.0]])}{_vectors('weights', [[1.0]])}</kpoints>",
        "<parameters>",
        _item("NELM", 60) + _item("GGA", "PE") + _item("LHFCALC", False) + _item("LDAU", False) + _item("IBRION", 2),
        _item("AEXX", 0.0) + _item("HFSCREEN", 0.0),
        "</parameters>",
        _atominfo(first),
        _structure(first, "initialpos"),
        *map(_calculation, path),
        _structure(path[-1], "finalpos"),
        "</modeling>",
    ]
    (folder / "vasprun.xml").write_text("\n".join(parts), encoding="utf-8")


def _atominfo(atoms: Atoms) -> str:
    kinds = list(Counter(atoms.get_chemical_symbols()).items())
    index = {symbol: k for k, (symbol, _) in enumerate(kinds, 1)}
    ions = "".join(f"<rc><c>{symbol}</c><c>{index[symbol]}</c></rc>" for symbol in atoms.get_chemical_symbols())
    types = "".join(
        f"<rc><c>{n}</c><c>{symbol}</c><c>1.0</c><c>1.0</c><c>PAW_PBE {symbol}</c></rc>" for symbol, n in kinds
    )
    fields = ("atomspertype", "element", "mass", "valence", "pseudopotential")
    return (
        f"<atominfo><atoms>{len(atoms)}</atoms><types>{len(kinds)}</types>"
        '<array name="atoms"><dimension dim="1">ion</dimension><field>element</field><field>atomtype</field>'
        f'<set>{ions}</set></array><array name="atomtypes"><dimension dim="1">type</dimension>'
        f"{''.join(f'<field>{name}</field>' for name in fields)}<set>{types}</set></array></atominfo>"
    )


def _calculation(atoms: Atoms) -> str:
    energy = atoms.get_potential_energy()
    energies = "".join(_item(name, f"{energy:.8f}") for name in ("e_fr_energy", "e_wo_entrp", "e_0_energy"))
    return (
        f"<calculation><scstep><energy>{energies}</energy></scstep>{_structure(atoms)}"
        f"{_vectors('forces', atoms.get_forces())}{_vectors('stress', stress_to_vasp(atoms.get_stress()))}"
        f"<energy>{_item('e_fr_energy', f'{energy:.8f}')}{_item('e_wo_entrp', f'{energy:.8f}')}"
        f"{_item('e_0_energy', '0.00000000')}</energy></calculation>"
    )


def _structure(atoms: Atoms, name: str = "") -> str:
    crystal = (
        f'<crystal>{_vectors("basis", atoms.cell.array)}<i name="volume">{atoms.get_volume()}</i>'
        f"{_vectors('rec_basis', np.linalg.inv(atoms.cell.array).T)}</crystal>"
    )
    named = f' name="{name}"' if name else ""
    return f"<structure{named}>{crystal}{_vectors('positions', atoms.get_scaled_positions())}</structure>"


def _vectors(name: str, rows) -> str:
    lines = "".join(f"<v>{' '.join(f'{x:.8f}' for x in row)}</v>" for row in rows)
    return f'<varray name="{name}">{lines}</varray>'


def _item(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f'<i type="logical" name="{name}">{"T" if value else "F"}</i>'
    if isinstance(value, int):
        return f'<i type="int" name="{name}">{value}</i>'
    if isinstance(value, float):
        return f'<i name="{name}">{value}</i>'
    is_number = value[-1:].isdigit() and name.startswith("e_")
    return f'<i name="{name}">{value}</i>' if is_number else f'<i type="string" name="{name}">{value}</i>'
