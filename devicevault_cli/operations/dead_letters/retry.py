"""dlq retry: process dead letters again. A letter is removed once its row is committed, else it gets a new reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from devicevault_cli.errors import Usage
from devicevault_cli.messages import Decision, Decoded, Rejected
from devicevault_cli.operations.answer import ChosenAnswer, optional
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.changes.undo import impossible
from devicevault_cli.operations.dead_letters.drop import EXPORT
from devicevault_cli.operations.dead_letters.select import LetterFilter, SelectedLetters
from devicevault_cli.operations.dispatch.hand_over import HandOver, dispatched
from devicevault_cli.operations.dispatch.tasks import Configuration, configuration_of, not_stored
from devicevault_cli.operations.entries.fields import shown_fields
from devicevault_cli.operations.named import NO_NAMES
from devicevault_cli.operations.replay.preview import ReplayPreview
from devicevault_cli.operations.save import Outcome, decided, is_stored, save_batches
from devicevault_cli.operations.wording import chosen_number
from devicevault_cli.paging import read_ahead
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.plural import number
from devicevault_cli.records import Record, identity
from devicevault_cli.repository.model import INSERTED, Saved
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.dead_letters import PACKED, DeadLetter, DeadLetters, pack, unpack
from devicevault_cli.streams.model import Entry, fields_of, pairs_of
from devicevault_cli.times import now_iso

ORIGINAL = b"_dvctl.original."
Repairs = Mapping[bytes, bytes]


UNDO = impossible(first=EXPORT)


@dataclass(frozen=True, slots=True)
class RetryAnswer(ChosenAnswer):
    """The answer of `dlq retry`; retried = persisted + duplicates + skipped + still_dead. `reasons`: of still_dead.

    A success that replaces a failed store is persisted.
    """

    retried: int
    persisted: int
    duplicates: int
    skipped: int
    still_dead: int
    reasons: Mapping[str, int]
    dispatched: int | None = optional()
    not_dispatched: Mapping[str, int] | None = optional()


class _Attempt(NamedTuple):
    """A letter, without the fields of its message, and what they decode to now.

    originals: fields that the repairs replace, to be kept as `_dvctl.original.FIELD`.  given_up: why the message as it
    was sent is recorded as discarded once its row is committed; None: it is not.
    """

    letter: DeadLetter
    decision: Decision
    originals: list[tuple[bytes, bytes]]
    given_up: str | None
    configuration: Configuration | None


@dataclass(frozen=True, slots=True)
class _Decoder:
    """Decodes dead letters with their repairs: once for the plan, once to apply it."""

    repairs: Repairs
    pipeline: Pipeline
    repository: Repository
    dispatches: bool = False
    """Whether configurations are kept, to be handed to the storage workers."""

    def attempt(self, letter: DeadLetter) -> _Attempt:
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
        return _Attempt(letter._replace(fields={}), decision, replaced, given_up, configuration)

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


@dataclass(slots=True)
class _Retry:
    """Saves a page of letters in a transaction, then removes or rewrites each of them, and counts the outcomes."""

    selected: SelectedLetters
    decoder: _Decoder
    hand_over: HandOver | None = None
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def run(self, progress: Progress) -> RetryAnswer:
        with closing(read_ahead(self.selected.pages())) as pages:
            for attempts, outcomes in save_batches(self.decoder.repository, self._batches(pages)):
                self._conclude(attempts, outcomes)
                progress(self.counts.total())
        count = self.counts
        return RetryAnswer(
            count.total(), count["persisted"], count["duplicates"], count["skipped"], count["still_dead"], self.reasons,
            unknown=tuple(map(str, sorted(self.selected.unknown))), **dispatched(self.hand_over),
        )  # fmt: skip

    def _batches(self, pages: Iterable[list[DeadLetter]]) -> Iterator[tuple[list[_Attempt], list[Record]]]:
        for page in pages:
            attempts = [*map(self.decoder.attempt, page)]
            yield attempts, [attempt.decision.record for attempt in attempts if isinstance(attempt.decision, Decoded)]

    def _conclude(self, attempts: list[_Attempt], outcomes: list[Outcome]) -> None:
        """Remove or rewrite each letter of a page whose transaction is over."""
        saved = iter(outcomes)
        self._dispatch([attempt for attempt in attempts if isinstance(attempt.decision, Decoded)], outcomes)
        removed: list[tuple[DeadLetter, str | None]] = []
        rewritten: list[tuple[DeadLetter, dict[bytes, bytes]]] = []
        # Reasons in the order of the plan: first what cannot be decoded, then what the database refuses.
        for attempt in sorted(attempts, key=lambda attempt: isinstance(attempt.decision, Decoded)):
            name, why = _outcome(attempt.decision, saved)
            self.counts[name] += 1
            if why is None:
                removed.append((attempt.letter, attempt.given_up))
            else:
                self.reasons[why.reason] += 1
                rewritten.append((attempt.letter, self._new_fields(attempt, why)))
        self.selected.letters.drop(removed)
        self.selected.letters.rewrite(rewritten)

    def _dispatch(self, saved: list[_Attempt], outcomes: list[Outcome]) -> None:
        """Hand over before the letters are removed. A row found may be that of a retry that was cut off here."""
        if self.hand_over is None:
            return
        about = [(attempt.configuration, outcome) for attempt, outcome in zip(saved, outcomes, strict=True)]
        inserted = {n: config for n, (config, outcome) in enumerate(about) if config and outcome == INSERTED}
        there = {
            n: config
            for n, (config, outcome) in enumerate(about)
            if config and isinstance(outcome, Saved) and outcome.outcome == "duplicate"
        }
        repository = self.decoder.repository
        unstored = not_stored(self.hand_over.stream, repository, there) if there else {}
        self.hand_over(inserted | unstored)

    def _new_fields(self, attempt: _Attempt, why: Rejected) -> dict[bytes, bytes]:
        """A letter's new reason and count; what `--set` replaced is kept as the original."""
        letter = attempt.letter
        changed = [*self.decoder.repairs.items(), *attempt.originals]
        if changed and letter.packed and (packed := self.selected.letters.packed(letter.letter_id)) is not None:
            changed = [(PACKED, pack(_with(unpack(packed), changed)))]
        about = {
            b"_dvctl.reason": why.reason.encode(),
            b"_dvctl.detail": why.detail.encode("utf-8", "replace"),
            b"_dvctl.at": now_iso().encode(),
            b"_dvctl.attempts": b"%d" % (letter.attempts + 1),
        }
        return fields_of([*changed, *about.items()])


def _failure(done: RetryAnswer) -> str:
    if done.persisted or done.duplicates or done.skipped:
        return ""
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in done.reasons.items())
    return f"nothing was persisted: {number(done.still_dead, 'dead letter')} still dead ({reasons})"


def _outcome(decision: Decision, saved: Iterator[Outcome]) -> tuple[str, Rejected | None]:
    """The key of the answer that counts a letter, and why it stays dead; takes the outcome of a record from `saved`."""
    if isinstance(decision, Rejected):
        return "still_dead", decision
    if not isinstance(decision, Decoded):
        return "skipped", None
    outcome = decided(next(saved), decision.record)
    if isinstance(outcome, Rejected):
        return "still_dead", outcome
    return "persisted" if is_stored(outcome) else "duplicates", None


def plan_retry(
    letters: DeadLetters,
    chosen: LetterFilter,
    pipeline: Pipeline,
    repository: Repository,
    repairs: Repairs | None = None,
    progress: Progress = quietly,
    *,
    most: int | None = None,
    hand_over: HandOver | None = None,
) -> Change[RetryAnswer]:
    """Process dead letters again. Of more than `most` letters the plan has no numbers, as that of a replay."""
    selected = SelectedLetters(letters, chosen)
    decoder = _Decoder(dict(repairs or {}), pipeline, repository, hand_over is not None)
    preview = ReplayPreview(pipeline, repository)
    decided = ([decoder.attempt(letter).decision for letter in page] for page in selected.pages())
    counted = preview.add(decided, progress, most)
    named = selected.named() if counted else NO_NAMES
    answer = RetryAnswer(
        preview.entries, preview.inserts + preview.replaces, preview.present, preview.skipped,
        preview.rejected.total(), preview.rejected, unknown=named.unknown,
    )  # fmt: skip
    return Change(
        command="dlq retry", says=tuple(_says(answer, None if counted else most, decoder.repairs)), undo=UNDO,
        answer=answer,
        size=preview.entries, named=named, counted=counted,
        apply=lambda: _Retry(selected, decoder, hand_over).run(progress),
        still_true=lambda: not counted or selected.still_there(preview.entries), failure=_failure,
    )  # fmt: skip


def _says(answer: RetryAnswer, more_than: int | None, repairs: Repairs) -> Iterator[str]:
    if more_than is not None:
        yield f"more than {number(more_than, 'dead letter')} are retried; each is removed once its row is committed"
    else:
        yield (
            f"{chosen_number(answer.retried, 'dead letter')} would be retried: {answer.persisted:,} persisted, "
            f"{answer.duplicates:,} have their row already, {answer.still_dead:,} stay dead"
        )
        yield from (f"  {reason}: {count:,}" for reason, count in Counter(answer.reasons).most_common())
    yield from (f"with {name} = {value!r}" for name, value in shown_fields(repairs).items())


def _with(parts: list[bytes], changed: list[tuple[bytes, bytes]]) -> list[bytes]:
    names = dict(changed)
    kept = [part for pair in zip(parts[::2], parts[1::2], strict=True) if pair[0] not in names for part in pair]
    return kept + [part for pair in changed for part in pair]


def parse_repairs(texts: list[str]) -> dict[bytes, bytes]:
    """`FIELD=VALUE`... Raises Usage."""
    repairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals or name.startswith("_dvctl."):
            raise Usage(f"--set: not FIELD=VALUE: {text[:60]!r}", hint="for example --set device_id=12")
        repairs[name.encode("utf-8", "surrogateescape")] = value.encode("utf-8", "surrogateescape")
    return repairs
