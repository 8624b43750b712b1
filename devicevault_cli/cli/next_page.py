"""The command line that goes on where an answer was cut off."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from devicevault_cli.cli.context import Context


def again(ctx: Context, options: Mapping[str, object], *arguments: str) -> str:
    """The command with arguments and options (None: not given), and the settings that were typed, to be pasted."""
    typed = [
        (f"--{setting.name.replace('_', '-')}", value)
        for setting in ctx.settings.all
        if setting.source == "flag" and setting.name != "output"
        for value in (setting.values if setting.more else (setting.shown,))
    ]
    words = ["dvctl", *ctx.command.split(), *arguments]
    for name, value in (*options.items(), *typed):
        if value is not None:
            text = str(value)
            # A value that begins with a hyphen would be taken for an option.
            words += [f"{name}={text}"] if text.startswith("-") else [name, text]
    return shlex.join(words)
