"""Checks of `dvctl doctor` on Celery's broker: reachable, queues, workers on them, arguments, a Redis as broker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from devicevault_cli.broker.inspection import BrokerState, QueueState, RedisSettings, inspect_broker
from devicevault_cli.broker.store_task import QUEUES
from devicevault_cli.broker.url import parse_broker_url
from devicevault_cli.errors import DvctlError, Unavailable
from devicevault_cli.operations.dispatch.state import DispatchState
from devicevault_cli.operations.monitoring.checks import Check, Finding, State, problem
from devicevault_cli.operations.monitoring.storage_checks import NONE, LocationTypes
from devicevault_cli.plural import number

LIMIT_S = 8.0
"""How long the broker may take to answer everything."""
CONFIGURE = "give --broker-url (or set CELERY_BROKER_URL), or --no-dispatch if they are not to be stored"
DEFAULT_BROKER = "DeviceVault itself would use amqp://guest@localhost:5672//"
WORSE: tuple[State, ...] = ("ok", "unknown", "warning", "problem")


def broker_checks(dispatch: DispatchState, url: str | None, types: LocationTypes) -> Iterator[tuple[str, Check]]:
    """The checks of the broker (url None: dispatch is off), by name."""
    if dispatch.why == "no-configurations":
        return
    if url is None:
        yield "broker", lambda: _off(dispatch, types)
        return
    looked: list[BrokerState] = []

    def look() -> Finding:
        try:
            looked.append(inspect_broker(url, _queues(types), LIMIT_S))
        except DvctlError as error:
            if types.dispatchable() == 0:  # then `consume` does not ask it either
                return problem(error)._replace(status="warning", detail=f"{error}; {NONE}, so that it is not needed")
            if isinstance(error, Unavailable):
                raise
            return problem(error)
        return _reachable(looked[0])

    def queues() -> Sequence[QueueState]:
        return looked[0].queues if looked else ()

    yield "broker", look
    yield "broker-queues", lambda: _worst(map(_queue, queues()), NONE)
    if parse_broker_url(url)[0].kind == "amqp":
        yield "broker-arguments", lambda: _worst(map(_arguments, queues()), NONE)
    else:
        yield "broker-eviction", lambda: _eviction(looked[0].redis if looked else None)
        yield "broker-persistence", lambda: _persistence(looked[0].redis if looked else None)


def _off(dispatch: DispatchState, types: LocationTypes) -> Finding:
    """What it means that dispatch is off."""
    if dispatch.why == "not-usable":
        return Finding("problem", dispatch.detail, dispatch.hint or "check --broker-url")
    off, devices = f"storage dispatch is off ({dispatch.detail})", types.dispatchable()
    if devices is None:
        return Finding("unknown", f"{off}; whether a device has a git or fs location cannot be read")
    if not devices:
        return Finding("ok", f"{off}, and no device has a git or fs location")
    detail = f"{off}: the configurations of {number(devices, 'device')} with a git or fs location are not stored"
    if dispatch.why == "no-dispatch":
        return Finding("warning", detail, "leave it out, or unset it, if dvctl is to hand them to the storage workers")
    return Finding("problem", f"{detail}, and `dvctl consume` does not start; {DEFAULT_BROKER}", CONFIGURE)


def _queues(types: LocationTypes) -> Sequence[str]:
    """The queues of the backends that devices use; all if that is unknown."""
    if types.dispatchable() is None:
        return QUEUES
    return [f"storage.{backend}" for backend in sorted(types.backends() or {})]


def _reachable(state: BrokerState) -> Finding:
    if state.away:
        reasons = "; ".join(map(str, state.away))
        fix = state.away[0].hint or "see why the first broker of the list is away"
        return Finding("warning", f"{state.answered} takes the login, but is not the first: {reasons}", fix)
    return Finding("ok", f"{state.answered} takes the login")


def _worst(findings: Iterable[Finding], none: str) -> Finding:
    """The findings about several queues as one."""
    found = sorted(findings, key=lambda finding: WORSE.index(finding.status), reverse=True)
    if not found:
        return Finding("ok", none)
    details, fixes = dict.fromkeys(each.detail for each in found), dict.fromkeys(each.fix for each in found if each.fix)
    return Finding(found[0].status, "; ".join(details), "; ".join(fixes))


def _queue(queue: QueueState) -> Finding:
    """Whether anybody reads a queue, and how many configurations wait in it."""
    fix = f"start the storage worker of DeviceVault that reads {queue.name}"
    if queue.error is not None:
        return Finding("unknown", str(queue.error), queue.error.hint or "")
    if queue.messages is None:
        return Finding("warning", f"{queue.name} does not exist yet: no storage worker has read it", fix)
    waiting = number(queue.messages, "configuration waits", "configurations wait")
    if queue.consumers is None:
        return Finding("ok", f"{queue.name}: {waiting}; whether a storage worker reads it is unknown on Redis")
    if not queue.consumers:
        return Finding(
            "problem" if queue.messages else "warning", f"no storage worker reads {queue.name}: {waiting}", fix
        )
    return Finding("ok", f"{queue.name}: {waiting}, {number(queue.consumers, 'worker reads', 'workers read')} it")


def _arguments(queue: QueueState) -> Finding:
    """Whether the queue is as DeviceVault's workers declare it: if not, they end with an error, and dvctl goes on."""
    if queue.clash is None:
        return Finding("unknown", f"{queue.name}: {queue.unknown}")
    if queue.clash:
        detail = f"{queue.name} exists with other arguments, so that DeviceVault's workers cannot declare it"
        fix = f"once {queue.name} is empty, delete it and start the storage worker, or set the arguments by a policy"
        return Finding("warning", f"{detail}: {queue.clash}", fix)
    return Finding("ok", "DeviceVault's workers can declare the queues")


def _eviction(redis: RedisSettings | None) -> Finding:
    policy = redis.eviction if redis else None
    if not policy:
        return Finding("unknown", "the broker does not tell its eviction policy")
    if policy != "noeviction":
        detail = f"maxmemory-policy {policy} of the broker may evict queues, with the configurations in them"
        return Finding("warning", detail, "set maxmemory-policy noeviction on the broker")
    return Finding("ok", "maxmemory-policy noeviction")


def _persistence(redis: RedisSettings | None) -> Finding:
    if redis is None or redis.append_only is None:
        return Finding("unknown", "the broker does not tell whether it persists its data")
    if redis.append_only:
        return Finding("ok", "the append-only file is on")
    fix = "set appendonly yes on the broker; after a loss run `dvctl dispatch --missing`"
    if redis.snapshots is False:
        return Finding("warning", "no persistence: a restart of the broker loses the configurations that wait", fix)
    return Finding("warning", "no append-only file: a crash of the broker loses configurations that wait", fix)
