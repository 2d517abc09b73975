"""The page of a campaign: hits of each round compared with chance, growth of the hull, and time of each step."""

import html
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlip.campaign.report import sections
from mlip.campaign.report.files import write_figures
from mlip.campaign.report.rounds import Campaign, read_campaign
from mlip.files.output_paths import make_folder, writing_to
from mlip.files.whole_file import whole_file
from mlip.hull.figures import element_counts
from mlip.report.page import write_page


def write_campaign_report(folder: Path) -> Path:
    """Write the report of the campaign in `folder`: report.html, and its figures as PNG and CSV in figures/.

    Missing data are left out: there may be no rounds, rounds with unknown numbers, or no hull yet.

    Returns:
        Path of the page.

    Raises:
        MlipError: there is no such folder, or it is not writable.
    """
    campaign, figures = read_campaign(folder), folder / "figures"
    make_folder(figures)
    on_hull, added = _element_maps(campaign)
    parts = {
        "Campaign": sections.overview(campaign),
        "Distances to the hull": sections.distances_section(campaign),
        "Hits": sections.hits_section(campaign),
        "Growth": sections.growth_section(campaign),
        "Elements": sections.elements_section(campaign, {"on the hull": on_hull, "put there by the campaign": added}),
        "Property model": sections.model_section(campaign),
        "Endings": sections.failures_section(campaign),
        "Costs": sections.costs_section(campaign),
    }
    if not campaign.rounds:
        parts = {heading: parts[heading] for heading in ("Campaign", "Elements")}
    warning = "".join(f"<p class='warning'>{html.escape(note)}</p>" for note in campaign.notes)
    parts["Campaign"] = warning + parts["Campaign"]
    page = folder / "report.html"
    with writing_to(page):
        write_figures(campaign, figures, {"elements_on_hull": on_hull, "elements_added": added})
        with whole_file(page) as partial:
            write_page(partial, f"Campaign: {campaign.name}", f"campaign {folder.resolve()}", parts)
    return page


def _element_maps(campaign: Campaign) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Number of compounds on the hull by element, and of those that the campaign has calculated."""
    if campaign.hull is None:
        return {}, {}
    on_hull, added = np.flatnonzero(campaign.hull.is_vertex), campaign.added
    ours = np.empty(0, int) if added is None else np.intersect1d(on_hull, added)
    return element_counts(campaign.hull, on_hull), element_counts(campaign.hull, ours)
