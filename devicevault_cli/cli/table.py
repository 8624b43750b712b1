"""The command table: every command, its panel in the help, and where its function stands."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from devicevault_cli.errors import Usage

if TYPE_CHECKING:
    from devicevault_cli.cli.options import Command

PANELS: dict[str, dict[str, str]] = {
    "Run": {
        "consume": "consume:consume",
        "publish": "publish:publish",
        "demo": "demo:demo",
    },
    "Look": {
        "status": "status:status",
        "pending": "pending:pending",
        "show": "show:show",
        "tail": "tail:tail",
        "top": "top:top",
        "verify": "verify:verify",
        "check": "check:check",
        "doctor": "doctor:doctor",
        "incidents list": "incidents:list_",
        "config": "config:config",
    },
    "Repair": {
        "claim": "claim:claim",
        "ack": "ack:ack",
        "consumers list": "consumers:list_",
        "consumers retire": "consumers:retire",
        "reset-group": "groups:reset_group",
        "destroy-group": "groups:destroy_group",
        "restore-group": "groups:restore_group",
        "replay": "replay:replay",
        "dlq list": "dlq:list_",
        "dlq show": "dlq:show",
        "dlq stats": "dlq:stats",
        "dlq retry": "dlq:retry",
        "dlq drop": "dlq:drop",
        "incidents acknowledge": "incidents:acknowledge",
        "trim": "trim:trim",
        "export": "export:export",
    },
    "Database": {
        "db index": "db:index",
        "db dedupe": "dedupe:dedupe",
        "db init": "db:init",
    },
}
"""What each command's words are, and where its function stands: `module:name` in devicevault_cli.cli.commands.

Only the module of the command that is typed is imported.
"""

TABLE = {words: place for panel in PANELS.values() for words, place in panel.items()}
GROUPS = {words.partition(" ")[0] for words in TABLE if " " in words}
DEFAULTS = {"consumers": "list", "dlq": "list", "incidents": "list"}
"""What a group of commands does when none of them is named."""


def load(words: str) -> Command:
    """Import one command."""
    module, _, name = TABLE[words].partition(":")
    loaded: Command = getattr(import_module(f"devicevault_cli.cli.commands.{module}"), name)
    return loaded


def find(words: list[str]) -> tuple[str, list[str]]:
    """Split a command line into the command's words and the rest. Raises Usage."""
    if not words:
        raise Usage("no command is given", hint="run `dvctl --help` to list the commands")
    if words[0].startswith("-"):
        raise Usage("options go after the command", hint=f"type dvctl COMMAND {words[0]}, see `dvctl --help`")
    first, *rest = words
    if first not in GROUPS:
        if first not in TABLE:
            known = [*GROUPS, *(each for each in TABLE if " " not in each)]
            raise _no_command(first, known)
        return first, rest
    if not rest or rest[0].startswith("-"):
        rest = [DEFAULTS.get(first, ""), *rest]
    name = f"{first} {rest[0]}".rstrip()
    if name not in TABLE:
        known = [each for each in TABLE if each.startswith(f"{first} ")]
        if name == first:
            raise Usage(f"{first} does nothing by itself", hint=f"add one of: {', '.join(known)}")
        raise _no_command(name, known)
    return name, rest[1:]


def _no_command(name: str, known: list[str]) -> Usage:
    return Usage(no_command(name, known), hint="run `dvctl --help` to list the commands")


def no_command(name: str, known: list[str]) -> str:
    """Says that a command does not exist, and which was meant."""
    from devicevault_cli.nearest import nearest, quoted

    close = nearest(name, known)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"there is no command {quoted(name)}{meant}"
