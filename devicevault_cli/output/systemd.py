"""What systemd hands to a service: the socket for sd_notify(3), the watchdog's interval, the journal as stderr."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import TextIO

SEND_S = 1.0
"""How long a service manager that is busy may take to read: its socket holds few datagrams."""


class Notifier:
    """Sends states such as READY=1 to the service manager."""

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def send(self, *states: str) -> bool:
        """Send states in one datagram. -> whether the service manager took them"""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
            sending.settimeout(SEND_S)
            try:
                sending.sendto("\n".join(states).encode(), self._address)
            except OSError:
                return False
        return True


def notifier(environ: Mapping[str, str] = os.environ) -> Notifier | None:
    """The socket that `$NOTIFY_SOCKET` names; None without a service manager that listens."""
    address = environ.get("NOTIFY_SOCKET", "")
    return Notifier(address) if address.startswith(("/", "@")) else None


def watchdog_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """The seconds in which the service manager wants WATCHDOG=1 from this process; None if it does not."""
    wanted, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not wanted.isdecimal() or pid not in ("", str(os.getpid())):
        return None
    return int(wanted) / 1e6 or None


def is_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the journal reads a stream: `$JOURNAL_STREAM` names the device and inode of the one it reads."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{status.st_dev}:{status.st_ino}"
