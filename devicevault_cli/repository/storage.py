"""Where configurations are stored, and whether they were: backup locations and stored backups. Reading only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Boolean, Row, Select, Text, bindparam, cast, exists, func, inspect, literal_column, select

from devicevault_cli.errors import Refused, SchemaMismatch
from devicevault_cli.paging import paged
from devicevault_cli.records import Micros
from devicevault_cli.repository.dialects.base import Dialect
from devicevault_cli.repository.schema import Instant, devices, locations, results, stored_backups
from devicevault_cli.repository.tables import RESULTS, STORAGE

LOOKUP = 500
UNREADABLE = object()
"""The `config` of a location whose text is not JSON."""

_NO_RIGHT = re.compile(r"permission denied|command denied", re.IGNORECASE)

_LOCATIONS = (
    select(devices.c.id, locations.c.location_type, cast(locations.c.config, Text).label("config"))
    .join(locations, locations.c.id == devices.c.backup_location_id)
    .where(devices.c.id.in_(bindparam("ids", expanding=True)))
)
_ENCRYPT = literal_column(f"{devices.name}.encrypt_backups", Boolean)
_LOCATIONS_AND_ENCRYPTION = _LOCATIONS.add_columns(_ENCRYPT)
_ENCRYPTING = select(exists().select_from(devices).where(_ENCRYPT))
_ASSIGNED = select(exists().where(devices.c.backup_location_id.is_not(None)))
_OF_TYPES = select(
    exists()
    .where(devices.c.backup_location_id == locations.c.id)
    .where(func.lower(locations.c.location_type).in_(bindparam("types", expanding=True)))
)
_TYPES = (
    select(func.lower(locations.c.location_type).label("type"), func.count().label("devices"))
    .join(devices, devices.c.backup_location_id == locations.c.id)
    .group_by(func.lower(locations.c.location_type))
)
_NEWEST = (
    select(results.c.id, results.c.task_identifier, results.c.device_id, results.c.status, results.c.timestamp)
    .order_by(results.c.id.desc())
    .limit(bindparam("newest"))
    .subquery()
)
_SUCCESSES = (
    select(_NEWEST.c.task_identifier, _NEWEST.c.timestamp, _NEWEST.c.status)
    .join(devices, devices.c.id == _NEWEST.c.device_id)
    .join(locations, locations.c.id == devices.c.backup_location_id)
    .where(func.lower(locations.c.location_type).in_(bindparam("types", expanding=True)))
    .where(_NEWEST.c.status == bindparam("success"), _NEWEST.c.task_identifier != "")
    .where(_NEWEST.c.timestamp < bindparam("before", type_=Instant))
    .order_by(_NEWEST.c.id.desc())
    .limit(bindparam("most"))
)
_FOUND = select(stored_backups.c.task_identifier, stored_backups.c.task_id, stored_backups.c.status)
_BACKUPS = {
    name: _FOUND.where(stored_backups.c[name].in_(bindparam("texts", expanding=True)))
    for name in ("task_identifier", "task_id")
}


class Location(NamedTuple):
    """A device's backup location. `config`: parsed JSON, or UNREADABLE.

    `encrypt`: whether the device asks for encrypted backups; None: this version of DeviceVault does not know them.
    """

    type: str
    config: Any
    encrypt: bool | None = None


class Backups(NamedTuple):
    """Statuses of stored backups, by identifier and by the Celery id of the task that stored them."""

    by_identifier: Mapping[str, frozenset[str]]
    by_task: Mapping[str, frozenset[str]]

    def statuses(self, identifier: str, task: str) -> frozenset[str]:
        """Of the backups of one configuration; empty: there is none."""
        return self.by_identifier.get(identifier, frozenset()) | self.by_task.get(task, frozenset())


class StorageTables:
    """Reads through the connection of a repository, whose pending transaction is completed first."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._encryption: bool | None = None

    def locations(self, device_ids: Iterable[int]) -> dict[int, Location]:
        """The backup locations of those devices that have one."""
        found: dict[int, Location] = {}
        statement = _LOCATIONS_AND_ENCRYPTION if self.knows_encryption else _LOCATIONS
        for page in paged(sorted(set(device_ids)), LOOKUP):
            for row_id, location_type, config, *encrypt in self._read(statement, {"ids": page}):
                wanted = bool(encrypt[0]) if encrypt else None
                found[row_id] = Location(location_type, _parsed(config), wanted)
        return found

    def any_device_encrypts(self) -> bool:
        """Whether any device asks for encrypted backups."""
        return self.knows_encryption and any(row[0] for row in self._read(_ENCRYPTING))

    @property
    def knows_encryption(self) -> bool:
        """Whether devices have the column `encrypt_backups`: DeviceVault from 2026-02 on."""
        if self._encryption is None:
            with self._dialect.translated():
                columns = inspect(self._dialect.connection()).get_columns(devices.name)
            self._encryption = any(column["name"] == "encrypt_backups" for column in columns)
        return self._encryption

    def any_device_at(self, types: Iterable[str]) -> bool:
        """Whether any device has a location of one of the types (in lower case). Without these tables none has."""
        try:
            return any(row[0] for row in self._read(_ASSIGNED)) and any(
                row[0] for row in self._read(_OF_TYPES, {"types": sorted(types)})
            )
        except SchemaMismatch:
            return False

    def location_types(self) -> dict[str, int]:
        """How many devices have a location of each type (in lower case). Without these tables none has one."""
        try:
            return {row.type: row.devices for row in self._read(_TYPES)}
        except SchemaMismatch:
            return {}

    def successes(
        self, status: str, types: Iterable[str], before: Micros, *, newest: int, most: int
    ) -> list[tuple[str, Micros]]:
        """Identifier and time of at most `most` rows, newest first, of this status and written before a time, for
        devices with a location of one of the types. Only the `newest` rows of the table are looked at."""
        values = {"success": status, "types": sorted(types), "before": before, "newest": newest, "most": most}
        rows = self._read(_SUCCESSES, values)
        return [(row.task_identifier, row.timestamp) for row in rows if row.status == status]  # as MySQL equates case

    def backups(self, identifiers: Iterable[str], tasks: Iterable[str]) -> Backups:
        """The stored backups with one of the identifiers, or stored by one of the tasks; compared byte for byte."""
        return Backups(self._statuses("task_identifier", identifiers), self._statuses("task_id", tasks))

    def _statuses(self, name: str, texts: Iterable[str]) -> dict[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        wanted = {text for text in texts if text}
        for table in (RESULTS.name, STORAGE.name):
            if repertoire := self._dialect.repertoires.get((table, name)):
                wanted -= repertoire.lacks(wanted)
        for page in paged(sorted(wanted), LOOKUP):
            for row in self._read(_BACKUPS[name], {"texts": page}):
                text = getattr(row, name)
                if text in wanted:  # collations of MySQL equate case, accents and trailing spaces
                    found[text] = found.get(text, frozenset()) | {row.status}
        return found

    def _read(self, statement: Select[Any], values: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        try:
            with self._dialect.reading() as connection:
                return connection.execute(statement, values or {}).all()
        except Refused as error:
            if not _NO_RIGHT.search(str(error)):
                raise
            tables = ", ".join(table.name for table in (devices, locations, stored_backups))
            user = self._dialect.url.user or "USER"
            raise Refused(str(error), hint=f"GRANT SELECT ON {tables} TO {user}; or use --no-dispatch") from None


def _parsed(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return UNREADABLE
