"""The consumer as a service: its name on this host, its start and its end."""

from __future__ import annotations

import logging
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devicevault_cli.consumer.options import ConsumeOptions
from devicevault_cli.consumer.outages import DATABASE
from devicevault_cli.consumer.progress import ConsumerProgress
from devicevault_cli.consumer.shutdown import Stop, Stopped
from devicevault_cli.consumer.worker import Worker
from devicevault_cli.errors import DvctlError, MissingGroup, OtherServer, TableAtFault, Unavailable, WrongType
from devicevault_cli.log_fields import fields, logged_as
from devicevault_cli.operations.groups.consumer_name import Lock, lock_name, lowest_free
from devicevault_cli.pipelines import Pipeline
from devicevault_cli.streams.clients import name_consumer
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
    """Consume under a name that no other process on this host has. -> the summary"""
    group, repository = servers.group, servers.repository
    name, lock = _lock_name(group, name, instance)
    name_consumer(group.stream.client, name)
    own_fields = logged_as(stream=group.stream.key, group=group.name, consumer=name)
    with nullcontext() if lock is None else closing(lock), own_fields:
        worker = Worker(GroupConsumer(group, name), repository, pipeline, options, stop, progress, servers.publisher)
        away = _check_start(worker, must_answer=options.drain or options.max_messages is not None)
        names = group.stream.key, name, group.name, pipeline.table, worker.dispatch.shown
        about = fields(table=pipeline.table, dispatch=worker.dispatch.shown)
        text = "consuming %s as %s in group %s into %s; storage dispatch is %s"
        log.info(f"once every server answers: {text}" if away else text, *names, extra=about)
        reason = worker.run()
        stopped_by = progress.stopped_by = stop.reason if reason == "signal" else reason
        counts = fields(stopped_by=stopped_by, **worker.counters.counts())
        log.info("%s: %s", stopped_by, worker.counters.line(), extra=counts)
        return worker.counters.summary(stopped_by)


def _lock_name(group: Group, fixed: str | None, instance: int | None) -> tuple[str, Lock | None]:
    if fixed is None:
        return lowest_free(group.stream.key, group.name, instance)
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
