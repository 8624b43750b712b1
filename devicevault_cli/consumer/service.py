"""The consumer as a service: its name on this host, its start, its line in the log now and then."""

from __future__ import annotations

import gc
import logging
from contextlib import closing, nullcontext
from typing import Any

from devicevault_cli.consumer.progress import Watch, sentence
from devicevault_cli.consumer.shutdown import Stop, Stopped
from devicevault_cli.consumer.worker import ConsumeOptions, Consumer
from devicevault_cli.errors import MissingGroup, TableAtFault, Unavailable, WrongType
from devicevault_cli.operations.groups.consumer_name import Lock, lock_name, lowest_free
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.repository.repository import Repository
from devicevault_cli.streams.clients import name_consumer
from devicevault_cli.streams.delivery import Delivery
from devicevault_cli.streams.group import Group

log = logging.getLogger("dvctl.consume")


def consume_as(
    group: Group,
    repository: Repository,
    pipeline: Pipeline,
    options: ConsumeOptions,
    stop: Stop,
    name: str | None,
    instance: int | None,
    watch: Watch,
) -> dict[str, Any]:
    """Consume under a name that no other process on this host has. -> the summary"""
    name, lock = _name(group, name, instance)
    name_consumer(group.stream.client, name)
    gc.freeze()  # what was imported stays for good, and need not be looked through
    with nullcontext() if lock is None else closing(lock):
        consumer = Consumer(Delivery(group, name), repository, pipeline, options, stop, watch, watch.on_batch)
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
    log.info("%s: %s", reason, sentence(consumer.tally))
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

    def database() -> None:
        consumer.repository.check()
        consumer.database_is_writable = True

    for look in (database, consumer.delivery.stream.ping, consumer.membership.take_part, consumer.look_at_table):
        try:
            look()
        except (MissingGroup, Stopped):
            # The consumer itself knows what follows from that.
            return
        except (Unavailable, WrongType) as error:
            if must_answer:
                raise
            alarm = logging.ERROR if isinstance(error, (WrongType, TableAtFault)) else logging.WARNING
            log.log(alarm, "%s; waiting for it", error)
