"""Reader of MPtrj's JSON: relaxation steps of the Materials Project.

    {mp_id: {"mp_id-calculation-step": {"structure", "uncorrected_total_energy", "force", "stress", "magmom", ...}}}

Energies are eV per cell, as computed by VASP; forces and stress are their derivatives. The Materials Project's
corrections, which put PBE and PBE+U on one scale, are constant for a composition; they are kept as the property
`mp_correction` (eV per cell). Forces are eV/A, stresses kB with VASP's sign. The set is subsampled, so calculations and
steps have gaps.

Deng et al., "CHGNet as a pretrained universal neural network potential for charge-informed atomistic modeling", 2023.
"""

import re
from collections import Counter
from typing import Any

import numpy as np

from mlip.data.readers.pymatgen_json import SpeciesBefore, get, heavy_hydrogen_remark, is_number, labeled_frame
from mlip.data.records import Frame, MalformedError, Trajectory
from mlip.data.schema import end_mark

_FRAME_ID = re.compile(r"-(\d+)-(\d+)$")


def trajectory_from_frames(
    material_id: str, frames: dict[str, Any], functional: str, dimensionality: int
) -> Trajectory:
    """Trajectory of a material's frames, ordered by calculation and ionic step.

    Raises:
        MalformedError: a structure is faulty, the composition changes, or no frame has energy and forces.
    """
    kept: list[Frame] = []
    dropped: Counter[str] = Counter()
    species = SpeciesBefore()
    heavy: list[str] = []
    corrections = set()
    lost_end = False
    for calculation, ionic_step, frame_id in sorted(map(_place, frames)):
        step = frames[frame_id]
        frame = labeled_frame(
            get(step, "structure", frame_id),
            step.get("uncorrected_total_energy"),
            step.get("force"),
            step.get("stress"),
            magmoms=step.get("magmom"),
            calculation=calculation,
            ionic_step=ionic_step,
            where=frame_id,
            species=species,
        )
        lost_end = isinstance(frame, str)
        if lost_end:
            dropped[frame] += 1
            continue
        if kept and not np.array_equal(np.sort(frame.numbers), np.sort(kept[0].numbers)):
            raise MalformedError("composition changes along the path", frame_id)
        kept.append(frame)
        if species.is_heavy_hydrogen:
            heavy.append(frame.name)
        if is_number(corrected := step.get("corrected_total_energy")):
            corrections.add(round(corrected - frame.energy, 6))
    if not kept:
        raise MalformedError("no usable step", ", ".join(f"{n} x {reason}" for reason, n in dropped.items()) or "none")
    properties = end_mark(lost_end)
    if len(corrections) == 1:
        properties["mp_correction"] = corrections.pop()
    remarks = heavy_hydrogen_remark(heavy)
    return Trajectory(material_id, kept, functional, dimensionality, properties, dropped, remarks)


def _place(frame_id: str) -> tuple[int, int, str]:
    found = _FRAME_ID.search(frame_id)
    if found is None:
        raise MalformedError("frame without a number", f"{frame_id!r} does not end with -calculation-step")
    return int(found[1]), int(found[2]), frame_id
