"""dvctl help: runbooks by topic, and the help of a command."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from devicevault_cli.cli import complete
from devicevault_cli.cli.command import command
from devicevault_cli.cli.context import Context
from devicevault_cli.errors import NothingMatched


@command("dvctl help", "dvctl help stuck-pending", "dvctl help dlq retry", redis=False)
def help_(
    ctx: Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(help="A topic or a command.", metavar="TOPIC|COMMAND", autocompletion=complete.help_words),
    ] = None,
) -> int:
    """Explain a topic or a command; without one, list the topics.

    A topic is a runbook: what to type when something is wrong, and what is printed then; `...` stands for output that
    differs. On a terminal it is formatted, in a pipe it is Markdown.
    """
    from devicevault_cli.operations import topics

    words = [word for quoted in words or () for word in quoted.split()]
    if not words:
        _list(ctx)
        return 0
    if words[0] in topics.names():
        _print(ctx, words[0])
        return 0
    from devicevault_cli.cli.app import run as run_words

    return run_words([*_command(words), "--help"], ctx.terminal)


def _list(ctx: Context) -> None:
    from devicevault_cli.operations.topics import every_topic

    ctx.printer.answer(every_topic().to_dict(), "topics")
    ctx.printer.hint("`dvctl help TOPIC` prints a topic; `dvctl --help` lists the commands")


def _print(ctx: Context, name: str) -> None:
    """Formatted on a terminal; elsewhere, or where the terminal cannot show it, as it is written."""
    from devicevault_cli.operations.topics import read
    from devicevault_cli.output.markdown_page import markdown_lines
    from devicevault_cli.output.view import View

    formatted = ctx.terminal.stdout_is_tty

    def page(answer: Any, view: View) -> Iterable[str]:
        text: str = answer["text"]
        return markdown_lines(text, view) if formatted and not view.ascii_only else text.splitlines()

    ctx.printer.answer(read(name).to_dict(), view=page)


def _command(words: list[str]) -> list[str]:
    """`show 1-0` -> `show`: what follows a command is no matter of its help. Raises NothingMatched."""
    from devicevault_cli.cli.app import COMMANDS, SUB_APPS

    if words == words[:1] and words[0] in SUB_APPS:
        return words
    named = words[:2] if words[0] in SUB_APPS else words[:1]
    if " ".join(named) not in COMMANDS:
        from devicevault_cli.nearest import nearest, quoted
        from devicevault_cli.operations.topics import names

        close = nearest(" ".join(named), [*COMMANDS, *SUB_APPS, *names()])
        meant = f"; did you mean {' or '.join(close)}?" if close else ""
        raise NothingMatched(
            f"there is no topic or command {quoted(' '.join(named))}{meant}",
            hint="run `dvctl help` to list the topics, `dvctl --help` to list the commands",
        )
    return named
