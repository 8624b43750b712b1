"""What a command takes on its command line, read off the app."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from types import NoneType
from typing import Any, NamedTuple, get_args

from devicevault_cli.cli.app import COMMANDS
from devicevault_cli.cli.command import flags_of


class Taken(NamedTuple):
    """One option or argument: its names (none of an argument), the type of its value, metavar and help."""

    names: tuple[str, ...]
    kind: Any
    metavar: str
    help: str

    @property
    def label(self) -> str:
        """How messages call it."""
        return max(self.names, key=len) if self.names else self.metavar


def taken(words: str, *, own: bool = False) -> Iterator[Taken]:
    """Everything a command takes; `own`: without the settings and the flags of every change."""
    command = COMMANDS[words]
    for parameter in signature(command.function if own else command.callback).parameters.values():
        kind, *declared = get_args(parameter.annotation)[:2] or (None,)
        if declared:
            (kind,) = [each for each in get_args(kind) if each is not NoneType][:1] or [kind]
            yield Taken(flags_of(parameter.annotation), kind, declared[0].metavar or "", declared[0].help or "")
