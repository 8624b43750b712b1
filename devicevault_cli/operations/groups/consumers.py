"""consumers: who consumes for a group, and what each holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from devicevault_cli.errors import MissingGroup
from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.monitoring.liveness import liveness_of
from devicevault_cli.operations.monitoring.status import ConsumerStatus, consumer_statuses
from devicevault_cli.streams.group import Group


@dataclass(frozen=True, slots=True)
class ConsumersAnswer(Answer):
    group: str
    consumers: Sequence[ConsumerStatus]


def list_consumers(group: Group) -> ConsumersAnswer:
    """The consumers of a group; none where there is no group."""
    try:
        return ConsumersAnswer(group.name, consumer_statuses(liveness_of(group)))
    except MissingGroup:
        return ConsumersAnswer(group.name, ())
