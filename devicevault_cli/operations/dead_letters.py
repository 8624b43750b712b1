"""Dead letters: looking at them, trying them again, giving them up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from devicevault_cli.errors import Usage
from devicevault_cli.messages import Decision, Decoded, Rejected
from devicevault_cli.operations.claims import paged
from devicevault_cli.operations.inspect import shown_fields
from devicevault_cli.operations.pending import shown
from devicevault_cli.operations.persist import rejection, save_apart
from devicevault_cli.operations.plan import Answer, Plan, Progress, number, quietly, some
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.records import Record, identity
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams import admin
from devicevault_cli.streams.dead_letters import PACKED, DeadLetter, DeadLetters, pack, unpack
from devicevault_cli.streams.delivery import now
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.snapshot import missing

RETRY_PAGE = 64
ORIGINAL = b"_dvctl.original."
Repairs = Mapping[bytes, bytes]


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
        for page in letters.pages(count=RETRY_PAGE):
            yield from (letter for letter in page if self.matches(letter))

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


def list_letters(letters: DeadLetters, chosen: Letters, count: int | None = None) -> Answer:
    """The answer of `dlq list -o json`: totals of all that were chosen, the oldest `count` of them as entries."""
    reasons: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    for letter in chosen.of(letters):
        reasons[letter.reason] += 1
        if count is None or len(rows) < count:
            rows.append(_row(letter))
    return {"total": reasons.total(), "reasons": dict(reasons.most_common()), "entries": rows}


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


@dataclass(slots=True)
class _Retry:
    """What a retry did; retried = persisted + duplicates + skipped + still_dead."""

    retried: int = 0
    persisted: int = 0
    duplicates: int = 0
    skipped: int = 0
    still_dead: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def answer(self) -> Answer:
        return {
            "retried": self.retried,
            "persisted": self.persisted,
            "duplicates": self.duplicates,
            "skipped": self.skipped,
            "still_dead": self.still_dead,
            "reasons": dict(self.reasons),
        }

    def failed(self, bad: Rejected) -> None:
        self.still_dead += 1
        self.reasons[bad.reason] += 1


def plan_retry(
    letters: DeadLetters,
    chosen: Letters,
    pipeline: Pipeline,
    repository: Repository,
    repairs: Repairs | None = None,
    progress: Progress = quietly,
) -> Plan:
    """Process dead letters again; only what then has its committed row is removed, the others get their new reason."""
    fixes = dict(repairs or {})
    planned = _Retry()
    keys: set[EntryId] = set()
    for page in paged(chosen.of(letters), RETRY_PAGE):
        keys.update(letter.letter_id for letter in page)
        _foresee(page, fixes, pipeline, repository, planned)
        progress(planned.retried)

    def still_true() -> bool:
        return {letter.letter_id for letter in chosen.of(letters)} == keys

    def apply() -> Answer:
        done = _Retry()
        # The letters of the plan, not those that failing again puts at the end of the stream.
        for some_keys in paged(sorted(keys), RETRY_PAGE):
            _retry_page(letters, some_keys, fixes, pipeline, repository, done)
            progress(done.retried)
        return done.answer()

    says = [
        f"{number(planned.retried, 'dead letter')} would be retried: {planned.persisted:,} persisted, "
        f"{planned.duplicates:,} have their row already, {planned.still_dead:,} stay dead"
    ]
    says += [f"  {reason}: {count:,}" for reason, count in planned.reasons.most_common()]
    says += [f"with {name} = {value!r}" for name, value in shown_fields(fixes).items()]
    return Plan("dlq retry", tuple(says), planned.answer(), planned.retried, apply, still_true)


def _decide(letter: DeadLetter, fixes: Repairs, pipeline: Pipeline, repository: Repository) -> Decision:
    fields = {**letter.fields, **fixes}
    return pipeline.decode(letter.id.ms, letter.id.seq, fields, repository.device_id_max)


def _foresee(
    page: list[DeadLetter], fixes: Repairs, pipeline: Pipeline, repository: Repository, planned: _Retry
) -> None:
    records: list[Record] = []
    for letter in page:
        planned.retried += 1
        decision = _decide(letter, fixes, pipeline, repository)
        if isinstance(decision, Decoded):
            records.append(decision.record)
        elif isinstance(decision, Rejected):
            planned.failed(decision)
        else:
            planned.skipped += 1
    known = repository.known_devices({record.device_id for record in records}) if records else set()
    for record, rows in zip(records, repository.find(records) if records else [], strict=True):
        if record.device_id not in known:
            planned.failed(Rejected("unknown-device"))
        elif rows:
            planned.duplicates += 1
        else:
            planned.persisted += 1


def _retry_page(
    letters: DeadLetters,
    letter_ids: list[EntryId],
    fixes: Repairs,
    pipeline: Pipeline,
    repository: Repository,
    done: _Retry,
) -> None:
    """Save a page of letters in one go, then remove or rewrite each letter."""
    page = letters.get(letter_ids)
    done.retried += len(page)
    good: list[tuple[DeadLetter, Record]] = []
    for letter in page:
        decision = _decide(letter, fixes, pipeline, repository)
        if isinstance(decision, Decoded):
            good.append((letter, decision.record))
        elif isinstance(decision, Rejected):
            _keep(letters, letter, decision, fixes)
            done.failed(decision)
        else:
            _remove(letters, letter)
            done.skipped += 1
    outcomes = save_apart(repository.save, [record for _, record in good])
    for (letter, record), outcome in zip(good, outcomes, strict=True):
        bad = rejection(outcome, record)
        if bad is not None or isinstance(outcome, Rejected):
            _keep(letters, letter, bad or Rejected("database-rejected"), fixes)
            done.failed(bad or Rejected("database-rejected"))
            continue
        same = _identity_sent(letter, pipeline, repository) == identity(record)
        _remove(letters, letter, None if same else f"repaired, saved as {record.task_identifier or 'another record'}")
        done.persisted += outcome.outcome == "inserted"
        done.duplicates += outcome.outcome == "duplicate"


def _identity_sent(letter: DeadLetter, pipeline: Pipeline, repository: Repository) -> object:
    """The identity of the message as it came, before any repair; None where it has none."""
    originals = {
        name.removeprefix(ORIGINAL): value for name, value in letter.fields.items() if name.startswith(ORIGINAL)
    }
    decision = _decide(letter, originals, pipeline, repository)
    return identity(decision.record) if isinstance(decision, Decoded) else None


def _remove(letters: DeadLetters, letter: DeadLetter, why: str | None = None) -> bool:
    return admin.drop_letter(letters.stream, letter.letter_id, letter.id, letter.group, why)


def _keep(letters: DeadLetters, letter: DeadLetter, bad: Rejected, fixes: Repairs) -> None:
    """The letter stays, with its new reason and count; what `--set` replaced stays beside it as the original."""
    about = {
        b"_dvctl.reason": bad.reason.encode(),
        b"_dvctl.detail": bad.detail.encode("utf-8", "replace"),
        b"_dvctl.at": now().encode(),
        b"_dvctl.attempts": b"%d" % (letter.attempts + 1),
    }
    originals = {
        ORIGINAL + name: letter.fields[name]
        for name in fixes
        if name in letter.fields and ORIGINAL + name not in letter.fields
    }
    changed = {**fixes, **originals}
    if changed and (packed := letters.packed(letter.letter_id)) is not None:
        changed = {PACKED: pack(_with(unpack(packed), changed))}
    admin.rewrite_letter(letters.stream, letter.letter_id, letter.id, letter.group, {**changed, **about})


def _with(parts: list[bytes], changed: Repairs) -> list[bytes]:
    kept = [part for pair in zip(parts[::2], parts[1::2], strict=True) if pair[0] not in changed for part in pair]
    return kept + [part for pair in changed.items() for part in pair]


def plan_drop(letters: DeadLetters, chosen: Letters, progress: Progress = quietly) -> Plan:
    """Give dead letters up: each is recorded as discarded in the step that removes it."""
    # Without their fields: a hundred firmware images would not fit.
    found = [replace(letter, fields={}) for letter in chosen.of(letters)]
    keys = {letter.letter_id for letter in found}
    only = {key for page in paged([each.id for each in found], 500) for key in missing(letters.stream, page)}
    reasons = Counter(letter.reason for letter in found)

    def still_true() -> bool:
        return {letter.letter_id for letter in chosen.of(letters)} == keys

    def apply() -> Answer:
        dropped = 0
        for letter in found:
            dropped += _remove(letters, letter, "dlq drop")
            progress(dropped)
        return {"dropped": dropped}

    says = [f"{number(len(found), 'dead letter')} would be dropped and recorded as discarded"]
    says += [f"  {reason}: {count:,}" for reason, count in reasons.most_common()]
    if only:
        says.append(f"{len(only):,} of their messages are nowhere else: {some([str(key) for key in sorted(only)])}")
    answer = {"dropped": len(found), "reasons": dict(reasons)}
    return Plan("dlq drop", tuple(says), answer, len(found), apply, still_true)


def parse_repairs(texts: list[str]) -> dict[bytes, bytes]:
    """`FIELD=VALUE`... Raises Usage."""
    repairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals or name.startswith("_dvctl."):
            raise Usage(f"--set: not FIELD=VALUE: {text[:60]!r}", hint="for example --set device_id=12")
        repairs[name.encode("utf-8", "surrogateescape")] = value.encode("utf-8", "surrogateescape")
    return repairs
