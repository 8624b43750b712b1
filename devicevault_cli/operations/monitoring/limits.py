"""Limits, as typed and as applied. Imports no server library: the command line reads them at each start."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from devicevault_cli.errors import Usage
from devicevault_cli.times import parse_duration

State: TypeAlias = Literal["ok", "warning", "critical", "unknown"]

CLAIM_IDLE_MS = 60_000
"""Entries that have been pending and idle for longer are taken over; the default of --claim-idle."""

RECHECK_MS = 600_000
"""After a fail-over of the database the entries of so long are looked up again; the default of --recheck."""


class Limit(NamedTuple):
    """A value above `warning` (None: never) is a warning, a value above `critical` is critical."""

    warning: float | None
    critical: float

    def state_of(self, value: float | None) -> State:
        """The state of a value; None is an unknown one."""
        if value is None:
            return "unknown"
        if value > self.critical:
            return "critical"
        return "warning" if self.warning is not None and value > self.warning else "ok"


def _number(text: str) -> float:
    if not text.isascii() or not text.isdigit():
        raise Usage(f"not a number: {text[:60]!r}")
    if len(text) > 18:
        raise Usage(f"{text[:60]} is out of range")
    return float(text)


def parse_limit(text: str) -> Limit:
    """`100`: critical above it; `50:100`: a warning above the first, critical above the second. Raises Usage."""
    return _limit(*(_number(part) for part in _parts(text)))


def parse_age(text: str) -> Limit:
    """The same of durations, in seconds: `5m`, `5m:1h`. Raises Usage."""
    return _limit(*(parse_duration(part) / 1000 for part in _parts(text)))


def _parts(text: str) -> list[str]:
    parts = text.split(":")
    if len(parts) > 2 or "" in parts:
        raise Usage(f"not a limit: {text[:60]!r}", hint="a limit looks like 100, or 50:100 (warning:critical)")
    return parts


def _limit(first: float, second: float | None = None) -> Limit:
    if second is not None and second < first:
        raise Usage("the critical limit is below that of the warning")
    return Limit(None, first) if second is None else Limit(first, second)
