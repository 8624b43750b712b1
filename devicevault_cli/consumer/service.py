"""The consumer as a service: its name on this host, its start and its end."""

from __future__ import annotations

import logging
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devicevault_cli.consumer.namesake import living_namesake
from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.outages import DATABASE
from devicevault_cli.consumer.progress import ConsumerProgress
from devicevault_cli.consumer.shutdown import Stop, Stopped
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
from devicevault_cli.operations.groups.consumer_name import Lock, lock_name, lowest_free
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.streams.clients import Namesake, name_consumer
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.group import Group

if TYPE_CHECKING:
    from devicevault_cli.broker.publisher import Publisher
    from devicevault_cli.consumer.dispatch import DispatchOff
    from devicevault_cli.repository.repository import Repository

log = logging.getLogger("dvctl.consume")


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
    first = 0
    while True:
        taken, lock = _lock_name(group, name, instance, first)
        name_consumer(stream, group.name, taken)
        own_fields = logged_as(stream=stream.key, group=group.name, consumer=taken)
        with nullcontext() if lock is None else closing(lock), own_fields:
            consumer = GroupConsumer(group, taken)
            worker = Worker(consumer, servers.repository, pipeline, options, stop, progress, servers.publisher)
            if _check_start(worker, must_answer=options.drain or options.max_messages is not None):
                _announce(worker, pipeline, "once every server answers: ")
                namesake = _namesake(worker, stop)
            elif (namesake := _namesake(worker, stop)) is None:
                _announce(worker, pipeline)
            if namesake is None:
                return _run(worker, progress, stop)
        if name is not None or instance is not None:
            raise ConsumerAlive(
                f"consumer {taken} of group {group.name} is alive already, at {namesake.address}: two processes under"
                " one name would read what the other holds",
                hint="choose another name with --consumer or --instance, or leave both out",
            )
        text = "another process consumes as %s, at %s: this host and that one have the same name; taking another name"
        log.warning(text, taken, namesake.address, extra=fields(consumer=taken, address=namesake.address))
        first = int(taken.rpartition("-")[2]) + 1


def _announce(worker: Worker, pipeline: Pipeline, condition: str = "") -> None:
    group = worker.consumer.group
    names = group.stream.key, worker.consumer.consumer, group.name, pipeline.table, worker.dispatch.shown
    about = fields(table=pipeline.table, dispatch=worker.dispatch.shown)
    log.info("%sconsuming %s as %s in group %s into %s; storage dispatch is %s", condition, *names, extra=about)


def _run(worker: Worker, progress: ConsumerProgress, stop: Stop) -> dict[str, Any]:
    reason = worker.run()
    stopped_by = progress.stopped_by = stop.reason if reason == "signal" else reason
    counts = fields(stopped_by=stopped_by, **worker.counters.counts())
    log.info("%s: %s", stopped_by, worker.counters.line(), extra=counts)
    return worker.counters.summary(stopped_by)


def _namesake(worker: Worker, stop: Stop) -> Namesake | None:
    """Who else consumes under the name. Redis is waited for; a request to stop is left to the worker."""
    try:
        return worker.retried(lambda: living_namesake(worker.consumer.stream, stop))
    except (MissingGroup, Stopped):
        return None


def _lock_name(group: Group, fixed: str | None, instance: int | None, first: int) -> tuple[str, Lock | None]:
    if fixed is None:
        return lowest_free(group.stream.key, group.name, instance, first)
    lock = lock_name(group.stream.key, group.name, fixed)
    if lock is None:
        text = "another process on this host consumes as %s already: each reads what the other holds"
        log.warning(text, fixed, extra=fields(consumer=fixed))
    return fixed, lock


def _check_start(worker: Worker, *, must_answer: bool) -> bool:
    """A wrong password, right or table ends the start; what is only away is waited for, unless the run is short.

    -> whether something is
    """
    reported: set[tuple[str, type[DvctlError]]] = set()

    def check_database() -> None:
        worker.repository.check()
        worker.repository.require_single_writer()
        worker.database_is_writable = True

    stream = worker.consumer.stream
    servers = check_database, worker.dispatch.check, stream.ping
    for check in (*servers, worker.member.take_part, worker.failover.check, worker.look_at_table):
        try:
            check()
        except (MissingGroup, Stopped):
            # The worker itself knows what follows from that.
            break
        except (Unavailable, WrongType) as error:
            if must_answer:
                raise
            level = logging.ERROR if isinstance(error, (WrongType, TableAtFault, OtherServer)) else logging.WARNING
            outage = worker.progress.outages.failed(error)
            server = error.server or DATABASE
            if (server, type(error)) not in reported:  # several checks ask the same server
                log.log(level, "%s; waiting for it", error, extra=fields(server=server, attempts=outage.attempts))
            reported.add((server, type(error)))
    return bool(reported)
