"""dvctl help: the help of a command."""

from typing import Annotated

import typer

from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Runtime


@command("dvctl help dlq retry", redis=False)
def help_(
    run: Runtime,
    words: Annotated[list[str] | None, typer.Argument(help="The command.", metavar="COMMAND...")] = None,
) -> int:
    """Show the help of a command."""
    from devicevault_cli.cli.app import run as run_words

    return run_words([*_command(words or []), "--help"], run.terminal)


def _command(words: list[str]) -> list[str]:
    """`show 1-0` -> `show`: what follows a command is no matter of its help."""
    from devicevault_cli.cli.app import COMMANDS, SUB_APPS

    if words and words[0] in SUB_APPS:
        return words[:2]
    return words[:1] if words and words[0] in COMMANDS else words
