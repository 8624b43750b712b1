"""How Typer's help looks: bold names and heads, no colours, which elsewhere mean a state."""

from typing import Any

import typer
from typer.core import TyperCommand

_BOLD = ("STYLE_OPTION", "STYLE_SWITCH", "STYLE_USAGE", "STYLE_COMMANDS_TABLE_FIRST_COLUMN")
_DIM = ("STYLE_TYPES", "STYLE_NEGATIVE_OPTION", "STYLE_NEGATIVE_SWITCH", "STYLE_OPTION_ENVVAR")
_HEADS = ("ARGUMENTS_PANEL_TITLE", "OPTIONS_PANEL_TITLE", "COMMANDS_PANEL_TITLE")


def head(name: str) -> str:
    """The head of a panel, bold."""
    return f"[bold not dim]{name}[/]"


def style_help() -> None:
    """Set the styles, which are Typer's module constants; only when help is printed, because they bring Rich."""
    from typer import rich_utils

    for names, style in ((_BOLD, "bold"), (_DIM, "dim")):
        for name in names:
            setattr(rich_utils, name, style)
    for name in _HEADS:
        title = getattr(rich_utils, name)
        setattr(rich_utils, name, title if title.startswith("[") else head(title))


class StyledCommand(TyperCommand):
    """A command whose help is printed in these styles."""

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        style_help()
        super().format_help(ctx, formatter)
