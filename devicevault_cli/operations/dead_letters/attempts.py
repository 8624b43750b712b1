"""Dead letters decoded again: by column, or one by one with repairs and what earlier repairs replaced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from devicevault_cli.columns import decoded_parts
from devicevault_cli.messages import Decision, Decoded
from devicevault_cli.operations.dispatch.tasks import Configuration, configuration_of, configurations_of
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.record_columns import RecordColumns, joined
from devicevault_cli.records import Record, identity
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.letters import DeadLetter, LetterPage
from devicevault_cli.streams.model import Entry, pairs_of

ORIGINAL = b"_dvctl.original."
Repairs = Mapping[bytes, bytes]


class Attempt(NamedTuple):
    """A letter, without the fields of its message, and what they decode to now.

    originals: fields that the repairs replace, to be kept as `_dvctl.original.FIELD`.  given_up: why the message as it
    was sent is recorded as discarded once its row is committed; None: it is not.
    """

    letter: DeadLetter
    decision: Decision
    originals: Sequence[tuple[bytes, bytes]] = ()
    given_up: str | None = None
    configuration: Configuration | None = None


class DecodedLetters(NamedTuple):
    """Letters that were decoded by column, without the fields of their messages, and the record of each."""

    letters: LetterPage
    records: RecordColumns


@dataclass(slots=True)
class Tried:
    """A page of letters and what they decode to now.

    decoded: those that have a record, part by part in the order of these.  configurations: what is to be handed to the
    storage workers, by the position of its record.
    """

    undecoded: list[Attempt] = field(default_factory=list)
    decoded: list[DecodedLetters | list[Attempt]] = field(default_factory=list)
    configurations: dict[int, Configuration] = field(default_factory=dict)
    count: int = 0

    @property
    def records(self) -> Sequence[Record]:
        """The records of all parts."""
        return joined([part.records if isinstance(part, DecodedLetters) else _records(part) for part in self.decoded])

    def add(self, attempts: Sequence[Attempt]) -> None:
        """Add letters that were decoded one by one."""
        decoded = [attempt for attempt in attempts if isinstance(attempt.decision, Decoded)]
        self.undecoded += (attempt for attempt in attempts if not isinstance(attempt.decision, Decoded))
        self._add(decoded, {n: each.configuration for n, each in enumerate(decoded) if each.configuration})

    def add_columns(self, part: DecodedLetters, configurations: Mapping[int, Configuration]) -> None:
        """Add letters that were decoded by column. `configurations`: by the position in these."""
        self._add(part, configurations)

    def _add(self, part: DecodedLetters | list[Attempt], configurations: Mapping[int, Configuration]) -> None:
        self.configurations.update((self.count + number, each) for number, each in configurations.items())
        self.decoded.append(part)
        self.count += len(part.records if isinstance(part, DecodedLetters) else part)


def _records(attempts: list[Attempt]) -> list[Record]:
    return [attempt.decision.record for attempt in attempts if isinstance(attempt.decision, Decoded)]


@dataclass(frozen=True, slots=True)
class LetterDecoder:
    """Decodes dead letters with their repairs: once for the plan, once to apply it."""

    repairs: Repairs
    pipeline: Pipeline
    repository: Repository
    dispatches: bool = False
    """Whether configurations are kept, to be handed to the storage workers."""

    def tried(self, page: LetterPage) -> Tried:
        """Decode a page, as far as possible by column: without repairs, now or before, there is nothing to compare."""
        tried = Tried()
        for letters, records in self._parts(page):
            if records is None or letters.messages is None:
                tried.add([*map(self.attempt, letters)])
                continue
            kept = DecodedLetters(letters.without_messages(), records)
            ids = letters.messages.ids
            tried.add_columns(kept, configurations_of(letters.messages, records, ids) if self.dispatches else {})
        return tried

    def _parts(self, page: LetterPage) -> Iterator[tuple[LetterPage, RecordColumns | None]]:
        messages = page.messages
        if messages is None or self.repairs or any(name.startswith(ORIGINAL) for name in messages.columns or ()):
            yield page, None
            return
        start = 0
        for part, records in decoded_parts(messages, self.pipeline.decode_columns, self.repository.device_id_max):
            yield page[start : start + len(part)], records
            start += len(part)

    def attempt(self, letter: DeadLetter) -> Attempt:
        """Decode one letter."""
        earlier = _earlier_originals(letter)
        decision = self._decode(letter, self.repairs)
        replaced = [
            (ORIGINAL + name, value)
            for name, value in pairs_of(letter.fields)
            if name in self.repairs and ORIGINAL + name not in earlier
        ]
        given_up, configuration = None, None
        if isinstance(decision, Decoded):
            given_up = self._given_up(letter, earlier, decision.record)
            if self.dispatches:
                fields = {**letter.fields, **self.repairs}
                configuration = configuration_of(letter.id, decision.record, fields)
        return Attempt(letter._replace(fields={}), decision, replaced, given_up, configuration)

    def _decode(self, letter: DeadLetter, changed: Repairs) -> Decision:
        fields = {**letter.fields, **changed} if changed else letter.fields
        return self.pipeline.decode_entry(Entry(letter.id, fields), self.repository.device_id_max)

    def _given_up(self, letter: DeadLetter, earlier: Repairs, record: Record) -> str | None:
        """A repaired message that now has another identity, or one at all."""
        if not self.repairs and not earlier:
            return None
        sent = self._decode(letter, {name.removeprefix(ORIGINAL): value for name, value in earlier.items()})
        if isinstance(sent, Decoded) and identity(sent.record) == identity(record):
            return None
        return f"repaired, saved as {record.task_identifier or 'another record'}"


def _earlier_originals(letter: DeadLetter) -> dict[bytes, bytes]:
    """What earlier repairs replaced; a letter that was never retried has none of these fields."""
    if not letter.attempts:
        return {}
    return {name: value for name, value in letter.fields.items() if name.startswith(ORIGINAL)}
