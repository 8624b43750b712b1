"""Hands configurations to the storage workers, for commands that do it once and report what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict, TypeVar

from devicevault_cli.operations.dispatch.tasks import TOO_LARGE, Configuration, Tasks, make_tasks
from devicevault_cli.repository.repository import Repository

if TYPE_CHECKING:
    from devicevault_cli.broker.publisher import Publisher

K = TypeVar("K", bound=Hashable)

STEP_S = 60.0


class Dispatched(TypedDict, total=False):
    """What an answer says of a hand-over; no keys without one."""

    dispatched: int
    not_dispatched: Mapping[str, int]


def dispatched(hand_over: HandOver | None) -> Dispatched:
    """The keys of an answer."""
    if hand_over is None:
        return {}
    return {"dispatched": hand_over.dispatched, "not_dispatched": hand_over.not_dispatched}


@dataclass(slots=True)
class HandOver:
    """Counts what it hands over. `stream`: key of the stream that the messages came from, a part of the tasks' ids."""

    stream: str
    repository: Repository
    publisher: Publisher
    dispatched: int = 0
    not_dispatched: Counter[str] = field(default_factory=Counter)

    def __call__(self, configurations: Mapping[K, Configuration]) -> None:
        """Hand over, and wait for the broker's confirmation. Raises Unavailable, Refused or BadConfig."""
        if configurations:
            made = make_tasks(self.stream, self.repository, configurations)
            self.not_dispatched += made.reasons()
            self.deliver(made)

    def deliver(self, made: Tasks[K]) -> None:
        """Hand over tasks."""
        delivery = self.publisher.deliver(made.tasks)
        made.tasks.clear()  # the delivery lets go of each configuration as soon as it is confirmed
        try:
            while not delivery.advance(STEP_S):
                pass
        finally:
            self.dispatched += len(delivery.confirmed)
            if delivery.too_large:
                self.not_dispatched[TOO_LARGE] += len(delivery.too_large)
