"""Outages of Redis, the database and the broker: since when, how many attempts, and when each is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from devicevault_cli.errors import BadConfig, DvctlError, MemoryFull, Refused, TableAtFault, WrongType
from devicevault_cli.log_fields import fields

log = logging.getLogger("dvctl.consume")

REDIS, DATABASE, BROKER = "redis", "database", "broker"
_SHOWN = {REDIS: "Redis", DATABASE: "the database", BROKER: "the broker"}
_ANSWERED = (BadConfig, MemoryFull, Refused, TableAtFault, WrongType)
"""The server was reached, but did not do what was asked."""
_USABLE = (TableAtFault, WrongType)
"""The server itself works: one table or key of it is at fault."""


@dataclass(slots=True)
class Outage:
    """`since`: by the monotonic clock. `reached`: the server answered each time, and refused."""

    since: float
    attempts: int = 0
    reached: bool = True


class Outages:
    """Written by the loop; other threads read it. `up`: whether each server that was asked can be used."""

    def __init__(self) -> None:
        self.up: dict[str, bool] = {}
        self._open: dict[str, Outage] = {}
        self._over_s: dict[str, float] = {}

    def failed(self, error: DvctlError) -> Outage:
        """An attempt failed. -> the outage it belongs to"""
        server = error.server or DATABASE
        outage = self._open.setdefault(server, Outage(time.monotonic()))
        outage.attempts += 1
        outage.reached = outage.reached and isinstance(error, _ANSWERED)
        self.up[server] = isinstance(error, _USABLE)
        return outage

    def recovered(self, errors: Iterable[DvctlError]) -> None:
        """What failed with these errors has succeeded."""
        for server in {error.server or DATABASE for error in errors}:
            self.answered(server)

    def answered(self, server: str) -> None:
        """A server did what was asked of it."""
        self.up[server] = True
        if server not in self._open:
            return
        outage = self._open[server]
        lasted = time.monotonic() - outage.since
        self._over_s[server] = self._over_s.get(server, 0.0) + lasted
        del self._open[server]
        log.info(
            "%s %s again after %.1f s, %d %s", _SHOWN[server],
            "accepts requests" if outage.reached else "is reachable", lasted, outage.attempts,
            "attempt" if outage.attempts == 1 else "attempts",
            extra=fields(server=server, outage_s=round(lasted, 3), attempts=outage.attempts),
        )  # fmt: skip

    def seconds(self) -> dict[str, float]:
        """How long each server was away altogether, an outage that lasts included."""
        now, total = time.monotonic(), dict.fromkeys(self.up, 0.0) | dict(self._over_s)
        for server, outage in list(self._open.items()):
            total[server] = total.get(server, 0.0) + now - outage.since
        return total

    def line(self) -> str:
        """What is being waited for, for people; '' if every server answers."""
        now = time.monotonic()
        waiting = [
            f"waiting for {_SHOWN[server]} for {now - outage.since:.0f} s ({outage.attempts} attempts)"
            for server, outage in list(self._open.items())
        ]
        return ", ".join(waiting)
