"""A circuit breaker: a database that rejects one whole batch after the other is an outage, not bad messages."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.errors import DvctlError, TableAtFault
from devicevault_cli.messages import Rejected
from devicevault_cli.operations.save import DATABASE_REJECTED, Outcome, any_stored
from devicevault_cli.streams import keys
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.letters import DeadLetter, read_letter
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.stream import Stream
from devicevault_cli.times import now_ms

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

log = logging.getLogger("dvctl.consume")

LEAST = 10
"""Messages that the batches must hold together: three lone messages may well be bad."""
LOOK_BACK_MS, MOST_PAGES = 86_400_000, 20
CLOCKS_MS = 60_000
"""How far the clocks of this host and of Redis may be apart."""


class Earlier(NamedTuple):
    """Dead letters of an earlier run that nothing but each other follows: how many, and when the first was written."""

    letters: int
    since_ms: int


class Breaker:
    """Counts whole batches that were rejected with one error, without a message that was accepted among them.

    `max_rejected_batches` of them open it. Dead letters that an earlier run wrote to `group` for the same error count
    too, if no row was saved since.
    """

    def __init__(self, group: Group, repository: Repository, options: ConsumeOptions) -> None:
        self._group = group
        self._repository = repository
        self._most = options.max_rejected_batches
        self._drops = options.on_reject == "drop"
        self._accepted = False
        self.close()

    def close(self) -> None:
        """The database accepted a message."""
        self._detail, self._batches, self._messages = "", 0, 0
        self._given_up, self._since_ms = 0, 0

    def counts(self, outcome: Outcome) -> bool:
        """Whether the database rejected the message."""
        return isinstance(outcome, Rejected) and outcome.reason == DATABASE_REJECTED

    def opens(self, outcomes: Sequence[Outcome]) -> bool:
        """Whether a batch with these outcomes has to be held, and nothing of it to be given up."""
        details = {outcome.detail for outcome in outcomes if isinstance(outcome, Rejected) and self.counts(outcome)}
        if not self._most:
            return False
        accepted = any_stored(outcomes)
        if not (details or accepted):
            return False
        if accepted or len(details) > 1:
            self._accepted = self._accepted or accepted
            self.close()
            return False
        self._count(details.pop(), sum(map(self.counts, outcomes)))
        if self._batches >= self._most and self._messages >= LEAST:
            return True
        self._given_up += sum(map(self.counts, outcomes))
        self._since_ms = self._since_ms or now_ms()
        return False

    def _count(self, detail: str, messages: int) -> None:
        if detail != self._detail:
            self.close()
            self._detail = detail
            earlier = None if self._accepted or self._drops else _earlier(self._group, self._repository, detail)
            if earlier is not None and earlier.letters >= self._most - 1:
                self._batches = self._most - 1
                self._messages = self._given_up = earlier.letters
                self._since_ms = earlier.since_ms
        self._batches += 1
        self._messages += messages

    def alarm(self, table: str) -> TableAtFault:
        """What the operator is told while the batch is held."""
        since = datetime.fromtimestamp((self._since_ms - CLOCKS_MS) // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = (
            f"{table} accepts no message any more: {self._messages:,} in a row in {self._batches} batches were rejected"
            f" with the same error ({self._detail})"
        )
        undo = f"take them back with `dvctl dlq retry --reason {DATABASE_REJECTED} --since {since} --yes`"
        if self._drops:
            undo = f"save them with `dvctl replay --missing --since {since} --yes`"
        given_up = "dropped" if self._drops else "dead-lettered"
        hint = "repair the table; if the messages are bad, restart with `dvctl consume --max-rejected-batches 0`"
        if self._given_up:
            hint += f"; {self._given_up:,} messages were {given_up} for this error before: {undo}"
        return TableAtFault(said, hint=hint)


def _earlier(group: Group, repository: Repository, detail: str) -> Earlier | None:
    """The newest dead letters of the group where all are for one error, and no row was saved after the first of them.

    So a restart does not begin to count anew.
    """
    try:
        newest: deque[DeadLetter] = deque(_newest(group), LEAST)
        if not newest or any((letter.reason, letter.detail) != (DATABASE_REJECTED, detail) for letter in newest):
            return None
        latest = repository.latest_timestamp()
        if latest is not None and latest // 1000 >= newest[0].id.ms:
            return None
        return Earlier(len(newest), newest[0].letter_id.ms)
    except DvctlError as error:
        log.debug("dead letters of an earlier run cannot be read: %s", error)
        return None


def _newest(group: Group) -> list[DeadLetter]:
    """The letters of the last day before the newest one; none where they are too many to be read."""
    letters = Stream(group.stream.client, keys.dead(group.stream.key))
    info = letters.info()
    if info is None:
        return []
    found: list[DeadLetter] = []
    start = EntryId(max(0, info.last_generated_id.ms - LOOK_BACK_MS), 0)
    for number, page in enumerate(letters.pages(start)):
        if number >= MOST_PAGES:
            return []
        read = [letter for letter in map(read_letter, page) if letter is not None and letter.group == group.name]
        found = [*found, *read][-LEAST:]
    return found
