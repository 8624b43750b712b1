"""dlq drop: remove dead letters and record their messages as discarded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from devicevault_cli.operations.answer import ChosenAnswer
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.changes.undo import Undo, impossible
from devicevault_cli.operations.dead_letters.select import LetterFilter, SelectedLetters
from devicevault_cli.operations.entries.ack import LISTED, replay_command
from devicevault_cli.operations.wording import chosen_number, some
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.model import EntryId

EXPORT = "dvctl export FILE --dead --reveal"
"""Keeps a copy of dead letters."""
AGAIN = "to process again what is on the stream (still invalid: rejected, or with --republish a dead letter again): "
REPLAY = f"{AGAIN}dvctl replay ID"
UNDO = Undo(f"{REPLAY}; to keep a copy first: {EXPORT}", REPLAY, prefix=AGAIN)
"""Nothing restores the dead letters themselves."""


@dataclass(frozen=True, slots=True)
class DropAnswer(ChosenAnswer):
    """The answer of `dlq drop`. `reasons`: of the letters that were planned to be dropped."""

    dropped: int
    reasons: Mapping[str, int]


def plan_drop(letters: DeadLetters, chosen: LetterFilter, progress: Progress = quietly) -> Change[DropAnswer]:
    """Give dead letters up: each is recorded as discarded in the step that removes it."""
    selected = SelectedLetters(letters, chosen)
    reasons: Counter[str] = Counter()
    only_copies = 0
    first_only: list[str] = []
    for page in selected.pages():
        reasons.update(letter.reason for letter in page)
        gone = letters.stream.missing([letter.id for letter in page])
        only_copies += len(gone)
        first_only = first_only or [*map(str, gone)]
    named = selected.named()
    size = reasons.total()
    answer = DropAnswer(size, dict(reasons), unknown=named.unknown)

    def apply() -> DropAnswer:
        dropped = 0
        first: list[EntryId] = []
        for page in selected.pages():
            dropped += letters.drop([(letter, "dlq drop") for letter in page])
            first += [letter.id for letter in page][: LISTED + 1 - len(first)]
            progress(dropped)
        return replace(answer, dropped=dropped, undo=replay_command(letters.stream, first) if dropped else None)

    undo = UNDO if size > only_copies else impossible("the messages are nowhere else", EXPORT)
    return Change(
        command="dlq drop", says=tuple(_says(reasons, only_copies, first_only)), undo=undo, answer=answer, size=size,
        named=named, apply=apply, still_true=lambda: selected.still_there(size),
        failure=lambda done: "" if done.dropped else "no dead letter was dropped: they were removed in the meantime",
    )  # fmt: skip


def _says(reasons: Counter[str], only_copies: int, first_only: list[str]) -> Iterator[str]:
    yield f"{chosen_number(reasons.total(), 'dead letter')} would be dropped and recorded as discarded"
    yield from (f"  {reason}: {count:,}" for reason, count in reasons.most_common())
    if only_copies:
        yield (
            f"{only_copies:,} of their messages are nowhere else and cannot be brought back: "
            f"{some(first_only, total=only_copies)}; `{EXPORT}` keeps a copy"
        )
