"""Parse positions on a stream: an id, a time, a duration back from now, `start`, `end`."""

from __future__ import annotations

import re

from devicevault_cli.errors import Usage
from devicevault_cli.streams.model import LAST, ZERO, EntryId
from devicevault_cli.times import Milliseconds, iso, now_ms, parse_moment

RANGE_ENDS = ("-", "+")
"""The first and the last id of a range in the syntax of Redis."""
START, END = ("start", "-", "0"), ("end", "+")

_ID = re.compile(r"([0-9]{5,20})|([0-9]{1,20})-([0-9]{1,20})", re.ASCII)
_DATE = re.compile(r"[0-9]{8}|(?:19|20|21)[0-9]{2}-(?:0?[1-9]|1[0-2])", re.ASCII)
"""A date without separators, or only year and month. Not an id: ids of this century have 13 digits."""
_SECONDS = re.compile(r"([0-9]{10})(?:-[0-9]+)?", re.ASCII)


def parse_start(text: str, now: Milliseconds | None = None) -> EntryId:
    """The first id of a range. Raises Usage."""
    if text in START:
        return ZERO
    if text in END:
        return LAST
    if _is_id(text):
        return EntryId.parse(text)
    return EntryId(_moment(text, now), 0)


def parse_end(text: str, now: Milliseconds | None = None) -> EntryId:
    """The last id of a range; a time, and an id without a sequence number, mean its whole millisecond. Raises Usage."""
    first = parse_start(text, now)
    return EntryId(first.ms, LAST.seq) if "-" not in text or not _is_id(text) else first


def in_future(position: EntryId) -> bool:
    """Whether no entry can have this position yet; clocks differ by less than a minute."""
    return now_ms() + 60_000 < position.ms < LAST.ms


def _is_id(text: str) -> bool:
    if seconds := _SECONDS.fullmatch(text):
        moment = int(seconds[1]) * 1000
        raise Usage(f"{text!r} looks like seconds; write {moment} or {iso(moment).removesuffix('.000Z')}Z")
    return bool(_ID.fullmatch(text)) and not _DATE.fullmatch(text)


def _moment(text: str, now: Milliseconds | None) -> Milliseconds:
    try:
        return parse_moment(text, now_ms() if now is None else now)
    except Usage as error:
        raise Usage(
            str(error), hint="write an entry id, a time like 2026-01-12T04:47:00Z, a duration like -2h, start or end"
        ) from None
