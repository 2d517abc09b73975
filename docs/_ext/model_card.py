"""Model cards of our own potentials, as Markdown: errors, what they have learned from, and where not to use them."""

from mlip.pretrained import PretrainedEntry
from mlip.pretrained.entry import FEW_FRAMES, MEASURES, LearnedFrom, MeasuredErrors, ModelCard
from mlip.report.periodic_table import periodic_table


def default_page(entry: PretrainedEntry) -> str:
    """The declared default's page: its card, or, of a potential of others, where to look."""
    told = f"The default is `{entry.name}`: {entry.title}, functional {entry.functional}, license {entry.license.id}."
    if entry.card is None:
        return f"{told} It is fetched from its publisher once; its errors are in [the list](pretrained.md).\n"
    return f"{told} It comes with `mlip`, and needs no network.\n\n{model_card(entry, entry.card)}\n"


def model_card(entry: PretrainedEntry, card: ModelCard) -> str:
    """Sections of the card."""
    return "\n\n".join(
        [
            "## Where not to use it",
            "\n".join(f"- {warning}" for warning in card.warnings),
            _rare(card),
            "## Errors",
            _errors_table(entry.errors),
            "## What it has learned from",
            _teacher(entry, card),
            _sources_table(card.learned_from),
            f"`{card.made_by}` in the repository makes it again. Cite {', '.join(map(link, entry.citation))}.",
            "## How much it has seen of each element",
            f"```{{raw}} html\n{frames_figure(card)}\n```",
        ]
    )


def errors_line(errors: MeasuredErrors) -> str:
    """Errors on a set, with the units of print."""
    return _in_print(f"{errors.data}: {errors}")


def _in_print(text: str) -> str:
    return text.replace("A^3", "Å³").replace("/A", "/Å")


def _errors_table(rows: tuple[MeasuredErrors, ...]) -> str:
    """A row a set, with the columns that some set has."""
    shown = {key: told for key, told in MEASURES.items() if any(getattr(row, key) is not None for row in rows)}
    titles = ["data", "labels", "materials", *(_in_print(f"{name}{unit}") for name, unit in shown.values())]
    lines = [titles, ["---", "---", *["---:"] * (len(shown) + 1)]]
    for row in rows:
        values = (getattr(row, key) for key in shown)
        numbers = ("" if value is None else f"{value:g}" for value in values)
        lines.append([row.data, row.labels, f"{row.materials:,}", *numbers])
    note = "Energies, forces, stresses and volumes: mean absolute errors, measured by `mlip`'s own benchmarks."
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{note}"


def frames_figure(card: ModelCard) -> str:
    """The periodic table with the number of training frames of each element, as HTML."""
    notes = dict.fromkeys(card.rare_elements, "the potential hardly knows it")
    return periodic_table(card.frames_by_element, "training frames", ",.0f", notes)


def link(citation: str) -> str:
    """A citation as a link, where it has an address."""
    kind, _, rest = citation.partition(":")
    if kind == "arXiv":
        return f"[{citation}](https://arxiv.org/abs/{rest})"
    if kind == "doi":
        return f"[{citation}](https://doi.org/{rest})"
    return citation


def _rare(card: ModelCard) -> str:
    if not card.rare_elements:
        return f"Of every element that it knows it has seen {FEW_FRAMES} frames or more; see the table at the end."
    told = ", ".join(f"{symbol} ({card.frames_by_element[symbol]})" for symbol in card.rare_elements)
    return f"It hardly knows elements with fewer than {FEW_FRAMES} training frames: {told}."


def _teacher(entry: PretrainedEntry, card: ModelCard) -> str:
    told = f"It was trained on {entry.training_data}."
    if card.teacher is None:
        return told
    return (
        f"{told} Its teacher is `{card.teacher}`: energies, forces and stresses are that potential's, so its errors "
        "come on top of the teacher's."
    )


def _sources_table(sources: tuple[LearnedFrom, ...]) -> str:
    rows = ["| what | license | cite |\n|---|---|---|"]
    for source in sources:
        frames = f", {source.frames:,} frames" if source.frames else ""
        rows.append(f"| {source.what}{frames} | {source.license} | {', '.join(map(link, source.citation))} |")
    return "\n".join(rows)
