"""A group as it works: what `status` knows, looked at again and again, and what changed between the looks."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, NamedTuple

from devicevault_cli.operations.entries.pending import shown
from devicevault_cli.operations.monitoring.followed import Followed
from devicevault_cli.operations.monitoring.status import status
from devicevault_cli.streams.dead_letters import DeadLetters, read_letter
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId
from devicevault_cli.times import iso, now_ms

WINDOW_S = 15.0
"""Over how long a rate is taken: short enough to follow a change, long enough to be calm."""
FAILURES = 30
"""Dead letters that are looked through for this group's newest: each holds a whole message."""
LAG_LIMIT = 10_000
NOTICES = 3


class Point(NamedTuple):
    """What was counted at one moment; None where Redis cannot tell."""

    at: float
    added: int | None
    settled: int | None


class Rates(NamedTuple):
    """Messages a second; and how long until nothing is left at this pace (None: unknown, or never)."""

    arriving: float | None = None
    settling: float | None = None
    caught_up_s: float | None = None


class Live:
    """Looks at one group; the rates are those of the last seconds."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._letters = DeadLetters(group.stream, group.name)
        self._points: deque[Point] = deque()
        self._newest: tuple[tuple[EntryId, int] | None, list[dict[str, Any]]] = (None, [])
        self._followed: Followed | None = None
        self._notices: deque[str] = deque(maxlen=NOTICES)

    def look(self, failures: int) -> dict[str, Any]:
        """One look: stream, group (None: there is none), consumers, dead, rates, and the newest dead letters."""
        answer = status(self.group.stream, self._letters, lag_limit=LAG_LIMIT)
        self._notice()
        (group,) = [each for each in answer["groups"] if each["name"] == self.group.name] or [None]
        return {
            "stream": answer["stream"],
            "group": group,
            "consumers": [each for each in answer["consumers"] if each["group"] == self.group.name],
            "dead": answer["dead"],
            "discarded": answer["discarded"],
            "rates": self._rates(answer["stream"], group),
            "failures": self._failures(failures),
            "incidents": [incident["detail"] for incident in answer["incidents"] or ()] or [*self._notices],
        }

    def _notice(self) -> None:
        """What was counted before a restart says nothing about the stream that there is now."""
        info = self.group.stream.info()
        if self._followed is None:
            self._followed = Followed(self.group.stream, info)
        elif restart := self._followed.compare(info):
            self._points.clear()
            self._newest = (None, [])
            self._notices.append(f"{iso(now_ms())} {restart.detail}")

    def _rates(self, stream: dict[str, Any] | None, group: dict[str, Any] | None) -> Rates:
        left = None if group is None or group["lag"] is None else group["lag"] + group["pending"]
        # Before Redis 7.0 nobody counts what was added; the length does, as long as nothing is trimmed.
        added = (
            None if stream is None else stream["length"] if stream["entries_added"] is None else stream["entries_added"]
        )
        settled = None if added is None or left is None else added - left
        self._points.append(Point(time.monotonic(), added, settled))
        while self._points[-1].at - self._points[0].at > WINDOW_S:
            self._points.popleft()
        return rates(self._points[0], self._points[-1], left)

    def _failures(self, count: int) -> list[dict[str, Any]]:
        """Read again only where something was added or removed."""
        info = self._letters.letters.info()
        if info is None:
            return []
        state = (info.last_generated_id, info.length)
        if self._newest[0] != state:
            self._newest = (state, self._read_failures(count))
        return self._newest[1]

    def _read_failures(self, count: int) -> list[dict[str, Any]]:
        letters = [read_letter(entry) for entry in reversed(self._letters.letters.last(FAILURES))]
        return [
            {
                "id": str(letter.id),
                "reason": letter.reason,
                "device_id": shown(letter.fields, b"device_id"),
                "at": letter.at,
                "detail": letter.detail,
            }
            for letter in letters
            if letter is not None and letter.group == self.group.name
        ][:count]


def rates(first: Point, last: Point, left: int | None) -> Rates:
    """What happened between two points. A count that went back (a trim, a reset) gives no rate."""
    seconds = last.at - first.at
    arriving, settling = _rate(first.added, last.added, seconds), _rate(first.settled, last.settled, seconds)
    if left is None or settling is None or arriving is None:
        return Rates(arriving, settling)
    gaining = settling - arriving
    return Rates(arriving, settling, 0.0 if left == 0 else left / gaining if gaining > 0 else None)


def _rate(before: int | None, now: int | None, seconds: float) -> float | None:
    return None if before is None or now is None or now < before or seconds <= 0 else (now - before) / seconds
