"""The streams and the facts of the terminal on one object, so that tests can replace them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from typing import NamedTuple, TextIO

WIDTH = 80
"""Columns where nobody tells: pipes, files, logs."""


class Terminal(NamedTuple):
    """Where a command reads and writes, and who is at the other end."""

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    environ: Mapping[str, str]
    width: int = WIDTH
    stdin_is_tty: bool = False
    stdout_is_tty: bool = False
    stderr_is_tty: bool = False
    color: str = "auto"

    @classmethod
    def real(cls) -> Terminal:
        """This process's own."""
        import shutil

        if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.closed:
            # In a locale without UTF-8, as Python does it for stderr anyway.
            sys.stdout.reconfigure(errors="backslashreplace")
        on_terminal = _is_tty(sys.stdout)
        return cls(
            sys.stdin,
            sys.stdout,
            sys.stderr,
            os.environ,
            shutil.get_terminal_size((WIDTH, 24)).columns if on_terminal else WIDTH,
            _is_tty(sys.stdin),
            on_terminal,
            _is_tty(sys.stderr),
        )

    def width_of(self, stream: TextIO) -> int:
        """The columns of one stream: stdout may be a file while stderr is a narrow terminal."""
        try:
            return os.get_terminal_size(stream.fileno()).columns or self.width
        except (OSError, ValueError):
            return self.width

    @property
    def can_ask(self) -> bool:
        """Is there a person who reads the question and can answer it?"""
        return self.stdin_is_tty and self.stderr_is_tty

    @property
    def can_draw(self) -> bool:
        """Can a whole screen be drawn anew, and a key be pressed meanwhile?"""
        return self.stdin_is_tty and self.stdout_is_tty and self.environ.get("TERM") != "dumb"

    def colour(self, is_tty: bool) -> bool:
        """By `color`; where that is auto, only on a terminal, and not where NO_COLOR or TERM=dumb asks for none."""
        if self.color != "auto":
            return self.color == "always"
        return is_tty and not self.environ.get("NO_COLOR") and self.environ.get("TERM") != "dumb"


def _is_tty(stream: TextIO | None) -> bool:
    # A stream is None or closed where a daemon was started without it.
    return stream is not None and not stream.closed and stream.isatty()
