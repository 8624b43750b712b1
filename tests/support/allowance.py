"""How long a test waits for something, on machines that stand still now and then and whose clock then jumps."""

from __future__ import annotations

import subprocess
import time

from tests.support.warm import WarmProcess

AT_MOST_S = 0.5
"""What counts at most between two looks."""


class Allowance:
    """So many seconds in which the machine really ran: between two looks, of which many are needed, few count."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._seen = time.monotonic()

    def used_up(self) -> bool:
        """Whether the time is over."""
        now = time.monotonic()
        self._left -= min(now - self._seen, AT_MOST_S)
        self._seen = now
        return self._left <= 0


def wait_for_end(popen: subprocess.Popen[bytes] | WarmProcess, seconds: float) -> int:
    """Wait for a process. -> its exit code. Raises TimeoutError."""
    allowance = Allowance(seconds)
    while True:
        try:
            return popen.wait(0.1)
        except subprocess.TimeoutExpired:
            if allowance.used_up():
                raise TimeoutError(f"process {popen.pid} runs after {seconds:g} s") from None
