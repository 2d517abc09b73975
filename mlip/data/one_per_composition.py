"""Selection of one material for each composition, such as the one of lowest formation energy, for models of
compositions.

Other materials of a composition have the same input and other properties, and such models cannot distinguish them.
"""

from collections.abc import Sequence
from itertools import compress
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from mlip.data.build_report import BuildReport
from mlip.data.formula import composition_key
from mlip.data.properties import property_of
from mlip.data.refine import count_kept
from mlip.data.store import Store
from mlip.errors import MlipError


def keep_lowest(files: Sequence[Path], name: str, report: BuildReport) -> list[Bool[np.ndarray, " m"]]:
    """Masks of the materials in store files that have the lowest value of a property among all of their reduced
    composition; the first of equals. Materials without the property are not kept.

    Args:
        report: account of what the files hold, which is changed to the account of what is kept.

    Raises:
        MlipError: no material has the property.
    """
    best: dict[str, tuple[float, int, int]] = {}
    kept = []
    for which, file in enumerate(files):
        with Store(file) as store:
            kept.append(np.zeros(store.n_materials, bool))
            for place, material in enumerate(store.materials()):
                value = property_of(store, material, name)
                if value is None:
                    continue
                key = composition_key(store.frame(material.frames[-1]))
                if key not in best or value < best[key][0]:
                    best[key] = value, which, place
    if not best:
        raise MlipError(f"no material has the property {name!r}", where="--lowest", fix="see `mlip data info`")
    for _, which, place in best.values():
        kept[which][place] = True
    _recount(files, kept, report)
    return kept


def _recount(files: Sequence[Path], kept: Sequence[Bool[np.ndarray, " m"]], report: BuildReport) -> None:
    materials, frames = sum(report.materials_kept.values()), sum(report.frames_kept.values())
    for counter in (report.materials_kept, report.frames_kept, report.sets, report.labels):
        counter.clear()
    for file, are_kept in zip(files, kept, strict=True):
        with Store(file) as store:
            for material, path in compress(zip(store.materials(), store.trajectories(), strict=True), are_kept):
                count_kept(path, material.split, report)
    report.not_lowest_materials = materials - sum(report.materials_kept.values())
    report.not_lowest_frames = frames - sum(report.frames_kept.values())
