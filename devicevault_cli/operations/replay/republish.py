"""replay --republish: put copies of chosen entries at the end of the stream, for every group."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.changes.interruption import interruptible
from devicevault_cli.operations.changes.undo import impossible
from devicevault_cli.operations.rate_limit import RateLimiter
from devicevault_cli.operations.replay.replay import ReplayAnswer
from devicevault_cli.operations.replay.selection import Source
from devicevault_cli.operations.wording import chosen_number, entries, entries_were
from devicevault_cli.paging import paged
from devicevault_cli.streams.model import Entry, EntryId
from devicevault_cli.streams.stream import Stream

log = logging.getLogger("dvctl.replay")

MOST_COPIES = 3
"""A message that was republished so often is not republished again: something feeds a loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepublishAnswer(ReplayAnswer):
    """The answer of `replay --republish`. Nothing goes to the table: those numbers are 0.

    `refused`: republished too often already.
    """

    republished: int
    refused: int


def plan_republish(
    stream: Stream, source: Source, *, rate: float | None = None, most: int = MOST_COPIES, progress: Progress = quietly
) -> Change[RepublishAnswer]:
    """Put copies of entries at the end of the stream. `most`: copies of one message; `rate`: copies per second."""
    ids: list[EntryId] = []
    too_often = 0
    for page in source():
        ids += [entry.id for entry in page]
        too_often += sum(_copies(entry) >= most for entry in page)
    named = source.named()
    copies = len(ids) - too_often
    answer = RepublishAnswer(selected=len(ids), republished=copies, refused=too_often, unknown=named.unknown)
    return Change(
        command="replay --republish", says=tuple(_says(answer, stream, most)), answer=answer, size=len(ids),
        undo=impossible("no command removes the copies"), named=named,
        apply=lambda: _republish(stream, ids, rate, most, answer, progress), failure=_failure,
    )  # fmt: skip


def _republish(
    stream: Stream, ids: list[EntryId], rate: float | None, most: int, answer: RepublishAnswer, progress: Progress
) -> RepublishAnswer:
    """Copy entries; each copy has the first id of its message, and so its time."""
    copies = refused = 0
    limiter = RateLimiter(rate)
    last: EntryId | None = None
    try:
        with interruptible() as interruption:
            for page in paged(ids, limiter.at_once(100)):
                with interruption.held():
                    made = stream.republish(page, most)
                    copies, refused, last = copies + len(made.copies), refused + len(made.refused), page[-1]
                progress(copies)
                time.sleep(limiter.after(len(made.copies)))
    except BaseException:
        log.warning("%s copied%s", entries_were(copies), f"; continue with --from {last.next()}" if last else "")
        raise
    return replace(answer, republished=copies, refused=refused)


def _failure(done: RepublishAnswer) -> str:
    if done.republished:
        return ""
    if done.refused:
        return f"nothing was republished: {entries(done.refused)} republished too often already"
    return "nothing was republished: the entries are no longer on the stream"


def _says(answer: RepublishAnswer, stream: Stream, most: int) -> Iterator[str]:
    copies = chosen_number(answer.republished, "entry", "entries")
    yield f"{copies} would be copied to the end of {stream.key}, where every group gets them"
    if answer.refused:
        yield f"{entries(answer.refused)} left out: republished {most} times already"


def _copies(entry: Entry) -> int:
    """How often the message of an entry was republished; what is not a number counts as 0, as it does in Redis."""
    number = entry.fields.get(b"_dvctl.republished", b"")
    return int(number) if number.isdigit() and len(number) < 10 else 0
