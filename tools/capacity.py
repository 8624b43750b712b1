"""How much a number of devices and messages asks for: `python tools/capacity.py --devices 1000000 --per-day 100`.

What it reckons with is in docs/scaling.md: 60,000 rows a second of one table, 2 KB a message, 1 KB a row.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator

DAY_S = 86_400
RATE = 60_000
"""Rows a second that one table takes, from however many consumers."""


def main() -> None:
    """Print what the arguments ask for, a line a subject."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, required=True, help="number of devices")
    parser.add_argument("--per-day", type=float, required=True, help="messages of a device a day")
    parser.add_argument("--peak", type=float, default=3, help="the busiest hour, in averages (default 3)")
    parser.add_argument("--message-bytes", type=int, default=2_000, help="default 2000")
    parser.add_argument("--row-bytes", type=int, default=1_000, help="with its indexes (default 1000)")
    parser.add_argument("--keep-hours", type=float, default=24, help="how long the stream is kept (default 24)")
    parser.add_argument("--memory-gb", type=float, default=64, help="memory of one Redis for it (default 64)")
    for subject, amount in needs(parser.parse_args()):
        sys.stdout.write(f"{subject:10}{amount}\n")


def needs(given: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """What there will be, and what it needs."""
    a_day = given.devices * given.per_day
    a_second, peak = a_day / DAY_S, a_day / DAY_S * given.peak
    yield "messages", f"{a_day:,.0f} a day, {a_second:,.0f} a second, {peak:,.0f} at the peak"
    stream = a_day * given.message_bytes
    kept = stream * given.keep_hours / 24
    yield "stream", f"{size(stream)} a day, {size(kept)} kept for {given.keep_hours:g} hours"
    shards = max(math.ceil(kept / (given.memory_gb * 1e9)), 1)
    yield "Redis", f"{shards:,} of {given.memory_gb:g} GB, a stream on each"
    rows = a_day * given.row_bytes
    yield "table", f"{size(rows)} a day, {size(rows * 365)} a year"
    yield "writing", f"{a_second / RATE:.2%} of what one table takes, {peak / RATE:.0%} at the peak"
    hour = a_second * 3_600 / (RATE - a_second) if a_second < RATE else math.inf
    yield "catch-up", f"an hour of outage is worked off in {hour:,.0f} s" if hour < math.inf else "never"


def size(amount: float) -> str:
    """`200 GB`, `2 TB`: three digits at most, and a unit."""
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1000
        if amount < 1000 or unit == "TB":
            return f"{amount:,.3g} {unit}" if amount < 1000 else f"{amount:,.0f} {unit}"
    raise AssertionError


if __name__ == "__main__":
    main()
