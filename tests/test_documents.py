"""README and docs: short enough, links lead somewhere, and every command that they show is one."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import mlip.cli
from tests.conftest import REPOSITORY

DOCUMENTS = sorted(
    path
    for path in (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").rglob("*.md"))
    if not {"_build", "generated"} & set(path.relative_to(REPOSITORY).parts)
)
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
LINE = re.compile(r"^(?:!|\$ )?(?:srun |MLIP_OFFLINE=1 )?(mlip .*)$")


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(REPOSITORY)) for path in paths]


def test_readme_is_a_page():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert len(text.split()) <= 900


@pytest.mark.parametrize("path", DOCUMENTS, ids=names(DOCUMENTS))
def test_links_lead_to_files(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = [target for target in LINK.findall(text) if not (path.parent / target).exists()]
    assert broken == []


def commands_of(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [match[1].split("  #")[0].rstrip() for line in lines if (match := LINE.match(line.strip()))]


WITH_COMMANDS = [path for path in DOCUMENTS if commands_of(path)]


@pytest.fixture(scope="module")
def root() -> Any:
    mlip.cli._register()
    return typer.main.get_command(mlip.cli.app)


@pytest.mark.parametrize("path", WITH_COMMANDS, ids=names(WITH_COMMANDS))
def test_commands_and_their_options_exist(path, root):
    for line in commands_of(path):
        words = shlex.split(re.split(r" (?:2>|\||;)", line)[0])[1:]
        command = root
        while hasattr(command, "commands") and words and not words[0].startswith("-"):
            _, command, words = command.resolve_command(typer.Context(command), words)  # an error names what is none
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help", "-h"}
        unknown = [word for word in words if word.startswith("--") and word.split("=")[0] not in known]
        assert unknown == [], line


def test_release_files_can_be_read():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["preferred-citation"]["authors"]
    for path in (REPOSITORY / ".github").rglob("*.yml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8")), path
