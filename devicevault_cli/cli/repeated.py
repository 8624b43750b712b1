"""What was typed, without secrets: the whole line for the journal, the settings for a command to type next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from devicevault_cli.redact import scrub

if TYPE_CHECKING:
    from devicevault_cli.cli.context import Context

SETTINGS = ("pipeline", "stream", "group", "config", "profile")
IN_FILE = {"restore-group": ("stream", "group", "pipeline", "database_url"), "db": ("stream", "group", "redis_url")}
"""Settings that do not matter to commands, by their first words: their files say so, or they ask no such server."""


def typed_settings(ctx: Context, names: tuple[str, ...] = SETTINGS) -> str:
    """The options that a command must repeat to be about the same stream; the pipeline also from the environment."""
    chosen = [ctx.settings[name] for name in names]
    repeated = [item for item in chosen if item.source == "flag" or (item.name, item.value) == ("pipeline", "storage")]
    return shlex.join(
        part for item in repeated for value in item.values for part in (f"--{item.name.replace('_', '-')}", value)
    )


def completed(ctx: Context, command: str) -> str:
    """A command of dvctl with the settings that were typed; URLs only where they have no password."""
    first = command.split()[1] if command.startswith("dvctl ") else ""
    if not first or first == "destroy-group":
        names: tuple[str, ...] = ("config", "profile", "redis_url") if first else ()
    else:
        names = tuple(name for name in (*SETTINGS, "redis_url", "database_url") if name not in IN_FILE.get(first, ()))
    shown = tuple(name for name in names if ctx.settings[name].shown == ctx.settings[name].value)
    return " ".join(filter(None, (command, typed_settings(ctx, shown))))


def typed_line(ctx: Context) -> str:
    """The command line as it was typed, without passwords and configurations."""
    from devicevault_cli.operations.entries.fields import SECRET_FIELDS

    settings = (setting for pipeline in (ctx.settings, *ctx.further) for setting in pipeline.all)
    hidden = {item.value: item.shown for item in settings if item.value and item.shown != item.value}
    words = []
    for word in ctx.words:
        for value, shown in hidden.items():
            word = word.replace(value, shown or "")  # noqa: PLW2901
        name, equals, _ = word.removeprefix("--set=").partition("=")
        if equals and name.encode("utf-8", "surrogateescape") in SECRET_FIELDS:
            word = f"{word[: word.index(name)]}{name}=***"  # noqa: PLW2901
        words.append(scrub(word))
    return shlex.join(["dvctl", *words])
