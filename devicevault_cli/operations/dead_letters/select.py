"""Choosing dead letters: by id, reason, device and time."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field

from devicevault_cli.nearest import quoted, suggestion
from devicevault_cli.operations.entries.fields import field_text
from devicevault_cli.operations.named import NO_NAMES, Named, named_letters, unknown_name
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.letters import DeadLetter, LetterPage
from devicevault_cli.streams.model import LAST, EntryId

REASONS = (
    "empty-message", "invalid-encoding", "nul-character", "missing-device-id", "invalid-device-id", "value-too-long",
    "malformed-log", "unknown-device", "database-rejected", "max-deliveries",
)  # fmt: skip
"""Why messages are dead-lettered."""


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters; None does not matter. Times are of when a message was dead-lettered."""

    ids: frozenset[EntryId] | None = None
    reason: str | None = None
    device: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def pages(
        self, letters: DeadLetters, end: EntryId = LAST, unseen: set[EntryId] | None = None
    ) -> Generator[LetterPage, None, None]:
        """The chosen letters, oldest first, up to an id of the letters' own; ids that exist are removed from `unseen`.

        Pages may be empty.
        """
        with closing(letters.pages(end)) as pages:
            for page in pages:
                if unseen:
                    unseen.difference_update(letter.id for letter in page)
                yield page if self == EVERY else page.where([self.matches(letter) for letter in page])

    def named_reason(self, letters: DeadLetters) -> Named:
        """About a reason that dvctl does not know and no letter has."""
        if self.reason is None or self.reason in REASONS:
            return NO_NAMES
        known = {letter.reason for page in letters.pages() for letter in page}
        if self.reason in known:
            return NO_NAMES
        meant = suggestion(self.reason, [*REASONS, *sorted(known)], "reasons", len(REASONS))
        return unknown_name(self.reason, f"not found: no dead letter has the reason {quoted(self.reason)}; {meant}")

    def named(self, letters: DeadLetters, unknown: Iterable[EntryId]) -> Named:
        """About the ids that were chosen."""
        return named_letters(letters, self.ids, sorted(unknown))

    def matches(self, letter: DeadLetter) -> bool:
        at = letter.letter_id.ms
        return (
            (self.ids is None or letter.id in self.ids)
            and self.reason in (None, letter.reason)
            and (self.device is None or field_text(letter.fields, b"device_id") == str(self.device))
            and (self.since_ms is None or at >= self.since_ms)
            and (self.until_ms is None or at <= self.until_ms)
        )


EVERY = LetterFilter()


@dataclass(slots=True)
class SelectedLetters:
    """The chosen letters as of now, to be read twice: for the plan and to apply it.

    Only where they end is kept, since a million would not fit into memory. That is enough: a letter never changes, and
    later ones are written behind the end.  unknown: chosen ids that the last reading did not find.
    """

    letters: DeadLetters
    chosen: LetterFilter
    unknown: set[EntryId] = field(default_factory=set)
    _state: tuple[int, EntryId] = field(init=False)

    def __post_init__(self) -> None:
        self._state = self.letters.state()

    def pages(self) -> Generator[LetterPage, None, None]:
        """The letters that still exist, a page at a time. Close the generator where it may be left early."""
        _, end = self._state
        self.unknown = set(self.chosen.ids or ())
        with closing(self.chosen.pages(self.letters, end, self.unknown)) as pages:
            yield from filter(None, pages)

    def named(self) -> Named:
        return self.chosen.named(self.letters, self.unknown)

    def still_there(self, count: int) -> bool:
        """Whether all of this number still exist; they are read again only where something happened to the key."""
        return self.letters.state() == self._state or sum(map(len, self.pages())) == count
