"""The reference of the command line, as Markdown, from the commands themselves."""

import re
from typing import Any

import typer

import mlip.cli


def command_line_page() -> str:
    """Every command with its arguments and options; those of groups below their group."""
    mlip.cli._register()
    root = typer.main.get_command(mlip.cli.app)
    return "\n\n".join(_command("mlip", root, level=1)[1:]) + "\n"


def _command(path: str, command: Any, level: int) -> list[str]:
    title = f"{'#' * level} `{path}`"
    parts = [title, _prose(command.help or "")]
    children = getattr(command, "commands", {})
    if not children:
        parts += _parameters(path, command)
    for name, child in children.items():
        if not getattr(child, "hidden", False):
            parts += _command(f"{path} {name}", child, level + 1)
    return parts


def _parameters(path: str, command: Any) -> list[str]:
    shown = [one for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
    arguments = [one for one in shown if one.param_type_name == "argument"]
    options = [one for one in shown if one.param_type_name == "option"]
    usage = " ".join([path, *map(_metavar, arguments), *(["[OPTIONS]"] if options else [])])
    parts = [f"```text\n{usage}\n```"]
    rows = [(f"`{_metavar(one)}`", _cell(one.help)) for one in arguments]
    rows += [(_names(one), _cell(one.help) + _default(one)) for one in options]
    if rows:
        table = "\n".join(f"| {name} | {told} |" for name, told in rows)
        parts.append(f"| argument or option | what it is |\n|---|---|\n{table}")
    return parts


def _metavar(argument: Any) -> str:
    return argument.metavar or argument.name.upper()


def _names(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    return f"{names} *{option.metavar}*" if option.metavar else names


def _default(option: Any) -> str:
    default = option.default
    if default is None or callable(default) or default in (False, True, (), []) or not option.show_default:
        return ""
    return f" Default: `{default}`."


def _cell(text: str | None) -> str:
    return _prose(text or "").replace("|", r"\|").replace("\n", " ")


def _prose(text: str) -> str:
    """Text of a command as Markdown: what Typer's own markup marks stays plain, and asterisks and angles are text."""
    text = re.sub(r"\[/?(?:bold|italic|dim|code|red|green)\]", "", text)
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(one if one.startswith("`") else re.sub(r"([*_<>\[\]#$])", r"\\\1", one) for one in pieces)
