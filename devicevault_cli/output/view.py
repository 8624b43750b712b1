"""How a picture for people is drawn: its width, and colours with a meaning."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
STATES = {"ok": "green", "warning": "yellow", "unknown": "yellow", "problem": "red", "critical": "red"}
"""The colour of each state. No colour has another meaning."""


class Cell(NamedTuple):
    """Inert text, and how it is painted: names of CODES."""

    text: str
    style: str = ""


def paint(text: str, style: str) -> str:
    """The text with the escape codes of a style, such as `bold red`."""
    if not style or not text:
        return text
    return f"\x1b[{';'.join(CODES[name] for name in style.split())}m{text}\x1b[0m"


@dataclass(frozen=True, slots=True)
class View:
    """What a picture may use: so many columns, and colours or none."""

    width: int
    coloured: bool
    ascii_only: bool = False

    @property
    def bar(self) -> str:
        """A character that bars are made of: blocks on a terminal that has them."""
        return "\u2588" if self.coloured and not self.ascii_only else "#"

    def paint(self, text: str, style: str) -> str:
        """Inert text in a style."""
        return paint(text, style) if self.coloured else text

    def state(self, name: str, text: str) -> str:
        """Inert text in the colour of a state, bold."""
        return self.paint(text, f"bold {STATES[name]}")

    def grid(self, rows: Sequence[Sequence[str | Cell]], right: Sequence[bool] | None = None) -> list[str]:
        """Inert cells in columns; what does not fit is folded."""
        from devicevault_cli.output.table import lines_of

        return lines_of(rows, self.width, right, coloured=self.coloured) if rows else []

    def table(self, heads: Mapping[str, bool], rows: Sequence[Sequence[str | Cell]]) -> list[str]:
        """Inert cells below bold headings; of each heading, whether its column is aligned to the right."""
        return self.grid([[Cell(head, "bold") for head in heads], *rows], list(heads.values()))

    def folded(self, text: str, style: str = "", indent: str = "") -> Iterator[str]:
        """A sentence as lines of this width; a longer word, which may be a path to copy, stays whole."""
        wrapper = textwrap.TextWrapper(
            self.width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
        )
        lines = wrapper.wrap(text) or [""]
        for line in lines:
            yield self.paint(line, style)
