"""The state of a group in one sentence: what is wrong, or that nothing is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from devicevault_cli.operations.monitoring.status import GroupStatus, StatusAnswer, database_state
from devicevault_cli.operations.wording import entries
from devicevault_cli.plural import number
from devicevault_cli.times import show_duration

State: TypeAlias = Literal["ok", "warning", "problem"]
WORST: tuple[State, ...] = ("problem", "warning", "ok")
BEHIND_S = 60.0
"""A group that is behind for longer is a warning: it does not keep up."""


class Verdict(NamedTuple):
    """The worst state of what was found, and a sentence that begins with what is worst."""

    state: State
    text: str


def verdict(answer: StatusAnswer, stream: str, group: str) -> Verdict:
    """The verdict about one group of a stream, with its table, dead letters and incidents."""
    found = sorted(_found(answer, stream, group), key=lambda verdict: WORST.index(verdict.state))
    if found and found[0].state != "ok":
        return Verdict(found[0].state, ", ".join(one.text for one in found))
    waits = [one.text for one in found] or ["nothing waits"]
    return Verdict("ok", ", ".join([*waits, f"{number(_alive(answer, group), 'consumer')} alive"]))


def _found(answer: StatusAnswer, stream: str, name: str) -> Iterator[Verdict]:
    """All that is not well: what is lost or away, then who does not work, then what waits."""
    if answer.incidents:
        yield Verdict("problem", number(len(answer.incidents), "incident"))
    if answer.table and answer.table.error is not None:
        yield Verdict("problem", f"database {database_state(answer.table.error)}")
    group = next((group for group in answer.groups if group.name == name), None)
    if answer.stream is None:
        yield Verdict("warning", f"there is no stream {stream} yet")
    elif group is None:
        waiting = answer.stream.length
        state: State = "problem" if waiting else "warning"
        yield Verdict(
            state, f"no group {name}" + (f": {number(waiting, 'entry waits', 'entries wait')}" * bool(waiting))
        )
    else:
        yield from _of_group(answer, group)
    if answer.dead.length:
        yield Verdict("warning", number(answer.dead.length, "dead letter"))


def _of_group(answer: StatusAnswer, group: GroupStatus) -> Iterator[Verdict]:
    waits = bool(group.lag is None or group.lag or group.pending)
    yield from _consumers(answer, group, waits=waits)
    if group.trimmed_unread:
        yield Verdict("problem", f"{entries(group.trimmed_unread)} removed unread")
    if group.lag is None:
        yield Verdict("warning", "lag unknown")
    elif group.lag:
        late = group.lag_s is not None and group.lag_s > BEHIND_S
        since = f" ({show_duration(group.lag_s * 1000)})" if late and group.lag_s is not None else ""
        state: State = "warning" if late or not _alive(answer, group.name) else "ok"
        yield Verdict(state, f"{entries(group.lag)} behind{since}")
    if group.pending:
        old = (group.oldest_pending_age_ms or 0) > BEHIND_S * 1000
        yield Verdict("warning" if old else "ok", f"{group.pending:,} pending")


def _consumers(answer: StatusAnswer, group: GroupStatus, *, waits: bool) -> Iterator[Verdict]:
    consumers = [consumer for consumer in answer.consumers if consumer.group == group.name]
    dead = [consumer for consumer in consumers if consumer.alive is False]
    if not consumers:
        yield Verdict("problem" if waits else "warning", "no consumer is running")
    elif dead:
        holding = any(consumer.pending for consumer in dead)
        serious = holding or (waits and len(dead) == len(consumers))
        whole = number(len(consumers), "consumer")
        count = whole if len(dead) == len(consumers) else f"{len(dead):,} of {whole}"
        verb = "is" if len(dead) == 1 else "are"
        yield Verdict("problem" if serious else "warning", f"{count} {verb} dead")


def _alive(answer: StatusAnswer, group: str) -> int:
    return sum(consumer.alive is True for consumer in answer.consumers if consumer.group == group)
