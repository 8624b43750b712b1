"""Times and durations as people type them: ISO 8601 and `1d12h` in, integers out."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TypeAlias

from devicevault_cli.errors import Usage

Milliseconds: TypeAlias = int

_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
LONGEST: Milliseconds = 3_652_500 * 86_400_000
LONGEST_PAUSE: Milliseconds = 36_525 * 86_400_000
"""No system call that waits takes more than about three times as much."""
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,3})?(?:ms|[wdhms]))+", re.ASCII)
_PART = re.compile(r"([0-9.]+)(ms|[wdhms])", re.ASCII)
LAST_SHOWN_MS: Milliseconds = 253_402_300_799_999
"""The last moment of the year 9999."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_ms() -> Milliseconds:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def now_iso() -> str:
    """The present time: ISO 8601 UTC with milliseconds."""
    return iso(now_ms())


def parse_duration(text: str) -> Milliseconds:
    """Read `500ms`, `90s`, `5m`, `1d12h`, `1d3h5m2s`, or plain `0`, up to 10,000 years. Raises Usage."""
    milliseconds = _duration(text)
    if milliseconds > LONGEST:
        raise Usage(f"{text[:60]} is longer than 10,000 years", hint="a duration looks like 90s, 5m, 1d12h")
    return milliseconds


def parse_pause(text: str) -> Milliseconds:
    """Read a duration that is waited for, up to a hundred years. Raises Usage."""
    milliseconds = parse_duration(text)
    if milliseconds > LONGEST_PAUSE:
        raise Usage(f"{text[:60]} is longer than 100 years", hint="a pause looks like 2s, 5m")
    return milliseconds


def _duration(text: str) -> Milliseconds:
    if text == "0":
        return 0
    if not _DURATION.fullmatch(text):
        raise Usage(f"not a duration: {text[:60]!r}", hint="a duration looks like 90s, 5m, 1d12h")
    parts = _PART.findall(text)
    units = [unit for _, unit in parts]
    if sorted(units, key=list(_UNITS).index) != units or len(set(units)) != len(units):
        raise Usage(f"the units of {text[:60]!r} are not in order, each once", hint="write 1d12h, not 12h1d")
    return sum(round(float(number) * _UNITS[unit]) for number, unit in parts)


def parse_time(text: str) -> Milliseconds:
    """Read an ISO 8601 time, or a date; without an offset it means UTC. Raises Usage."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        # Not timestamp(): a float would round the milliseconds.
        elapsed = moment - _EPOCH
    except (ValueError, OverflowError):
        raise Usage(f"not a time: {text[:60]!r}", hint="a time looks like 2026-01-12T04:47:00Z or 2026-01-12") from None
    milliseconds = (elapsed.days * 86_400 + elapsed.seconds) * 1000 + elapsed.microseconds // 1000
    if milliseconds < 0:
        raise Usage(f"before 1970: {text[:60]!r}", hint="the ids of a stream begin in 1970")
    return milliseconds


def parse_moment(text: str, now: Milliseconds) -> Milliseconds:
    """Read a time, or `-DURATION` back from now (the minus may be left out). Raises Usage."""
    duration = text.removeprefix("-")
    if _DURATION.fullmatch(duration) or duration == "0":
        return max(0, now - _duration(duration))
    return parse_time(text)


def iso(milliseconds: Milliseconds) -> str:
    """ISO 8601 UTC with milliseconds; a year past 9999 is shown as the last moment of 9999."""
    seconds, fraction = divmod(min(milliseconds, LAST_SHOWN_MS), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:03d}Z"


def iso_micros(microseconds: int) -> str:
    """The same with microseconds, from microseconds."""
    seconds, fraction = divmod(min(microseconds, LAST_SHOWN_MS * 1000 + 999), 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:06d}Z"


def exact_duration(milliseconds: Milliseconds) -> str:
    """A duration as it is typed, in the largest unit that has no fraction: `1h`, `90s`, `1500ms`."""
    if milliseconds == 0:
        return "0"
    unit = next(unit for unit, length in _UNITS.items() if milliseconds % length == 0)
    return f"{milliseconds // _UNITS[unit]}{unit}"


def show_duration(milliseconds: float) -> str:
    """A duration for people, its two largest units: `850ms`, `3m 12s`, `2d 4h`."""
    left = round(milliseconds)
    if left < 0:
        return f"-{show_duration(-milliseconds)}"
    if left < 1000:
        return f"{left}ms"
    if left < 10_000:
        return f"{left / 1000:.1f}s"
    parts: list[str] = []
    for unit in ("d", "h", "m", "s"):
        amount, left = divmod(left, _UNITS[unit])
        if amount or parts:
            parts.append(f"{amount}{unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0"))
