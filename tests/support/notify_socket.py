"""A service manager's end of sd_notify(3): a datagram socket that keeps what a service sends."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.server import WAIT_S, wait_until


class ServiceManager:
    """`states`: what was received so far, one assignment each, in order."""

    def __init__(self, listening: socket.socket, address: str) -> None:
        self._listening = listening
        self.address = address
        self.states: list[str] = []

    def environment(self, watchdog_s: float) -> dict[str, str]:
        """What a service is started with."""
        return {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": str(int(watchdog_s * 1_000_000))}

    def received(self) -> list[str]:
        """Everything received until now."""
        with suppress(BlockingIOError):
            while True:
                self.states += self._listening.recv(65_536).decode().split("\n")
        return self.states

    def forget(self) -> None:
        self.received()
        self.states.clear()

    def wait_for(self, start: str, *, times: int = 1, timeout: float = WAIT_S) -> None:
        """Wait for so many states that begin with a text."""

        def there() -> bool:
            return sum(state.startswith(start) for state in self.received()) >= times

        wait_until(there, timeout=timeout, what=f"{start} to be received")


@contextmanager
def service_manager(directory: Path, *, abstract: bool = False) -> Iterator[ServiceManager]:
    """Listen in a directory, or at an address of Linux that is no file."""
    address = f"@dvctl-test-{os.getpid()}-{directory.name}" if abstract else str(directory / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{address[1:]}" if abstract else address)
        listening.setblocking(False)
        yield ServiceManager(listening, address)
