"""The installed dvctl on a terminal of its own: what stands on it, and keys for it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO

import pyte

from tests.support.allowance import Allowance, wait_for_end
from tests.support.process import DVCTL
from tests.support.server import WAIT_S

COLUMNS, ROWS = 80, 30


class Screen:
    """A pseudo-terminal of 80 columns and what was drawn on it."""

    def __init__(self, popen: subprocess.Popen[bytes], end: int, columns: int = COLUMNS, rows: int = ROWS) -> None:
        self.popen = popen
        self._end = end
        self._screen = pyte.Screen(columns, rows)
        self._input = pyte.ByteStream(self._screen)
        self.raw = b""

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def lines(self) -> list[str]:
        """What stands there, without the empty lines below."""
        return self.text.rstrip().splitlines()

    @property
    def column(self) -> int:
        """Where the cursor is: 0 at the beginning of a line, where a shell's prompt belongs."""
        return int(self._screen.cursor.x)

    def wait_for(self, text: str, timeout: float = WAIT_S) -> None:
        """Until the text stands there. Raises TimeoutError with what stands there instead."""
        allowance = Allowance(timeout)
        while text not in self.text:
            if allowance.used_up():
                raise TimeoutError(f"no {text!r} on:\n{self.text}")
            self._read(0.1)

    def watch(self, seconds: float) -> None:
        """See what is drawn in this time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._read(left)

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def code(self, timeout: float = WAIT_S) -> int:
        """Wait for the end. -> exit code"""
        allowance = Allowance(timeout)
        while self.popen.poll() is None and not allowance.used_up():
            self._read(0.1)
        code = wait_for_end(self.popen, 0)
        self._read(0.1)  # what it wrote last
        return code

    def _read(self, seconds: float) -> None:
        if select.select([self._end], [], [], seconds)[0]:
            # EIO: the process closed its end.
            with suppress(OSError):
                given = os.read(self._end, 65_536)
                self.raw += given
                self._input.feed(given)


@contextmanager
def on_a_terminal(
    words: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdout: IO[bytes] | None = None,
    columns: int = COLUMNS,
    rows: int = ROWS,
) -> Iterator[Screen]:
    """Start `dvctl WORDS` there, `stdout` elsewhere if given; killed at the end if it still runs."""
    end, other = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**environment, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(rows)}
    popen = subprocess.Popen(
        [DVCTL, *words],
        stdin=other,
        stdout=other if stdout is None else stdout,
        stderr=other,
        env=environment,
        start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509 - one system call, which needs no lock
    )
    os.close(other)
    try:
        yield Screen(popen, end, columns, rows)
    finally:
        popen.kill()
        popen.wait()
        os.close(end)


def _take_terminal() -> None:
    """Make it the process's own, so that Ctrl-C typed on it is a signal to the process."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
