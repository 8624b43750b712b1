"""The consumer as a service: its name on this host, its start and its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.outages import DATABASE, Outages
from devicevault_cli.consumer.progress import ConsumerProgress
from devicevault_cli.consumer.shutdown import Stop, Stopped
from devicevault_cli.consumer.streams_progress import StreamsProgress
from devicevault_cli.consumer.streams_worker import StreamsWorker
from devicevault_cli.consumer.worker import Worker
from devicevault_cli.errors import (
    ConsumerAlive,
    DvctlError,
    MissingGroup,
    OtherServer,
    TableAtFault,
    Unavailable,
    WrongType,
)
from devicevault_cli.log_fields import fields, logged_as
from devicevault_cli.operations.groups.consumer_name import (
    Lock,
    lock_everywhere,
    lowest_free_everywhere,
    release,
)
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.streams.clients import Namesake, name_consumer
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
    """Consume under a name that no other process has. -> the summary"""
    group, stream = servers.group, servers.group.stream

    def attempt(taken: str) -> dict[str, Any] | Namesake:
        name_consumer(stream, group.name, taken)
        with logged_as(stream=stream.key, group=group.name, consumer=taken):
            worker = Worker(
                GroupConsumer(group, taken), servers.repository, pipeline, options, stop, progress, servers.publisher
            )
            asked = [worker.dispatch.check, stream.ping]
            asked += [worker.member.take_part, worker.failover.check, worker.look_at_table]
            about = fields(table=pipeline.table, dispatch=worker.dispatch.shown)
            names = stream.key, taken, group.name, pipeline.table, worker.dispatch.shown
            started = Start("consuming %s as %s in group %s into %s; storage dispatch is %s", names, about)
            return _consume(worker, asked, started, options, stop, progress, progress.outages)

    return _under_a_free_name(
        lambda first: _lock_names([stream.key], group.name, name, instance, first), attempt, group.name,
        typed=name is not None or instance is not None,
    )  # fmt: skip


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
    streams = [
        Stream(
            separate(servers.group.stream.client, SOCKET_TIMEOUT_S),
            servers.group.stream.key,
            shares_table=servers.group.stream.shares_table,
        )
        for servers in each
    ]

    def attempt(taken: str) -> dict[str, Any] | Namesake:
        for stream in streams:
            name_consumer(stream, group, taken)
        consumers = [GroupConsumer(Group(stream, group), taken) for stream in streams]
        with logged_as(stream=shown, group=group, consumer=taken):
            worker = StreamsWorker(consumers, repository, pipeline, options, stop, progress, publisher)
            asked = [worker.dispatch.check, *worker.checks()]
            about = fields(table=pipeline.table, dispatch=worker.dispatch.shown, streams=len(each))
            names = len(each), shown, taken, group, pipeline.table, worker.dispatch.shown
            text = "consuming %d streams (%s) as %s in group %s into %s; storage dispatch is %s"
            shared = progress.each[0].outages
            return _consume(worker, asked, Start(text, names, about), options, stop, progress, shared)

    try:
        return _under_a_free_name(
            lambda first: _lock_names([stream.key for stream in streams], group, name, instance, first), attempt, group,
            typed=name is not None or instance is not None,
        )  # fmt: skip
    finally:
        for stream in streams:
            stream.client.close()


class Start(NamedTuple):
    """The log line that says what is consumed: its text, what it names, and its fields."""

    text: str
    names: tuple[object, ...]
    about: dict[str, Any]

    def log(self, condition: str = "") -> None:
        """Write it."""
        text = condition + self.text
        log.info(text, *self.names, extra=self.about)


def _consume(
    worker: Worker | StreamsWorker,
    asked: Sequence[Callable[[], object]],
    start: Start,
    options: ConsumeOptions,
    stop: Stop,
    progress: ConsumerProgress | StreamsProgress,
    outages: Outages,
) -> dict[str, Any] | Namesake:
    """Consume, unless another process has the name. -> the summary, or that process"""
    must_answer = options.drain or options.max_messages is not None
    if _check_start(worker, asked, outages, must_answer=must_answer):
        start.log("once every server answers: ")
        namesake = worker.namesake()
    elif (namesake := worker.namesake()) is None:
        start.log()
    if namesake is not None:
        return namesake
    reason = worker.run()
    stopped_by = progress.stopped_by = stop.reason if reason == "signal" else reason
    counters = progress.counters
    counts = fields(stopped_by=stopped_by, **counters.counts())
    log.info("%s: %s", stopped_by, counters.line(), extra=counts)
    return counters.summary(stopped_by)


def _under_a_free_name(
    lock: Callable[[int], tuple[str, list[Lock]]],
    attempt: Callable[[str], dict[str, Any] | Namesake],
    group: str,
    *,
    typed: bool,
) -> dict[str, Any]:
    """Attempt it under one name after the other. `lock`: the lowest name from a number on that is free on this host.

    Raises ConsumerAlive where the name was `typed` and a process on another host has it.
    """
    first = 0
    while True:
        taken, locks = lock(first)
        try:
            found = attempt(taken)
        finally:
            release(locks)
        if not isinstance(found, Namesake):
            return found
        if typed:
            raise ConsumerAlive(
                f"consumer {taken} of group {group} is alive already, at {found.address}: two processes under one name"
                " would read what the other holds",
                hint="choose another name with --consumer or --instance, or leave both out",
            )
        text = "another process consumes as %s, at %s: this host and that one have the same name; taking another name"
        log.warning(text, taken, found.address, extra=fields(consumer=taken, address=found.address))
        first = int(taken.rpartition("-")[2]) + 1


def _lock_names(
    streams: Sequence[str], group: str, fixed: str | None, instance: int | None, first: int
) -> tuple[str, list[Lock]]:
    if fixed is None:
        return lowest_free_everywhere(streams, group, instance, first)
    locks = lock_everywhere(streams, group, fixed)
    if locks is None:
        text = "another process on this host consumes as %s already: each reads what the other holds"
        log.warning(text, fixed, extra=fields(consumer=fixed))
    return fixed, locks or []


def _check_start(
    worker: Worker | StreamsWorker, checks: Sequence[Callable[[], object]], outages: Outages, *, must_answer: bool
) -> bool:
    """A wrong password, right or table ends the start; what is only away is waited for, unless the run is short.

    -> whether something is
    """
    reported: set[tuple[str, type[DvctlError]]] = set()

    def check_database() -> None:
        worker.repository.check()
        worker.repository.require_single_writer()
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
            level = logging.ERROR if isinstance(error, (WrongType, TableAtFault, OtherServer)) else logging.WARNING
            outage = outages.failed(error)
            server = error.server or DATABASE
            if (server, type(error)) not in reported:  # several checks ask the same server
                log.log(level, "%s; waiting for it", error, extra=fields(server=server, attempts=outage.attempts))
            reported.add((server, type(error)))
    return bool(reported)
