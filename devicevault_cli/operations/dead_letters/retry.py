"""dlq retry: process dead letters again. A letter is removed once its row is committed, else it gets a new reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

from devicevault_cli.errors import Usage
from devicevault_cli.messages import Decision, Decoded, Rejected
from devicevault_cli.operations.answer import ChosenAnswer, optional
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.changes.undo import impossible
from devicevault_cli.operations.dead_letters.attempts import Attempt, DecodedLetters, LetterDecoder, Repairs, Tried
from devicevault_cli.operations.dead_letters.drop import EXPORT
from devicevault_cli.operations.dead_letters.select import LetterFilter, SelectedLetters
from devicevault_cli.operations.dispatch.hand_over import HandOver, dispatched
from devicevault_cli.operations.dispatch.tasks import Configuration, not_stored
from devicevault_cli.operations.entries.fields import shown_fields
from devicevault_cli.operations.named import NO_NAMES
from devicevault_cli.operations.replay.preview import ReplayPreview
from devicevault_cli.operations.save import Outcome, decided, is_stored, save_batches
from devicevault_cli.operations.wording import chosen_number
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.plural import number
from devicevault_cli.repository.model import INSERTED, Saved
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.letters import PACKED, DeadLetter, pack, unpack
from devicevault_cli.streams.model import fields_of
from devicevault_cli.times import now_iso

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


@dataclass(slots=True)
class _Ended:
    """What becomes of the letters of a page.

    removed: keys of letters.  dropped: letters, with the reason where the message is recorded as discarded.  dead:
    letters that stay, and why.
    """

    removed: list[tuple[str, bytes]] = field(default_factory=list)
    dropped: list[tuple[DeadLetter, str | None]] = field(default_factory=list)
    dead: list[tuple[Attempt, Rejected]] = field(default_factory=list)


@dataclass(slots=True)
class _Retry:
    """Saves a page of letters in a transaction, then removes or rewrites each of them, and counts the outcomes."""

    selected: SelectedLetters
    decoder: LetterDecoder
    hand_over: HandOver | None = None
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def run(self, progress: Progress) -> RetryAnswer:
        with closing(self.selected.pages()) as pages:
            tries = map(self.decoder.tried, pages)
            for tried, outcomes in save_batches(self.decoder.repository, ((tried, tried.records) for tried in tries)):
                self._conclude(tried, outcomes)
                progress(self.counts.total())
        count = self.counts
        return RetryAnswer(
            count.total(), count["persisted"], count["duplicates"], count["skipped"], count["still_dead"], self.reasons,
            unknown=tuple(map(str, sorted(self.selected.unknown))), **dispatched(self.hand_over),
        )  # fmt: skip

    def _conclude(self, tried: Tried, outcomes: list[Outcome]) -> None:
        """Remove or rewrite each letter of a page whose transaction is over."""
        self._dispatch(tried.configurations, outcomes)
        saved = iter(outcomes)
        ended = _Ended()
        # Reasons in the order of the plan: first what cannot be decoded, then what the database refuses.
        self._conclude_each(tried.undecoded, saved, ended)
        for part in tried.decoded:
            if isinstance(part, DecodedLetters):
                self._conclude_columns(part, list(islice(saved, len(part.records))), ended)
            else:
                self._conclude_each(part, saved, ended)
        letters = self.selected.letters
        letters.remove(ended.removed)
        letters.drop(ended.dropped)
        letters.rewrite([(attempt.letter, self._new_fields(attempt, why)) for attempt, why in ended.dead])

    def _conclude_each(self, attempts: Iterable[Attempt], saved: Iterator[Outcome], ended: _Ended) -> None:
        for attempt in attempts:
            why = self._count(attempt.decision, saved)
            if why is None:
                ended.dropped.append((attempt.letter, attempt.given_up))
            else:
                ended.dead.append((attempt, why))

    def _conclude_columns(self, part: DecodedLetters, outcomes: list[Outcome], ended: _Ended) -> None:
        """The same, looking only at letters whose row is not new."""
        letters, records = part
        goes = [outcome == INSERTED for outcome in outcomes]
        self.counts["persisted"] += sum(goes)
        for position, outcome in enumerate(outcomes):
            if not goes[position]:
                decoded = Decoded(records[position])
                why = self._count(decoded, iter((outcome,)))
                goes[position] = why is None
                if why is not None:
                    ended.dead.append((Attempt(letters[position], decoded), why))
        ended.removed += letters.where(goes).keys()

    def _count(self, decision: Decision, saved: Iterator[Outcome]) -> Rejected | None:
        """Count a letter. -> why it stays dead"""
        name, why = _outcome(decision, saved)
        self.counts[name] += 1
        if why is not None:
            self.reasons[why.reason] += 1
        return why

    def _dispatch(self, configurations: Mapping[int, Configuration], outcomes: list[Outcome]) -> None:
        """Hand over before the letters are removed. A row found may be that of a retry that was cut off here."""
        if self.hand_over is None:
            return
        inserted = {n: config for n, config in configurations.items() if outcomes[n] == INSERTED}
        there = {n: config for n, config in configurations.items() if _is_duplicate(outcomes[n])}
        repository = self.decoder.repository
        unstored = not_stored(self.hand_over.stream, repository, there) if there else {}
        self.hand_over(inserted | unstored)

    def _new_fields(self, attempt: Attempt, why: Rejected) -> dict[bytes, bytes]:
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


def _is_duplicate(outcome: Outcome) -> bool:
    return isinstance(outcome, Saved) and outcome.outcome == "duplicate"


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
    decoder = LetterDecoder(dict(repairs or {}), pipeline, repository, hand_over is not None)
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
