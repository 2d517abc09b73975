"""VASP's output for a run on one copper atom, as short as readers bear: vasprun.xml and OUTCAR."""

import numpy as np


def header(version: str = "6.3.0", nelm: int = 60) -> str:
    """What an OUTCAR begins with."""
    return f""" vasp.{version} 20Jan22 complex
 POTCAR:    PAW_PBE Cu 22Jun2005
   VRHFIN =Cu: d10 p1
   TITEL  = PAW_PBE Cu 22Jun2005
 POTCAR:    PAW_PBE Cu 22Jun2005
   number of dos      NEDOS =    301   number of ions     NIONS =      1
   NELM   = {nelm:6d};   NELMIN=  2; NELMDL= -5     # of ELM steps
   ions per type =               1
   GGA     =    --    GGA type
"""


def step(
    index: int,
    n_electronic: int,
    energy: float,
    *,
    sigma_0: float | None = None,
    electronic: float | None = None,
    dispersion: float | None = None,
    ivdw: int | None = None,
    a: float = 3.6,
    in_kb: str = "  10.0 10.0 10.0 0.0 0.0 0.0",
    before_stress: str = "",
    noise: np.random.Generator | None = None,
) -> str:
    """An ionic step of an OUTCAR; `noise` makes it hard to compress."""
    scf = sum_of = ""
    for k in range(1, n_electronic + 1):
        extra = "".join(map(str, noise.integers(10, size=40))) if noise else ""
        scf += f"--------------------------------------- Iteration {index:6d}({k:4d})  ---------- {extra}\n"
        scf += f"  free energy    TOTEN  =   {electronic if electronic is not None else energy:18.8f} eV\n"
        scf += f"  energy without entropy = {0:18.8f}  energy(sigma->0) = {0:18.8f}\n"
    if dispersion is not None:
        sum_of = (f"  IVDW         = {ivdw}\n" if ivdw is not None else "") + f"  Edisp (eV)  {dispersion:10.5f}\n"
    rows = ((0, a / 2, a / 2), (a / 2, 0, a / 2), (a / 2, a / 2, 0))
    cell = "".join("".join(f"{x:13.9f}" for x in (*row, 0, 0, 0)) + "\n" for row in rows)
    line = " " + "-" * 83 + "\n"
    return (
        f"{scf}{sum_of}{before_stress}  in kB    {in_kb}\n"
        "  VOLUME and BASIS-vectors are now :\n"
        "      direct lattice vectors                 reciprocal lattice vectors\n"
        f"{cell}\n"
        f" POSITION                                       TOTAL-FORCE (eV/Angst)\n{line}"
        f"      0.10000      0.00000      0.00000         0.000000      0.000000      0.250000\n{line}"
        "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ---------------------------------------------------\n"
        f"  free  energy   TOTEN  =   {energy:18.8f} eV\n\n"
        f"  energy  without entropy=   {energy:18.8f}"
        f"  energy(sigma->0) =   {energy if sigma_0 is None else sigma_0:18.8f}\n"
    )


def calculation(electronic: list[tuple[float, float]], free: float, sigma_0: float, a: float = 3.6) -> str:
    """An ionic step of a vasprun.xml; `electronic`: free energy and that at sigma -> 0 of each electronic step."""
    scf = "".join(f"<scstep>{_energies(*one, one[1])}</scstep>" for one in electronic)
    stress = _vectors("stress", np.eye(3) * 10)
    forces = _vectors("forces", [[0.0, 0.0, 0.0]])
    # As VASP does: at sigma -> 0 in the place of "without entropy", the entropy's term in the place of that.
    return f"<calculation>{scf}{_structure(a)}{forces}{stress}{_energies(free, sigma_0, free - sigma_0)}</calculation>"


def vasprun(calculations: list[str], incar: dict[str, object] | None = None, nelm: int = 60) -> str:
    """A whole vasprun.xml."""
    given = "".join(_item(name, value) for name, value in (incar or {}).items())
    taken = {"NELM": nelm, "GGA": "--", "LHFCALC": False, "AEXX": 0.0, "HFSCREEN": 0.0, "LDAU": False, "IBRION": 2}
    atom_types = (
        '<array name="atomtypes"><dimension dim="1">type</dimension>'
        + "".join(
            f"<field>{name}</field>" for name in ("atomspertype", "element", "mass", "valence", "pseudopotential")
        )
        + "<set><rc><c>1</c><c>Cu</c><c>63.5</c><c>11.0</c><c>PAW_PBE Cu 22Jun2005</c></rc></set></array>"
    )
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?><modeling>'
        f"<generator>{_item('program', 'vasp')}{_item('version', '6.3.0')}</generator><incar>{given}</incar>"
        '<kpoints><generation param="Gamma"><v type="int" name="divisions">1 1 1</v></generation>'
        f"{_vectors('kpointlist', [[0.0, 0.0, 0.0]])}{_vectors('weights', [[1.0]])}</kpoints>"
        f"<parameters>{''.join(_item(name, value) for name, value in taken.items())}</parameters>"
        '<atominfo><atoms>1</atoms><types>1</types><array name="atoms"><dimension dim="1">ion</dimension>'
        "<field>element</field><field>atomtype</field><set><rc><c>Cu</c><c>1</c></rc></set></array>"
        f"{atom_types}</atominfo>{_structure(3.6, 'initialpos')}{''.join(calculations)}"
        f"{_structure(3.6, 'finalpos')}</modeling>"
    )


def _energies(free: float, second: float, third: float) -> str:
    names = ("e_fr_energy", "e_wo_entrp", "e_0_energy")
    values = zip(names, (free, second, third), strict=True)
    return f"<energy>{''.join(_item(name, f'{value:.8f}', kind=None) for name, value in values)}</energy>"


def _structure(a: float, name: str = "") -> str:
    basis = _vectors("basis", np.array([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]]))
    crystal = f'<crystal>{basis}<i name="volume">{a**3 / 4}</i>{_vectors("rec_basis", np.eye(3))}</crystal>'
    named = f' name="{name}"' if name else ""
    return f"<structure{named}>{crystal}{_vectors('positions', [[0.0] * 3])}</structure>"


def _vectors(name: str, rows) -> str:
    return (
        f'<varray name="{name}">' + "".join(f"<v>{' '.join(f'{x:.8f}' for x in row)}</v>" for row in rows) + "</varray>"
    )


def _item(name: str, value: object, kind: str | None = "") -> str:
    if isinstance(value, bool):
        return f'<i type="logical" name="{name}">{"T" if value else "F"}</i>'
    if kind is None or isinstance(value, float):
        return f'<i name="{name}">{value}</i>'
    return f'<i type="{"int" if isinstance(value, int) else "string"}" name="{name}">{value}</i>'
