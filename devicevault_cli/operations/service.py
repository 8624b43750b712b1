"""The consumer as a service: its name on this host, its start, its line in the log now and then."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from typing import Any

from devicevault_cli.errors import DvctlError, MissingGroup, Unavailable
from devicevault_cli.operations.consume import ConsumeOptions, Consumer
from devicevault_cli.operations.lag import lag_of
from devicevault_cli.operations.patience import Stopped
from devicevault_cli.operations.slots import Lock, lock_name, lowest_free
from devicevault_cli.operations.tally import Tally
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.delivery import Delivery
from devicevault_cli.streams.group import Group

log = logging.getLogger("dvctl.consume")

SUMMARY_S = 10.0
LOOK_S = 2.0

ShowProgress = Callable[[int, int | None, str], None]
"""(done, total, note)"""


def consume_as(
    group: Group,
    repository: Repository,
    pipeline: Pipeline,
    options: ConsumeOptions,
    stop: threading.Event,
    name: str | None,
    instance: int | None,
    show: ShowProgress,
) -> dict[str, Any]:
    """Consume under a name that no other process on this host has. -> the summary"""
    name, lock = _name(group, name, instance)
    gc.freeze()  # what was imported stays for good, and need not be looked through
    with nullcontext() if lock is None else closing(lock):
        consumer = Consumer(Delivery(group, name), repository, pipeline, options, stop, _Watch(group, show))
        return _consume(consumer, pipeline, options)


def _consume(consumer: Consumer, pipeline: Pipeline, options: ConsumeOptions) -> dict[str, Any]:
    delivery = consumer.delivery
    _first_look(consumer, must_answer=options.drain or options.max_messages is not None)
    log.info(
        "consuming %s as %s in group %s into %s; storage dispatch is off",
        delivery.stream.key,
        delivery.consumer,
        delivery.group.name,
        pipeline.table,
    )
    reason = consumer.run()
    log.info("%s: %s", reason, _sentence(consumer.tally))
    return consumer.tally.summary(reason)


def _name(group: Group, fixed: str | None, instance: int | None) -> tuple[str, Lock | None]:
    if fixed is None:
        return lowest_free(group.stream.key, group.name, instance)
    lock = lock_name(group.stream.key, group.name, fixed)
    if lock is None:
        log.warning("another process on this host consumes as %s already: each reads what the other holds", fixed)
    return fixed, lock


def _first_look(consumer: Consumer, *, must_answer: bool) -> None:
    """A wrong password, right or table ends the start; what is only away is waited for, unless the run is short."""
    for look in (consumer.repository.check, consumer.delivery.stream.ping, consumer.take_part):
        try:
            look()
        except (MissingGroup, Stopped):
            # The consumer itself knows what follows from that.
            return
        except Unavailable as error:
            if must_answer:
                raise
            log.warning("%s; waiting for it", error)


class _Watch:
    """Called about once a second or oftener: draws progress, and writes a line now and then."""

    def __init__(self, group: Group, show: ShowProgress) -> None:
        self._group = group
        self._show = show
        self._looked = 0.0
        self._wrote = time.monotonic()
        self._read = 0
        self._left: int | None = None
        self._total: int | None = None

    def __call__(self, tally: Tally) -> None:
        """Show how far the consumer is."""
        now = time.monotonic()
        if now - self._looked > LOOK_S:
            self._looked = now
            self._left = self._remaining()
            self._total = None if self._left is None else tally.read + self._left
        if now - self._wrote > SUMMARY_S:
            if tally.read != self._read:
                left = "unknown" if self._left is None else str(self._left)
                log.info("%s, lag %s", _sentence(tally), left)
            self._wrote, self._read = now, tally.read
        self._show(tally.read, self._total, "")

    def _remaining(self) -> int | None:
        try:
            info, position = self._group.stream.info(), self._group.info()
            if info is None or position is None:
                return None
            lag = lag_of(self._group.stream, info, position, limit=10_000).entries
        except DvctlError:
            return None
        return None if lag is None else lag + position.pending


def _sentence(tally: Tally) -> str:
    parts = [f"read {tally.read}", f"persisted {tally.persisted}"]
    optional = ("duplicates", "conflicting", "dead_lettered", "skipped", "dropped", "gone", "deferred_retries")
    parts += [f"{name.replace('_', ' ')} {getattr(tally, name)}" for name in optional if getattr(tally, name)]
    return ", ".join(parts)
