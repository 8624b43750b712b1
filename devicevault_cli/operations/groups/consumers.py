"""consumers: who consumes for a group, and what each holds."""

from __future__ import annotations

from dataclasses import dataclass

from devicevault_cli.errors import MissingGroup
from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.monitoring.liveness import Liveness, liveness_of
from devicevault_cli.streams.group import Group


@dataclass(frozen=True, slots=True)
class ConsumerRow(Answer):
    """One consumer. `inactive_ms` is None before Redis 7.2; `alive` is None where that cannot be known."""

    name: str
    pending: int
    idle_ms: int
    inactive_ms: int | None
    alive: bool | None


@dataclass(frozen=True, slots=True)
class ConsumersAnswer(Answer):
    """The answer of `consumers`."""

    group: str
    consumers: tuple[ConsumerRow, ...]


def list_consumers(group: Group) -> ConsumersAnswer:
    """The consumers of a group; none where there is no group."""
    try:
        liveness = liveness_of(group)
    except MissingGroup:
        liveness = Liveness(group, [])
    rows = (
        ConsumerRow(info.name, info.pending, info.idle_ms, info.inactive_ms, liveness.alive(info))
        for info in liveness.consumers
    )
    return ConsumersAnswer(group.name, tuple(rows))
