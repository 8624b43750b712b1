"""dvctl check: a few values against their limits, as a state for monitoring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from devicevault_cli.broker.inspection import inspect_broker
from devicevault_cli.broker.store_task import BACKENDS
from devicevault_cli.errors import DvctlError, Refused, WrongType
from devicevault_cli.operations.answer import Answer, optional
from devicevault_cli.operations.dispatch.state import DispatchState
from devicevault_cli.operations.monitoring import incidents
from devicevault_cli.operations.monitoring.incidents import Incident, every_incident, unacknowledged_of
from devicevault_cli.operations.monitoring.lag import lag_of
from devicevault_cli.operations.monitoring.limits import Limit, State
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId, StreamInfo
from devicevault_cli.times import now_ms

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

CODES: dict[State, int] = {"ok": 0, "warning": 1, "critical": 2, "unknown": 3}
"""Exit codes of monitoring plugins."""
SEVERITY: tuple[State, ...] = ("ok", "unknown", "warning", "critical")

OpenDatabase: TypeAlias = "Callable[[], Repository | None]"
"""Opens the database; None if none is configured. Raises DvctlError."""

DEFAULTS = {
    "lag": Limit(1000, 10_000),
    "pending": Limit(1000, 10_000),
    "age_s": Limit(300, 3600),
    "dead": Limit(0, 100),
}
"""The limits if no limit is given."""
BROKER_S = 5.0
"""How long the broker may take to answer."""


@dataclass(frozen=True, slots=True)
class Check(Answer):
    """An element of `checks[]`: a value (None: unknown) and its limits. Only checks without limits have a `detail`."""

    name: str
    status: State
    value: float | None
    warning: float | None = None
    critical: float | None = None
    detail: str | None = optional()


@dataclass(frozen=True, slots=True)
class CheckAnswer(Answer):
    """The answer of `check`: a `note` about the values, or the `error` why nothing could be checked."""

    status: State
    stream: str
    group: str
    checks: Sequence[Check]
    note: str | None = optional()
    error: str | None = optional()


def check_group(
    group: Group,
    limits: Mapping[str, Limit],
    open_database: OpenDatabase = lambda: None,
    dispatch: DispatchState | None = None,
    broker_url: str | None = None,
) -> CheckAnswer:
    """Check a group. Without a stream every value is 0; a value without a limit is ok.

    open_database: gives None where none is configured; one that cannot be used is asked once. broker_url: where
    dispatch is on.
    """
    values, note = _values(group)
    checks = [_check(name, value, limits.get(name)) for name, value in values.items()]
    if database := _database(open_database):
        checks.append(database)
        if database.status != "ok":
            open_database = _no_database
    checks += _checks_without_limits(group, open_database)
    if dispatch is not None and dispatch.why != "no-configurations":
        checks.append(_dispatch(dispatch, broker_url, open_database))
    status = max((check.status for check in checks), key=SEVERITY.index)
    return CheckAnswer(status, group.stream.key, group.name, checks, note=note)


def _no_database() -> None:
    """None can be asked."""


def _database(open_database: OpenDatabase) -> Check | None:
    """Whether the table can be read: 1 or 0. None where no database is configured."""
    try:
        repository = open_database()
        if repository is None:
            return None
        repository.check(writing=False)
    except DvctlError as error:
        return Check("database", "unknown", 0, detail=str(error))
    return Check("database", "ok", 1)


def _check(name: str, value: float | None, limit: Limit | None) -> Check:
    if limit is None:
        return Check(name, "ok", value)
    return Check(name, limit.state_of(value), value, limit.warning, limit.critical)


def _values(group: Group) -> tuple[dict[str, float | None], str]:
    """The values and a note about them.

    lag: undelivered entries; pending: pending entries; age_s: age of the oldest of both; dead: dead letters."""
    dead = sum(len(page) for page in DeadLetters(group.stream, group.name).pages())
    info = group.stream.info()
    if info is None:
        return {"lag": 0, "pending": 0, "age_s": 0, "dead": dead}, "there is no stream yet"
    about = group.info()
    if about is None:
        return {"lag": info.length, "pending": 0, "age_s": _age_s(info.first_id), "dead": dead}, "there is no group yet"
    lag = lag_of(group.stream, info, about)
    summary = group.summary()
    oldest = min((key for key in (lag.oldest, summary.first_id) if key is not None), default=None)
    return {"lag": lag.entries, "pending": summary.total, "age_s": _age_s(oldest), "dead": dead}, ""


def _age_s(oldest: EntryId | None) -> float:
    return 0 if oldest is None else max(0.0, round((now_ms() - oldest.ms) / 1000, 1))


def _checks_without_limits(group: Group, open_database: OpenDatabase) -> list[Check]:
    """`group` and `incidents`, which no limit can switch off."""
    info = group.stream.info()
    found: list[Incident] = []
    try:
        found = _incidents(group, info, open_database)
        check = Check("incidents", incidents.severity(found), len(found), detail=incidents.sentence(found))
    except (Refused, WrongType) as error:
        check = Check("incidents", "unknown", None, detail=f"incidents cannot be read: {error}")
    if info is None or not info.length or group.info() is not None:
        return [Check("group", "ok", 1, detail=""), check]
    said = any(incident.kind == "group-gone" for incident in found[-1:])  # by the other check
    detail = incidents.missing_group(group.name, info, () if said else found)
    return [Check("group", "critical", 0, detail=detail), check]


def _dispatch(dispatch: DispatchState, url: str | None, open_database: OpenDatabase) -> Check:
    """Whether configurations reach the broker. It is 1 if they do, 0 if not."""

    def found(status: State, value: float, detail: str) -> Check:
        return Check("dispatch", status, value, detail=f"storage dispatch is {detail}")

    if url is not None:
        try:
            inspect_broker(url, (), BROKER_S)
        except DvctlError as error:
            if _needed(open_database) == "no":
                return found("ok", 0, f"on, and no device has a git or fs location: {error}")
            return found("critical", 0, f"on, but {error}")
        return found("ok", 1, "on")
    off = f"off ({dispatch.detail})"
    if dispatch.why != "no-broker":
        return found("ok" if dispatch.why == "no-dispatch" else "unknown", 0, off)
    needed = _needed(open_database)
    if needed == "yes":
        return found("critical", 0, f"{off}, but devices have a git or fs location")
    if needed == "no":
        return found("ok", 0, f"{off}, and no device has a git or fs location")
    return found("unknown" if needed else "ok", 0, f"{off}, and whether a device needs it is not known{needed}")


def _needed(open_database: OpenDatabase) -> str:
    """Whether a device has a git or fs location: `yes`, `no`, or why that is not known; empty without a database."""
    try:
        repository = open_database()
        if repository is None:
            return ""
        return "yes" if repository.storage.any_device_at(BACKENDS) else "no"
    except DvctlError as error:
        return f": {error}"


def _incidents(group: Group, info: StreamInfo | None, open_database: OpenDatabase) -> list[Incident]:
    """Unacknowledged incidents of the group; of an empty stream also that the table has newer rows."""
    known = every_incident(group.stream)
    found = unacknowledged_of(group, known)
    if found or (info is not None and info.length) or group.stream.shares_table:
        return found
    try:
        repository = open_database()
        return incidents.table_ahead(group.stream.key, info, repository, known) if repository is not None else []
    except DvctlError:
        return []  # an unreachable database is not what is checked


def nagios(answer: CheckAnswer) -> list[str]:
    """One line: the state, the reasons, and performance data. Control characters in names must be escaped already."""
    bad = [check.detail or f"{check.name} is {_shown(check.value)}" for check in answer.checks if check.status != "ok"]
    data = " ".join(
        f"{check.name}={_shown(check.value)};{_shown(check.warning)};{_shown(check.critical)};0"
        for check in answer.checks
    )
    about = f"{answer.group} of {answer.stream}"
    why = answer.error or ", ".join(bad) or ", ".join([answer.note or "keeping up", *_dispatch_is(answer)])
    line = f"DVCTL {answer.status.upper()} - {about}: {why}"
    # The first bar begins the performance data.
    return [line.replace("|", "/") + (f" | {data}" if data else "")]


def _dispatch_is(answer: CheckAnswer) -> list[str]:
    return [check.detail for check in answer.checks if check.name == "dispatch" and check.detail]


def prometheus(*answers: CheckAnswer) -> list[str]:
    """The text format, e.g. for the textfile collector of a node exporter. Control characters: see `nagios`."""
    families: dict[str, list[str]] = {}
    for answer in answers:
        labels = f'stream="{_escaped(answer.stream)}",group="{_escaped(answer.group)}"'
        for check in answer.checks:
            name = f"dvctl_check_{check.name.replace('age_s', 'age_seconds')}"
            value = "NaN" if check.value is None else _shown(check.value)
            families.setdefault(name, []).append(f"{name}{{{labels}}} {value}")
    for answer in answers:
        labels = f'stream="{_escaped(answer.stream)}",group="{_escaped(answer.group)}"'
        status = f"dvctl_check_status{{{labels}}} {CODES[answer.status]}"
        families.setdefault("dvctl_check_status", []).append(status)
    return [line for name, lines in families.items() for line in (f"# TYPE {name} gauge", *lines)]


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
