"""Retrying dead letters: what then has its committed row loses its letter, the others get their new reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from devicevault_cli.errors import Usage
from devicevault_cli.messages import Decision, Decoded, Rejected
from devicevault_cli.operations.changes.plan import Answer, Plan, Progress, chosen_number, number, quietly
from devicevault_cli.operations.dead_letters.letters import Found, Letters
from devicevault_cli.operations.entries.show import shown_fields
from devicevault_cli.operations.replay.preview import Census
from devicevault_cli.operations.save import Outcome, rejection, save_ahead
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.records import Record, identity
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams import admin
from devicevault_cli.streams.dead_letters import PACKED, DeadLetter, DeadLetters, pack, unpack
from devicevault_cli.streams.delivery import now
from devicevault_cli.streams.model import Entry, fields_of, pairs_of
from devicevault_cli.streams.prefetch import read_ahead

ORIGINAL = b"_dvctl.original."
Repairs = Mapping[bytes, bytes]


@dataclass(slots=True)
class _Retried:
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


class _Tried(NamedTuple):
    """A letter whose record is on its way to the table; `given_up`: why its message as it came then is discarded."""

    letter: DeadLetter
    record: Record
    given_up: str | None


@dataclass(frozen=True, slots=True)
class _Page:
    """Letters by what is to happen to them, without the fields that nobody needs any more."""

    tried: list[_Tried]
    bad: list[tuple[DeadLetter, Rejected]]
    skipped: list[DeadLetter]

    @property
    def size(self) -> int:
        return len(self.tried) + len(self.bad) + len(self.skipped)


def plan_retry(
    letters: DeadLetters,
    chosen: Letters,
    pipeline: Pipeline,
    repository: Repository,
    repairs: Repairs | None = None,
    progress: Progress = quietly,
    *,
    most: int | None = None,
) -> Plan:
    """Process dead letters again; only what then has its committed row is removed, the others get their new reason.

    Of more than `most` letters the plan has no numbers, as that of a replay.
    """
    fixes = dict(repairs or {})
    found = Found(letters, chosen)

    def apply() -> Answer:
        done = _Retried()
        with closing(read_ahead(found.again())) as chosen_letters:
            pages = (_decided(page, fixes, pipeline, repository) for page in chosen_letters)
            batches = ((page, [each.record for each in page.tried]) for page in pages)
            for page, outcomes in save_ahead(repository, batches):
                _settle(letters, page, outcomes, fixes, done)
                progress(done.retried)
        return done.answer() | {"unknown": [*map(str, sorted(found.unknown))]}

    repaired = [f"with {name} = {value!r}" for name, value in shown_fields(fixes).items()]
    census = Census()
    for page in found.count_them():
        census.add((Entry(letter.id, {**letter.fields, **fixes}) for letter in page), pipeline, repository)
        progress(census.entries)
        if most is not None and census.entries > most:
            unjudged = f"more than {number(most, 'dead letter')} are retried; each is removed once its row is committed"
            return Plan(
                "dlq retry", (unjudged, *repaired), {}, census.entries, apply, still_true=lambda: True,
                failure=_all_dead,
            )  # fmt: skip
    dead = census.rejected.total()
    planned = _Retried(census.entries, census.inserts, census.present, census.skipped, dead, census.rejected)
    says = (
        f"{chosen_number(planned.retried, 'dead letter')} would be retried: {planned.persisted:,} persisted, "
        f"{planned.duplicates:,} have their row already, {planned.still_dead:,} stay dead",
        *(f"  {reason}: {count:,}" for reason, count in planned.reasons.most_common()),
        *repaired,
    )
    named = found.named()
    answer = planned.answer() | {"unknown": list(named.unknown)}
    return Plan("dlq retry", says, answer, found.count, apply, found.still_there, named=named, failure=_all_dead)


def _all_dead(answer: Answer) -> str:
    if answer["persisted"] or answer["duplicates"] or answer["skipped"]:
        return ""
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in answer["reasons"].items())
    return f"nothing was persisted: {number(answer['still_dead'], 'dead letter')} still dead ({reasons})"


def _decided(page: list[DeadLetter], fixes: Repairs, pipeline: Pipeline, repository: Repository) -> _Page:
    result = _Page([], [], [])
    for letter in page:
        decision = _decide(letter, fixes, pipeline, repository)
        if isinstance(decision, Decoded):
            given_up = _given_up(letter, decision.record, fixes, pipeline, repository)
            result.tried.append(_Tried(_slim(letter, fixes), decision.record, given_up))
        elif isinstance(decision, Rejected):
            result.bad.append((_slim(letter, fixes), decision))
        else:
            result.skipped.append(_slim(letter, fixes))
    return result


def _decide(letter: DeadLetter, fixes: Repairs, pipeline: Pipeline, repository: Repository) -> Decision:
    fields = {**letter.fields, **fixes} if fixes else letter.fields
    return pipeline.decode(letter.id.ms, letter.id.seq, fields, repository.device_id_max)


def _slim(letter: DeadLetter, fixes: Repairs) -> DeadLetter:
    """Without a firmware image in it: two pages are in memory at once."""
    kept = [pair for pair in pairs_of(letter.fields) if pair[0] in fixes or _is_original(pair[0], letter)]
    letter.fields.clear()
    return letter._replace(fields=fields_of(kept))


def _is_original(name: bytes, letter: DeadLetter) -> bool:
    """Whether an earlier repair kept a field; a letter that was never retried has none of them."""
    return letter.attempts > 0 and name.startswith(ORIGINAL)


def _originals(letter: DeadLetter) -> dict[bytes, bytes]:
    """What earlier repairs replaced."""
    return {name: value for name, value in letter.fields.items() if _is_original(name, letter)}


def _given_up(
    letter: DeadLetter, record: Record, fixes: Repairs, pipeline: Pipeline, repository: Repository
) -> str | None:
    """Why the message as it came is discarded: repaired, it has another identity than before (or one at all)."""
    originals = {name.removeprefix(ORIGINAL): value for name, value in _originals(letter).items()}
    if not fixes and not originals:
        return None
    sent = _decide(letter, originals, pipeline, repository)
    if isinstance(sent, Decoded) and identity(sent.record) == identity(record):
        return None
    return f"repaired, saved as {record.task_identifier or 'another record'}"


def _settle(letters: DeadLetters, page: _Page, outcomes: list[Outcome], fixes: Repairs, done: _Retried) -> None:
    """Remove or rewrite each letter of a page whose transaction is over."""
    settled: list[tuple[DeadLetter, str | None]] = [(letter, None) for letter in page.skipped]
    bad = list(page.bad)
    for (letter, record, given_up), outcome in zip(page.tried, outcomes, strict=True):
        refused = rejection(outcome, record)
        if refused is not None:
            bad.append((letter, refused))
            continue
        settled.append((letter, given_up))
        done.persisted += not isinstance(outcome, Rejected) and outcome.outcome == "inserted"
    admin.drop_letters(letters.stream, settled)
    admin.rewrite_letters(letters.stream, [(letter, _anew(letters, letter, why, fixes)) for letter, why in bad])
    done.retried += page.size
    done.skipped += len(page.skipped)
    done.still_dead += len(bad)
    done.duplicates = done.retried - done.persisted - done.skipped - done.still_dead
    done.reasons.update(why.reason for _, why in bad)


def _anew(letters: DeadLetters, letter: DeadLetter, why: Rejected, fixes: Repairs) -> dict[bytes, bytes]:
    """A letter's new reason and count; what `--set` replaced stays beside it as the original."""
    originals = [
        (ORIGINAL + name, value)
        for name, value in pairs_of(letter.fields)
        if name in fixes and ORIGINAL + name not in letter.fields
    ]
    changed = [*fixes.items(), *originals]
    if changed and letter.packed and (packed := letters.packed(letter.letter_id)) is not None:
        changed = [(PACKED, pack(_with(unpack(packed), changed)))]
    about = {
        b"_dvctl.reason": why.reason.encode(),
        b"_dvctl.detail": why.detail.encode("utf-8", "replace"),
        b"_dvctl.at": now().encode(),
        b"_dvctl.attempts": b"%d" % (letter.attempts + 1),
    }
    return fields_of([*changed, *about.items()])


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
