"""A page of Markdown on a terminal: rendered by Rich with bold heads and commands, and no colours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO

from devicevault_cli.output.view import View

WIDEST = 100
"""Columns of prose: longer lines are hard to read."""
_FENCE = re.compile(r"^```\w*\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_SPACE = "\ue000"
"""Stands for a space at which no line ends; of a private area, so that no page has it."""
_BOLD = ("h1", "h2", "h3", "code", "strong", "table.header")
_PLAIN = ("item.bullet", "item.number", "link", "link_url", "table.border", "paragraph", "text", "hr")


def markdown_lines(text: str, view: View) -> Iterator[str]:
    """The page as finished lines; those of a code block are never folded, so that commands can be copied."""
    for number, part in enumerate(_FENCE.split(text)):
        if number:
            yield ""
        yield from _code(part, view) if number % 2 else _prose(part.strip(), view)


def _code(block: str, view: View) -> Iterator[str]:
    for line in block.splitlines():
        yield f"  {view.paint(line, 'bold') if line.startswith('$ ') else line}".rstrip()


def _prose(text: str, view: View) -> Iterator[str]:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.markdown import Heading, Markdown
    from rich.theme import Theme

    class Head(Heading):
        """On the left, without a frame."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            self.text.justify = "left"
            yield self.text

    class Page(Markdown):
        elements = Markdown.elements | {"heading_open": Head}

    styles = {f"markdown.{name}": "bold" for name in _BOLD} | {f"markdown.{name}": "none" for name in _PLAIN}
    drawn = StringIO()
    console = Console(
        file=drawn,
        width=min(view.width, WIDEST),
        theme=Theme(styles),
        color_system="standard" if view.coloured else None,
        force_terminal=view.coloured,
        legacy_windows=False,
        highlight=False,
    )
    # Commands are not folded at their spaces.
    console.print(Page(_CODE.sub(lambda code: code[0].replace(" ", _SPACE), text), hyperlinks=False))
    for line in drawn.getvalue().replace(_SPACE, " ").splitlines():
        yield line.rstrip()
