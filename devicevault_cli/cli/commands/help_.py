"""dvctl help: the help of a command."""

from typing import Annotated

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.errors import NothingMatched


@command("dvctl help dlq retry", redis=False)
def help_(
    ctx: Context,
    words: Annotated[list[str] | None, typer.Argument(help="The command.", metavar="COMMAND...")] = None,
) -> int:
    """Show the help of a command."""
    from devicevault_cli.cli.app import run as run_words

    return run_words([*_command(words or []), "--help"], ctx.terminal)


def _command(words: list[str]) -> list[str]:
    """`show 1-0` -> `show`: what follows a command is no matter of its help. Raises NothingMatched."""
    from devicevault_cli.cli.app import COMMANDS, SUB_APPS

    if not words or (words == words[:1] and words[0] in SUB_APPS):
        return words
    named = words[:2] if words[0] in SUB_APPS else words[:1]
    if " ".join(named) not in COMMANDS:
        from devicevault_cli.nearest import nearest, quoted

        close = nearest(" ".join(named), [*COMMANDS, *SUB_APPS])
        meant = f"; did you mean {' or '.join(close)}?" if close else ""
        raise NothingMatched(
            f"there is no command {quoted(' '.join(named))}{meant}", hint="run `dvctl --help` to list the commands"
        )
    return named
