"""dlq drop: remove dead letters and record their messages as discarded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from devicevault_cli.operations.answer import ChosenAnswer
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.dead_letters.select import LetterFilter, SelectedLetters
from devicevault_cli.operations.wording import chosen_number, some
from devicevault_cli.streams.dead_letters import DeadLetters


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
        for page in selected.pages():
            dropped += letters.drop([(letter, "dlq drop") for letter in page])
            progress(dropped)
        return replace(answer, dropped=dropped)

    return Change(
        command="dlq drop", says=tuple(_says(reasons, only_copies, first_only)), answer=answer, size=size, named=named,
        apply=apply, still_true=lambda: selected.still_there(size),
        failure=lambda done: "" if done.dropped else "no dead letter was dropped: they were removed in the meantime",
    )  # fmt: skip


def _says(reasons: Counter[str], only_copies: int, first_only: list[str]) -> Iterator[str]:
    yield f"{chosen_number(reasons.total(), 'dead letter')} would be dropped and recorded as discarded"
    yield from (f"  {reason}: {count:,}" for reason, count in reasons.most_common())
    if only_copies:
        yield (
            f"{only_copies:,} of their messages are nowhere else and cannot be brought back: "
            f"{some(first_only, total=only_copies)}; `dvctl export FILE --dead --reveal` keeps a copy"
        )
    if reasons.total() > only_copies:
        yield "to bring one back while its entry is on the stream: dvctl replay ID"
