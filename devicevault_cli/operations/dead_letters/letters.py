"""Dead letters: choosing them, looking at them, giving them up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from devicevault_cli.nearest import quoted, suggestion
from devicevault_cli.operations.changes.plan import Answer, Plan, Progress, chosen_number, quietly, some
from devicevault_cli.operations.entries.pending import shown
from devicevault_cli.operations.entries.show import shown_fields
from devicevault_cli.operations.named import NO_NAMES, Named, named_letters
from devicevault_cli.streams import admin
from devicevault_cli.streams.dead_letters import DeadLetter, DeadLetters
from devicevault_cli.streams.model import LAST, EntryId
from devicevault_cli.streams.snapshot import missing

REASONS = (
    "empty-message", "invalid-encoding", "nul-character", "missing-device-id", "invalid-device-id", "value-too-long",
    "malformed-log", "unknown-device", "database-rejected", "max-deliveries",
)  # fmt: skip
"""Why messages are dead-lettered."""


@dataclass(frozen=True, slots=True)
class Letters:
    """Which dead letters; what is None does not matter. Times are of when a message was dead-lettered."""

    ids: frozenset[EntryId] | None = None
    reason: str | None = None
    device: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def of(self, letters: DeadLetters) -> Iterator[DeadLetter]:
        """The chosen ones, oldest first."""
        for page in self.pages(letters):
            yield from page

    def pages(
        self, letters: DeadLetters, end: EntryId = LAST, unseen: set[EntryId] | None = None
    ) -> Iterator[list[DeadLetter]]:
        """The same a page at a time, up to an id of the letters' own; ids that exist are taken out of `unseen`."""
        for page in letters.pages(end):
            if unseen:
                unseen.difference_update(letter.id for letter in page)
            yield [letter for letter in page if self.matches(letter)]

    def named_reason(self, letters: DeadLetters) -> Named:
        """About a reason that dvctl does not know and no letter has."""
        if self.reason is None or self.reason in REASONS:
            return NO_NAMES
        known = {letter.reason for page in letters.pages() for letter in page}
        if self.reason in known:
            return NO_NAMES
        says = f"not found: no dead letter has the reason {quoted(self.reason)}; "
        return Named(
            1, (self.reason,), says + suggestion(self.reason, [*REASONS, *sorted(known)], "reasons", len(REASONS))
        )

    def named(self, letters: DeadLetters, unknown: Iterable[EntryId]) -> Named:
        """About the ids that were chosen."""
        return named_letters(letters, self.ids, sorted(unknown))

    def matches(self, letter: DeadLetter) -> bool:
        """Whether a letter is one of them."""
        at = letter.letter_id.ms
        return (
            (self.ids is None or letter.id in self.ids)
            and self.reason in (None, letter.reason)
            and (self.device is None or shown(letter.fields, b"device_id") == str(self.device))
            and (self.since_ms is None or at >= self.since_ms)
            and (self.until_ms is None or at <= self.until_ms)
        )


@dataclass(slots=True)
class Found:
    """The letters that a plan is about, by their number and where they end, not one by one: a million would not fit.

    That is enough, because a letter never changes, and what is written later stands behind the end.
    """

    letters: DeadLetters
    chosen: Letters
    count: int = 0
    unknown: set[EntryId] = field(default_factory=set)
    _state: tuple[int, EntryId] = field(init=False)

    def __post_init__(self) -> None:
        self._state = self.letters.state()

    def count_them(self) -> Iterator[list[DeadLetter]]:
        """Find them, a page at a time, and count them; for once."""
        for page in self.again():
            self.count += len(page)
            yield page

    def again(self) -> Iterator[list[DeadLetter]]:
        """Those that are still there; `unknown` then holds the chosen ids that are not."""
        _, end = self._state
        self.unknown = set(self.chosen.ids or ())
        return filter(None, self.chosen.pages(self.letters, end, self.unknown))

    def named(self) -> Named:
        """About the ids that were chosen, after a reading."""
        return self.chosen.named(self.letters, self.unknown)

    def still_there(self) -> bool:
        """Whether all that were counted are; read once more only where something happened to the key."""
        return self.letters.state() == self._state or sum(map(len, self.again())) == self.count


def list_letters(letters: DeadLetters, chosen: Letters, count: int | None = None) -> Answer:
    """The answer of `dlq list -o json`: totals of all that were chosen, the oldest `count` of them as entries."""
    reasons: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    unknown = set(chosen.ids or ())
    for page in chosen.pages(letters, unseen=unknown):
        reasons.update(letter.reason for letter in page)
        rows += map(_row, page if count is None else page[: max(0, count - len(rows))])
    answer = {"total": reasons.total(), "reasons": dict(reasons.most_common()), "entries": rows}
    return answer | ({} if chosen.ids is None else {"unknown": [*map(str, sorted(unknown))]})


def show_letters(letters: DeadLetters, ids: list[EntryId], *, reveal: bool = False) -> Answer:
    """The answer of `dlq show -o json`: letters whole, and the ids that have none."""
    found = [_row(each) | {"fields": shown_fields(each.fields, reveal)} for each in Letters(frozenset(ids)).of(letters)]
    known = {row["id"] for row in found}
    return {"total": len(found), "entries": found, "unknown": [str(each) for each in ids if str(each) not in known]}


def _row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": str(letter.id),
        "at": letter.at,
        "reason": letter.reason,
        "detail": letter.detail,
        "device_id": shown(letter.fields, b"device_id"),
        "task_identifier": shown(letter.fields, b"task_identifier"),
        "attempts": letter.attempts,
        "deliveries": letter.deliveries,
        "consumer": letter.consumer,
        "group": letter.group,
        "letter_id": str(letter.letter_id),
    }


def letter_stats(letters: DeadLetters) -> Answer:
    """The answer of `dlq stats -o json`."""
    reasons: Counter[str] = Counter()
    devices: Counter[str] = Counter()
    first = last = None
    retried = 0
    for letter in Letters().of(letters):
        reasons[letter.reason] += 1
        devices[shown(letter.fields, b"device_id") or ""] += 1
        retried += letter.attempts > 0
        first, last = first or letter.at, letter.at
    return {
        "total": reasons.total(),
        "reasons": dict(reasons.most_common()),
        "devices": dict(devices.most_common(10)),
        "retried": retried,
        "first_at": first,
        "last_at": last,
        "key": letters.letters.key,
        "bytes": (letters.letters.bytes_used() or 0) if reasons else 0,
    }


def plan_drop(letters: DeadLetters, chosen: Letters, progress: Progress = quietly) -> Plan:
    """Give dead letters up: each is recorded as discarded in the step that removes it."""
    found = Found(letters, chosen)
    reasons: Counter[str] = Counter()
    only: list[str] = []
    nowhere_else = 0
    for page in found.count_them():
        reasons.update(letter.reason for letter in page)
        gone = missing(letters.stream, [letter.id for letter in page])
        nowhere_else += len(gone)
        only = only or [str(key) for key in gone]

    def apply() -> Answer:
        dropped = 0
        for page in found.again():
            dropped += admin.drop_letters(letters.stream, [(letter, "dlq drop") for letter in page])
            progress(dropped)
        return {"dropped": dropped}

    says = [f"{chosen_number(found.count, 'dead letter')} would be dropped and recorded as discarded"]
    says += [f"  {reason}: {count:,}" for reason, count in reasons.most_common()]
    if nowhere_else:
        says.append(
            f"{nowhere_else:,} of their messages are nowhere else and cannot be brought back: "
            f"{some(only, total=nowhere_else)}; `dvctl export FILE --dead --reveal` keeps a copy"
        )
    if found.count > nowhere_else:
        says.append("to bring one back while its entry is on the stream: dvctl replay ID")
    named = found.named()
    answer = {"dropped": found.count, "reasons": dict(reasons), "unknown": list(named.unknown)}
    return Plan(
        "dlq drop", tuple(says), answer, found.count, apply, found.still_there, named=named, failure=_none_dropped
    )


def _none_dropped(answer: Answer) -> str:
    return "" if answer["dropped"] else "no dead letter was dropped: they were removed in the meantime"
