"""A stream that is followed: notices between two looks that it restarted, and where to go on."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import NamedTuple

from devicevault_cli.operations.monitoring.continuity import restarted, what_happened
from devicevault_cli.streams.marker import Seen, seen_now
from devicevault_cli.streams.model import ZERO, EntryId, StreamInfo
from devicevault_cli.streams.stream import Stream
from devicevault_cli.times import now_ms

LOOK_S = 1.0


class Restart(NamedTuple):
    """What happened, in a sentence, and the id after which to read on."""

    detail: str
    again: EntryId


class Followed:
    """What a reader without a group knows of a stream."""

    def __init__(self, stream: Stream, info: StreamInfo | None) -> None:
        self._stream = stream
        self._seen = seen_now(info, None, now_ms())
        self._next_look = time.monotonic() + LOOK_S

    def restart(self, position: EntryId) -> Restart | None:
        """Look once a second: is this still the stream that was seen, and read up to `position`?"""
        if time.monotonic() < self._next_look:
            return None
        self._next_look = time.monotonic() + LOOK_S
        return self.compare(self._stream.info(), position)

    def compare(self, info: StreamInfo | None, position: EntryId = ZERO) -> Restart | None:
        """Compare a look with the one before."""
        before, now = self._seen, seen_now(info, None, now_ms())
        self._seen = now
        if position > now.last_id:
            before = replace(before, last_id=max(before.last_id, position))
        if before.kind != "stream" or before.last_id == ZERO or not restarted(before, now):
            return None
        detail = what_happened(self._stream.key, before, now)
        if now.kind == "stream" and now.added is not None and _frame(now) == _frame(before):
            return Restart(detail, now.last_id)  # only its last id was set
        # Ids that are above the position were shown already, or will be.
        return Restart(f"{detail}; following it from its start", position if ZERO < position <= now.last_id else ZERO)


def _frame(seen: Seen) -> tuple[object, ...]:
    return seen.added, seen.length, seen.first_id
