"""The consumer as a service: its name on this host, its start and its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.outages import DATABASE, Outages
from devicevault_cli.consumer.progress import ConsumerProgress
from devicevault_cli.consumer.shutdown import Stop, Stopped
from devicevault_cli.consumer.streams_progress import StreamsProgress
from devicevault_cli.consumer.streams_worker import StreamsWorker
from devicevault_cli.consumer.worker import Worker
from devicevault_cli.errors import DvctlError, MissingGroup, TableAtFault, Unavailable, WrongType
from devicevault_cli.log_fields import fields, logged_as
from devicevault_cli.operations.groups.consumer_name import (
    Lock,
    lock_everywhere,
    lock_name,
    lowest_free,
    lowest_free_everywhere,
    release,
)
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.streams.clients import name_consumer
from devicevault_cli.streams.connect import separate
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.stream import Stream

if TYPE_CHECKING:
    from devicevault_cli.broker.publisher import Publisher
    from devicevault_cli.consumer.dispatch import DispatchOff
    from devicevault_cli.repository.repository import Repository

log = logging.getLogger("dvctl.consume")

SOCKET_TIMEOUT_S = 3.0
"""Of several streams: a server that is frozen keeps the others waiting for so long, once."""


@dataclass(frozen=True, slots=True)
class Servers:
    """What a consumer reads from and writes to. `publisher`: where configurations go; None: no broker is configured."""

    group: Group
    repository: Repository
    publisher: Publisher | DispatchOff | None


def consume_as(
    servers: Servers,
    pipeline: Pipeline,
    options: ConsumeOptions,
    stop: Stop,
    name: str | None,
    instance: int | None,
    progress: ConsumerProgress,
) -> dict[str, Any]:
    """Consume under a name that no other process on this host has. -> the summary"""
    group, repository = servers.group, servers.repository
    name, lock = _lock_name(group, name, instance)
    name_consumer(group.stream.client, name)
    own_fields = logged_as(stream=group.stream.key, group=group.name, consumer=name)
    with nullcontext() if lock is None else closing(lock), own_fields:
        worker = Worker(GroupConsumer(group, name), repository, pipeline, options, stop, progress, servers.publisher)
        asked = [worker.dispatch.check, group.stream.ping, worker.member.take_part, worker.look_at_table]
        must_answer = options.drain or options.max_messages is not None
        away = _check_start(worker, asked, progress.outages, must_answer=must_answer)
        names = group.stream.key, name, group.name, pipeline.table, worker.dispatch.shown
        about = fields(table=pipeline.table, dispatch=worker.dispatch.shown)
        text = "consuming %s as %s in group %s into %s; storage dispatch is %s"
        log.info(f"once every server answers: {text}" if away else text, *names, extra=about)
        reason = worker.run()
        stopped_by = progress.stopped_by = stop.reason if reason == "signal" else reason
        counts = fields(stopped_by=stopped_by, **worker.counters.counts())
        log.info("%s: %s", stopped_by, worker.counters.line(), extra=counts)
        return worker.counters.summary(stopped_by)


def consume_streams_as(
    each: Sequence[Servers],
    pipeline: Pipeline,
    options: ConsumeOptions,
    stop: Stop,
    name: str | None,
    instance: int | None,
    progress: StreamsProgress,
    shown: str,
) -> dict[str, Any]:
    """As `consume_as`, of several streams under one name. `shown`: what the streams are called. -> the summary"""
    group, repository, publisher = each[0].group.name, each[0].repository, each[0].publisher
    streams = [servers.group.stream for servers in each]
    name, locks = _lock_names([stream.key for stream in streams], group, name, instance)
    consumers = []
    for stream in streams:
        own = Stream(separate(stream.client, SOCKET_TIMEOUT_S), stream.key, shares_table=stream.shares_table)
        name_consumer(own.client, name)
        consumers.append(GroupConsumer(Group(own, group), name))
    try:
        with logged_as(stream=shown, group=group, consumer=name):
            worker = StreamsWorker(consumers, repository, pipeline, options, stop, progress, publisher)
            checks = [worker.dispatch.check, *worker.checks()]
            first = worker.progress.each[0].outages
            away = _check_start(worker, checks, first, must_answer=options.drain or options.max_messages is not None)
            about = fields(table=pipeline.table, dispatch=worker.dispatch.shown, streams=len(each))
            text = "consuming %d streams (%s) as %s in group %s into %s; storage dispatch is %s"
            names = len(each), shown, name, group, pipeline.table, worker.dispatch.shown
            log.info(f"once every server answers: {text}" if away else text, *names, extra=about)
            reason = worker.run()
            stopped_by = progress.stopped_by = stop.reason if reason == "signal" else reason
            counters = progress.counters
            counts = fields(stopped_by=stopped_by, **counters.counts())
            log.info("%s: %s", stopped_by, counters.line(), extra=counts)
            return counters.summary(stopped_by)
    finally:
        release(locks)
        for consumer in consumers:
            consumer.stream.client.close()


def _lock_names(streams: Sequence[str], group: str, fixed: str | None, instance: int | None) -> tuple[str, list[Lock]]:
    if fixed is None:
        return lowest_free_everywhere(streams, group, instance)
    locks = lock_everywhere(streams, group, fixed)
    if locks is None:
        _warn_of_name(fixed)
    return fixed, locks or []


def _warn_of_name(name: str) -> None:
    text = "another process on this host consumes as %s already: each reads what the other holds"
    log.warning(text, name, extra=fields(consumer=name))


def _lock_name(group: Group, fixed: str | None, instance: int | None) -> tuple[str, Lock | None]:
    if fixed is None:
        return lowest_free(group.stream.key, group.name, instance)
    lock = lock_name(group.stream.key, group.name, fixed)
    if lock is None:
        _warn_of_name(fixed)
    return fixed, lock


def _check_start(
    worker: Worker | StreamsWorker, checks: Sequence[Callable[[], object]], outages: Outages, *, must_answer: bool
) -> bool:
    """A wrong password, right or table ends the start; what is only away is waited for, unless the run is short.

    -> whether something is
    """
    reported: set[tuple[str, type[DvctlError]]] = set()

    def check_database() -> None:
        worker.repository.check()
        worker.database_is_writable = True

    for check in (check_database, *checks):
        try:
            check()
        except (MissingGroup, Stopped):
            # The worker itself knows what follows from that.
            break
        except (Unavailable, WrongType) as error:
            if must_answer:
                raise
            level = logging.ERROR if isinstance(error, (WrongType, TableAtFault)) else logging.WARNING
            outage = outages.failed(error)
            server = error.server or DATABASE
            if (server, type(error)) not in reported:  # several checks ask the same server
                log.log(level, "%s; waiting for it", error, extra=fields(server=server, attempts=outage.attempts))
            reported.add((server, type(error)))
    return bool(reported)
