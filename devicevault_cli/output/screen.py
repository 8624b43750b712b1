"""A whole screen that is drawn anew, and the keys that are pressed meanwhile."""

from __future__ import annotations

import os
import select
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from devicevault_cli.output.terminal import Terminal


class Screen:
    """Shows lines; what does not fit the height is left out at the end."""

    def __init__(self, live: Live, console: Console, keys: int) -> None:
        self._live = live
        self._console = console
        self._keys = keys

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows, as they are now."""
        return self._console.size.width, self._console.size.height

    def show(self, lines: Sequence[str]) -> None:
        """Draw these lines, which are inert but for colours of our own."""
        page = Text("\n").join(Text.from_ansi(line, no_wrap=True, overflow="crop") for line in lines[: self.size[1]])
        self._live.update(page, refresh=True)

    def key(self, seconds: float) -> str:
        """The next key pressed, waiting so long for it; '' for none, 'q' where the terminal is gone."""
        end = time.monotonic() + seconds
        ready, _, _ = select.select([self._keys], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return ""
        pressed = os.read(self._keys, 64)
        return pressed.decode("ascii", "replace")[:1] if pressed else "q"


@contextmanager
def screen(terminal: Terminal) -> Iterator[Screen]:
    """The terminal's other screen, one key at a time, without echo; as it was before at the end."""
    keys = terminal.stdin.fileno()
    before = termios.tcgetattr(keys)
    coloured = terminal.colour(terminal.stdout_is_tty)
    console = Console(
        file=terminal.stdout, force_terminal=True, no_color=not coloured, highlight=False, markup=False, emoji=False
    )
    try:
        tty.setcbreak(keys)
        with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            yield Screen(live, console, keys)
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)
        terminal.stdout.flush()
