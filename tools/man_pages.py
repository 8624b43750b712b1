"""The manual pages, made from the app: dvctl.1 and one for each command. tools/build_hook.py puts them in the wheel."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from devicevault_cli import __version__
from devicevault_cli.cli.app import app
from devicevault_cli.pipelines import PIPELINES
from devicevault_cli.settings import NAMES, environment_variables

README = Path(__file__).parents[1] / "README.md"
SPECIAL = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
"""What roff would otherwise read as something else, or print as a typographic character that cannot be pasted."""


def pages() -> dict[str, str]:
    """Every page under its file name. SOURCE_DATE_EPOCH dates them; without it they have no date."""
    root = _context(typer.main.get_command(app), "dvctl")
    return {f"{_name(context)}.1": _page(context) for context in _contexts(root)}


def _context(command: Any, word: str, parent: typer.Context | None = None) -> typer.Context:
    return typer.Context(command, parent=parent, info_name=word, **command.context_settings)


def _contexts(context: typer.Context) -> Iterator[typer.Context]:
    yield context
    for below in _below(context):
        yield from _contexts(below)


def _below(context: Any) -> list[typer.Context]:
    commands = getattr(context.command, "commands", {}).items()
    return [_context(command, word, context) for word, command in commands if not command.hidden]


def _page(context: typer.Context) -> str:
    command: Any = context.command
    epilog, _, examples = (command.epilog or "").partition("Examples:\n")
    lines = [
        f'.TH "{_roff(_name(context).upper())}" 1 "{_date()}" "dvctl {__version__}" "dvctl manual"',
        ".ad l",
        ".SH NAME",
        rf"{_roff(_name(context))} \- {_roff(_summary(context).removesuffix(' *'))}",
        ".SH SYNOPSIS",
        f"{_bold(context.command_path)} {_roff(' '.join(command.collect_usage_pieces(context)))}",
        ".SH DESCRIPTION",
        *_paragraphs(command.help.split("\n\n")),
    ]
    lines += _parameters(context) + _commands(context)
    if epilog:
        lines += [".SH NOTES", *_paragraphs(epilog.splitlines())]
    if examples:
        lines += [".SH EXAMPLES", ".EX", *(_roff(line.strip()) for line in examples.splitlines()), ".EE"]
    if context.parent is None:
        lines += _section("SH", "Exit status", _exit_codes()) + _section("SH", "Environment", _environment())
    else:
        siblings = [sibling for sibling in _below(context.parent) if sibling.info_name != context.info_name]
        related = [context.parent, *(siblings if context.parent.parent else ())]
        lines += [".SH SEE ALSO", ",\n".join(f"{_bold(_name(page))}(1)" for page in related)]
    return "\n".join(lines) + "\n"


def _name(context: typer.Context) -> str:
    return context.command_path.replace(" ", "-")


def _date() -> str:
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%d}" if seconds else ""


def _summary(context: typer.Context) -> str:
    command: Any = context.command
    text: str = command.short_help or command.help
    return text.partition("\n")[0].removesuffix(".")


def _parameters(context: typer.Context) -> list[str]:
    """Arguments and options, under the heads of the help."""
    panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            panel = _panel(parameter) or f"{parameter.param_type_name}s".capitalize()
            panels.setdefault(panel, []).append((" ".join(map(_word, record[0].split())), record[1]))
    heads = {panel: "SH" if panel in ("Arguments", "Options") else "SS" for panel, entries in panels.items() if entries}
    return [line for panel, macro in heads.items() for line in _section(macro, panel, panels[panel])]


def _commands(context: typer.Context) -> list[str]:
    """The commands of a group, under the heads of the help."""
    panels: dict[str | None, list[tuple[str, str]]] = {}
    for below in _below(context):
        panels.setdefault(_panel(below.command), []).append((f"{_bold(_name(below))}(1)", _summary(below)))
    lines = [".SH COMMANDS"] if panels else []
    for panel, entries in panels.items():
        lines += _section("SS", panel, entries)
    return lines


def _panel(shown: Any) -> str | None:
    panel = getattr(shown, "rich_help_panel", None)
    return Text.from_markup(panel).plain if panel else None


def _exit_codes() -> list[tuple[str, str]]:
    """The table of the README."""
    table = README.read_text("utf-8").partition("| exit code |")[2].partition("\n\n")[0]
    rows = (line.strip("| ").split(" | ") for line in table.splitlines()[2:])
    return [(_bold(code), meaning) for code, meaning in rows]


def _environment() -> Iterator[tuple[str, str]]:
    """The variables of each setting; a setting that each pipeline has of its own stands once for each."""
    for name in NAMES:
        pipelines = {tuple(environment_variables(name, pipeline)): pipeline for pipeline in PIPELINES}
        for variables, pipeline in pipelines.items():
            where = f" (pipeline {pipeline})" if len(pipelines) > 1 else ""
            yield ", ".join(map(_bold, variables)), f"Used if `--{name.replace('_', '-')}` is not given{where}."


def _section(macro: str, head: str | None, entries: Iterable[tuple[str, str]]) -> list[str]:
    lines = [f".{macro} {_roff(head.upper() if macro == 'SH' else head)}"] if head else []
    for term, text in entries:
        lines += [".TP", term, _roff(text)]
    return lines


def _paragraphs(texts: Iterable[str]) -> list[str]:
    return ("\n.PP\n".join(_roff(" ".join(text.split())) for text in texts)).splitlines()


def _word(word: str) -> str:
    """A flag is bold, its value italic."""
    flag, comma, _ = word.partition(",")
    return f"{_bold(flag)}{comma}" if word.startswith("-") else rf"\fI{_roff(word)}\fR"


def _bold(text: str) -> str:
    return rf"\fB{_roff(text)}\fR"


def _roff(text: str) -> str:
    """One line of text; what stands in backticks is bold."""
    parts = ["".join(SPECIAL.get(letter, letter) for letter in part) for part in re.split("`([^`]+)`", text)]
    line = "".join(rf"\fB{part}\fR" if number % 2 else part for number, part in enumerate(parts))
    return rf"\&{line}" if line.startswith(".") else line
