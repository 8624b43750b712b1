"""Checks of `dvctl doctor` on storage in the database: rights, locations, successes without a stored backup."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from devicevault_cli.broker.store_task import BACKENDS, task_uuid
from devicevault_cli.errors import DvctlError, Refused
from devicevault_cli.messages import SUCCESS
from devicevault_cli.operations.dispatch.state import DispatchState
from devicevault_cli.operations.monitoring.checks import Check, Finding, problem
from devicevault_cli.plural import number
from devicevault_cli.records import Micros
from devicevault_cli.times import now_ms

if TYPE_CHECKING:
    from devicevault_cli.repository.repository import Repository

NEWEST, EXAMINED = 10_000, 500
"""Rows of the results table that are looked at, and successes among them whose stored backups are looked up."""
GRACE_MS = 3_600_000
"""How long storing a configuration may take: as with `verify --storage`."""

NONE = "no device has a git or fs location"


class LocationTypes:
    """How many devices have a backup location of each type (in lower case), read once. Raises DvctlError."""

    def __init__(self, repository: Repository | None) -> None:
        self._repository = repository
        self._types: dict[str, int] | None = None

    def read(self) -> dict[str, int] | None:
        """None: no database can be asked."""
        if self._types is None and self._repository is not None:
            self._types = self._repository.storage.location_types()
        return self._types

    def backends(self) -> dict[str, int] | None:
        """How many devices each storage backend serves, by its name. None: no database can be asked."""
        types = self.read()
        if types is None:
            return None
        found: dict[str, int] = {}
        for name, devices in types.items():
            if name in BACKENDS:
                found[BACKENDS[name]] = found.get(BACKENDS[name], 0) + devices
        return found

    def dispatchable(self) -> int | None:
        """How many devices have a git or fs location; None: unknown, for whatever reason."""
        try:
            backends = self.backends()
        except DvctlError:
            return None
        return None if backends is None else sum(backends.values())


def storage_checks(
    stream: str, repository: Repository | None, dispatch: DispatchState, types: LocationTypes
) -> Iterator[tuple[str, Check]]:
    """The checks where configurations are dispatched, or would be if a broker were configured."""
    if repository is None or dispatch.why in ("no-configurations", "no-dispatch"):
        return
    yield "storage-rights", lambda: _rights(repository, types)
    yield "backup-locations", lambda: _locations(types)
    yield "not-stored", lambda: _not_stored(stream, repository, types)


def _rights(repository: Repository, types: LocationTypes) -> Finding:
    try:
        if not types.backends():
            return Finding("ok", NONE)
        repository.storage.backups([], ["none"])
    except Refused as error:
        return problem(error)
    return Finding("ok", "backup locations and stored backups can be read")


def _locations(types: LocationTypes) -> Finding:
    others = {name: devices for name, devices in (types.read() or {}).items() if name not in BACKENDS}
    if others:
        counts = ", ".join(f"{name} ({devices:,})" for name, devices in sorted(others.items()))
        detail = f"no storage worker serves the backup locations of {number(sum(others.values()), 'device')}: {counts}"
        return Finding("warning", detail, "give these devices a git or fs location, if they are to be stored")
    return Finding("ok", "storage workers serve every device that has a backup location")


def _not_stored(stream: str, repository: Repository, types: LocationTypes) -> Finding:
    """Rows stand for entries here: those carry the configurations, which are large."""
    if not types.backends():
        return Finding("ok", NONE)
    storage = repository.storage
    before = (now_ms() - GRACE_MS) * 1000
    rows = storage.successes(SUCCESS, BACKENDS, before, newest=NEWEST, most=EXAMINED)
    tasks = {identifier: _task(stream, moment) for identifier, moment in rows}
    backups = storage.backups(tasks, tasks.values())
    missing = [identifier for identifier, task in tasks.items() if SUCCESS not in backups.statuses(identifier, task)]
    of = f"of the newest {number(len(tasks), 'success', 'successes')} older than an hour"
    if missing:
        detail = f"{len(missing):,} {of} have no successful stored backup, e.g. {missing[0]}"
        return Finding("warning", detail, "run `dvctl verify --storage`, then `dvctl dispatch --missing`")
    return Finding("ok", f"all {of} are stored" if tasks else "no success is older than an hour")


def _task(stream: str, moment: Micros) -> str:
    """The id of the task that stored a configuration, from the time of its row, which is that of the entry's id."""
    milliseconds, sequence = divmod(moment, 1000)
    return task_uuid(stream, f"{milliseconds}-{sequence}")
