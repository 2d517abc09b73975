"""The published potentials that go by name, and the recipes, as Markdown tables from the registry and the files."""

from model_card import errors_line, link

from mlip.cli.train import first_sentence
from mlip.files.known_folders import packaged_files
from mlip.pretrained import PretrainedEntry, default_potential, known

_STATES = {
    "in mlip": "in mlip",
    "ready": "ready",
    "by hand": "by hand",
    "not readable yet": "in ASE",
}


def potentials_page() -> str:
    """A table of all, and a section a family with what each was trained on and how it is cited."""
    entries = list(known().values())
    families: dict[str, list[PretrainedEntry]] = {}
    for entry in entries:
        families.setdefault(entry.family, []).append(entry)
    return "\n\n".join([_table(entries), *(_family(name, members) for name, members in families.items())]) + "\n"


def _table(entries: list[PretrainedEntry]) -> str:
    rows = [
        "| name | functional | elements | parameters | MB | license | state |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    for entry in entries:
        cells = (
            f"`{entry.name}`" + (" (default)" if entry.name == default_potential() else ""),
            entry.functional.replace("|", "\\|") + (" (+U)" if entry.hubbard_u else ""),
            str(entry.elements or ""),
            f"{entry.parameters:,}" if entry.parameters else "",
            f"{entry.bytes / 1e6:.1f}" if entry.bytes else "",
            f"[{entry.license.id.removeprefix('LicenseRef-')}]({entry.license.url})",
            _STATES[entry.state],
        )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _family(name: str, members: list[PretrainedEntry]) -> str:
    return "\n\n".join([f"## {name}", *map(_entry, members)])


def _entry(entry: PretrainedEntry) -> str:
    lines = [f"**{entry.title}**: `{entry.name}`"]
    if entry.aliases:
        lines[0] += ", also " + ", ".join(f"`{alias}`" for alias in entry.aliases)
    facts = {
        "Trained on": entry.training_data,
        "+U": entry.hubbard_u,
        "Dispersion": entry.dispersion,
        "Cite": ", ".join(map(link, entry.citation)),
        "Weights": f"<{entry.source.homepage}>",
        "In ASE": f"`{entry.ase}`" if entry.ase else "",
        "Passing on": entry.license.redistribution,
        "Note": entry.note,
    }
    if entry.card:
        facts |= {"Teacher": f"`{entry.card.teacher}`" if entry.card.teacher else ""}
        facts |= {"Learned from": "; ".join(f"{one.what} ({one.license})" for one in entry.card.learned_from)}
        facts |= {"Not for": "; ".join(entry.card.warnings)}
        if entry.name == default_potential():
            facts |= {"Model card": "[the default potential](default_potential.md)"}
    lines += [f"- {key}: {value}" for key, value in facts.items() if value]
    lines += [f"- Errors on {errors_line(errors)}" for errors in entry.errors]
    return lines[0] + "\n\n" + "\n".join(lines[1:])


def recipes_table() -> str:
    """Name and first sentence of every recipe."""
    rows = [f"| `{name}` | {first_sentence(path)} |" for name, path in packaged_files("recipes").items()]
    return "\n".join(["| recipe | what it is |", "|---|---|", *rows]) + "\n"
