"""The seam that operations see: save records, find rows by identity, count; one backend for each database behind it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

from devicevault_cli.errors import DvctlError, RecordRejected
from devicevault_cli.paging import ROWS_PER_STATEMENT, paged
from devicevault_cli.records import INT4_MAX, Identity, Micros, Record
from devicevault_cli.repository import repertoire
from devicevault_cli.repository.faults import ProbedTable
from devicevault_cli.repository.instants import to_micros
from devicevault_cli.repository.sql import NAMED, UNNAMED, marks, text
from devicevault_cli.repository.tables import DEVICES, TableSpec
from devicevault_cli.repository.url import DatabaseUrl, parse_url

Value: TypeAlias = str | int | datetime | bytes | None
Row: TypeAlias = dict[str, str | int | None]
"""A whole row by column, `id` included; times are Micros."""


class Existing(NamedTuple):
    """The row with a record's identity that was there; of several the one with the lowest id."""

    id: int
    device_id: int
    status: str


class Saved(NamedTuple):
    """What became of a record; of a duplicate the row that was there."""

    outcome: Literal["inserted", "duplicate", "unknown-device"]
    existing: Existing | None = None


INSERTED = Saved("inserted")
INDEX_HINT = "none is needed: without it a lock around each batch prevents duplicate rows"


class Duplicate(NamedTuple):
    """An identity that stands more than once, and the ids of its rows, lowest first."""

    identity: Identity
    ids: list[int]


class IndexAnswer(NamedTuple):
    """Whether the unique index stands now because of this call, and the duplicates that forbid it."""

    name: str
    created: bool
    duplicates: list[Duplicate]


class Save(Protocol):
    """A transaction under way."""

    def wait(self, seconds: float) -> bool:
        """True once `result()` will not block."""

    def result(self) -> list[Saved]:
        """One answer for each record, in their order, after COMMIT. Raises what went wrong; then nothing is saved."""


class Done(NamedTuple):
    """A Save that is over already."""

    answers: list[Saved]

    def wait(self, seconds: float) -> bool:
        """There is nothing to wait for."""
        return True

    def result(self) -> list[Saved]:
        """The answers."""
        return self.answers


class Repository(ProbedTable):
    """One table of one database. Connects when first used, and anew after a failure; for one thread at a time.

    Every method raises Unavailable, Refused, BadConfig or SchemaMismatch; `submit` and `save` also RecordRejected.
    """

    dialect: ClassVar[str]

    def __init__(self, url: DatabaseUrl, spec: TableSpec) -> None:
        self.url = url
        self.spec = spec
        self.where = url.shown
        self.device_id_max = INT4_MAX
        """Maximum of the actual type of the `device_id` column; known after `check()`."""
        self.unique_index = False
        """A valid unique index on `task_identifier` exists; known after `check()`."""
        self.equating_index = ""
        """A unique index that takes different identifiers for equal (by case, accents); known after `check()`."""
        self._no_index = ""
        self._repertoires: repertoire.Repertoires = {}
        self.on_wait: Callable[[], None] = lambda: None
        """Called about twice a second while `submit` waits for the batch before; what it raises ends the waiting."""

    @abstractmethod
    def check(self, *, writing: bool = True) -> None:
        """The database answers, has the tables and columns, and (`writing`) takes a row from us, which is undone."""

    @abstractmethod
    def submit(self, records: Sequence[Record]) -> Save:
        """Start one transaction that saves the records: all or, on an error, none.

        Per record: does the device exist, is there a row with its identity, else insert. On PostgreSQL this returns
        while the server works; elsewhere the work is done on return.
        """

    def prepare(self, records: Sequence[Record]) -> None:
        """Do in advance what the next `submit` can do while the server still works on the batch before."""

    def save(self, records: Sequence[Record]) -> list[Saved]:
        """Submit and wait."""
        return self.submit(records).result()

    @abstractmethod
    def find(self, records: Sequence[Record]) -> list[list[Existing]]:
        """For each record all rows with its identity, lowest id first. Changes nothing."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection back; a later call connects again."""

    def row_security(self) -> list[str]:
        """What row-level security forbids, in sentences."""
        return []

    def _some_device(self, avoid: int) -> int | None:
        ids = [row[0] for row in self._select(f"SELECT id FROM {DEVICES} ORDER BY id LIMIT 2")]
        return next((each for each in ids if each != avoid), ids[0] if ids else None)

    def encodable(self, records: Sequence[Record]) -> list[bool]:
        """For each record: whether the character set of the database has all of its text; else it is rejected."""
        self._ready()
        return repertoire.encodable(self._repertoires, self.spec, records)

    def _identifiable(self, records: Sequence[Record]) -> list[bool]:
        """For each record: whether its identity can be in the table. One that cannot has no row."""
        return repertoire.identifiable(self._repertoires, self.spec, records)

    def known_devices(self, ids: Iterable[int]) -> set[int]:
        """Which of the device ids exist."""
        known: set[int] = set()
        for page in paged(sorted(set(ids))):
            known.update(row[0] for row in self._select(f"SELECT id FROM {DEVICES} WHERE id IN ({marks(page)})", page))
        return known

    def device_names(self, ids: Iterable[int]) -> dict[int, str]:
        """The names of those devices that exist."""
        names: dict[int, str] = {}
        for page in paged(sorted(set(ids))):
            names.update(self._select(f"SELECT id, name FROM {DEVICES} WHERE id IN ({marks(page)})", page))
        return names

    def fetch(self, ids: Iterable[int]) -> dict[int, Row]:
        """Whole rows by their ids, in that order."""
        names = ("id", *self.spec.columns)
        rows: dict[int, Row] = {}
        for page in paged(sorted(set(ids))):
            sql = f"SELECT {', '.join(names)} FROM {self.spec.name} WHERE id IN ({marks(page)}) ORDER BY id"
            for values in self._select(sql, page):
                row = {name: self._plain(name, value) for name, value in zip(names, values, strict=True)}
                rows[values[0]] = row
        return rows

    def _plain(self, column: str, value: Any) -> str | int | None:
        if value is not None and self.spec.kind(column) == "time":
            return to_micros(value)
        plain: str | int | None = text(value) if isinstance(value, bytes) else value
        return plain

    def count(self) -> int:
        """How many rows the table has, exactly."""
        return int(self._select(f"SELECT count(*) FROM {self.spec.name}")[0][0])

    def last_id(self) -> int:
        """The largest id; 0 in an empty table."""
        return int(self._select(f"SELECT coalesce(max(id), 0) FROM {self.spec.name}")[0][0])

    def ids_after(self, after: int, count: int = 10_000) -> list[int]:
        """The next ids above one, in order."""
        sql = f"SELECT id FROM {self.spec.name} WHERE id > %s ORDER BY id LIMIT {count:d}"
        return [row[0] for row in self._select(sql, [after])]

    def latest_timestamp(self) -> Micros | None:
        """The latest `timestamp` of the rows inserted last: without an index, its maximum would read every row."""
        newest = f"SELECT timestamp FROM {self.spec.name} ORDER BY id DESC LIMIT {ROWS_PER_STATEMENT}"
        latest = self._select(f"SELECT max(timestamp) FROM ({newest}) AS newest")[0][0]
        return None if latest is None else to_micros(latest)

    def newest(self, limit: int) -> list[tuple[Micros, str]]:
        """`timestamp` and `status` of the rows inserted last."""
        sql = f"SELECT timestamp, status FROM {self.spec.name} ORDER BY id DESC LIMIT {limit:d}"
        return [(to_micros(moment), text(status)) for moment, status in self._select(sql)]

    def duplicates(self, limit: int = 100) -> list[Duplicate]:
        """Identities that stand more than once, grouped in the database: first those with an identifier."""
        table, key = self.spec.name, self._exact("task_identifier")
        named = self._select(
            f"SELECT {key} FROM {table} WHERE {NAMED} GROUP BY {key}"
            f" HAVING count(*) > 1 ORDER BY min(id) LIMIT {limit:d}"
        )
        found: list[Identity] = [text(row[0]) for row in named]
        parts = ("device_id", *(self._exact(name) for name in ("task_id", "status", "log")), "timestamp")
        columns = ", ".join(parts)
        unnamed = self._select(
            f"SELECT {columns} FROM {table} WHERE {UNNAMED} GROUP BY {columns}"
            f" HAVING count(*) > 1 ORDER BY min(id) LIMIT {limit - len(found):d}"
        )
        for device_id, task_id, status, log, timestamp in unnamed:
            found.append((device_id, text(task_id), to_micros(timestamp), text(status), text(log)))
        rows = self.find([self.spec.probe(each) for each in found])
        return [
            Duplicate(each, [row.id for row in standing])
            for each, standing in zip(found, rows, strict=True)
            if standing
        ]

    def overwrite(self, row: Existing, record: Record) -> bool:
        """Replace a row that is as it was seen, but for its id. -> whether it now says what the record says"""
        columns = ", ".join(f"{name} = %s" for name in self.spec.columns)
        values = [self._stored(name, value) for name, value in zip(self.spec.columns, record, strict=True)]
        sql = f"UPDATE {self.spec.name} SET {columns} WHERE id = %s AND device_id = %s AND status = %s"
        self._change(sql, [[*values, row.id, row.device_id, row.status]])
        there = self.fetch([row.id]).get(row.id, {})
        return (there.get("device_id"), there.get("status")) == (record.device_id, record.status)

    def remove(self, ids: Sequence[int]) -> None:
        """Delete rows by their ids, in one transaction."""
        self._change(f"DELETE FROM {self.spec.name} WHERE id = %s", [[each] for each in ids])

    def surplus(self) -> int:
        """Rows beyond one for each identity."""
        table, key = self.spec.name, self._exact("task_identifier")
        parts = ", ".join(["device_id", *(self._exact(name) for name in ("task_id", "status", "log")), "timestamp"])
        total = 0
        for where, columns in ((NAMED, key), (UNNAMED, parts)):
            groups = f"SELECT count(*) - 1 AS n FROM {table} WHERE {where} GROUP BY {columns} HAVING count(*) > 1"
            total += int(self._select(f"SELECT coalesce(sum(n), 0) FROM ({groups}) AS g")[0][0])
        return total

    def create_index(self) -> IndexAnswer:
        """Create the unique partial index on `task_identifier`, unless duplicates stand in its way."""
        name = self.spec.index_name
        self.check(writing=False)
        if self.unique_index:
            return IndexAnswer(name, False, [])
        if obstacle := self.index_obstacle():
            raise DvctlError(f"{self.where}: {obstacle}", hint=INDEX_HINT)
        in_the_way = self._named_duplicates()
        if not in_the_way:
            try:
                self._create_index(name)
            except RecordRejected:  # a duplicate came meanwhile
                in_the_way = self._named_duplicates()
            self.check(writing=False)
        return IndexAnswer(name, self.unique_index, in_the_way)

    def index_obstacle(self) -> str:
        """Why the unique index cannot be created, or nothing; known after `check()`."""
        if self._no_index or self.equating_index in ("", self.spec.index_name):
            return self._no_index
        return f"the unique index {self.equating_index} takes different identifiers for equal; drop it first"

    def _named_duplicates(self) -> list[Duplicate]:
        return [each for each in self.duplicates() if isinstance(each.identity, str)]

    def create_tables(self) -> None:
        """DeviceVault's four tables as its Django creates them, for tests and demonstrations. Refuses existing ones."""
        from devicevault_cli.repository.schema import TABLE_NAMES, statements

        there = self._existing_tables() & set(TABLE_NAMES)
        if there:
            hint = "`db init` is for an empty database; DeviceVault's migrations own the tables of a real one"
            raise DvctlError(f"{self.where} has tables already: {', '.join(sorted(there))}", hint=hint)
        self._execute(statements(self.dialect))

    def add_devices(self, count: int) -> None:
        """Devices 1 to `count`, in the tables that `create_tables` makes."""
        for page in paged(range(1, count + 1)):
            values = ", ".join(f"({n}, 'device-{n}', '192.0.2.{n % 256}', true)" for n in page)
            self._execute([f"INSERT INTO {DEVICES} (id, name, ip_address, enabled) VALUES {values}"])

    def _ready(self) -> None:
        """Connect, and learn which character sets the columns have."""

    @abstractmethod
    def _select(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """Rows of a reading statement, its parameters written as %s."""

    @abstractmethod
    def _execute(self, statements: Sequence[str]) -> None:
        """Run statements in one transaction, as far as the database has transactions for them."""

    @abstractmethod
    def _change(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run a changing statement for each row of values, all in one transaction."""

    @abstractmethod
    def _stored(self, column: str, value: Any) -> Value:
        """A record's value as the driver takes it."""

    @abstractmethod
    def _existing_tables(self) -> set[str]:
        """The names of the tables there are."""

    @abstractmethod
    def _create_index(self, name: str) -> None:
        """Create the unique index."""

    def _exact(self, column: str) -> str:
        """An expression for a text column that compares it byte for byte."""
        return column


def open_repository(url: str, spec: TableSpec, *, create: bool = False, application_name: str = "dvctl") -> Repository:
    """The repository behind a URL, not connected yet. `create`: an SQLite file may be created. Raises BadConfig."""
    parsed = parse_url(url)
    if parsed.dialect == "postgresql":
        from devicevault_cli.repository.postgres import PostgresRepository

        return PostgresRepository(parsed, spec, application_name)
    if parsed.dialect == "mysql":
        from devicevault_cli.repository.mysql import MysqlRepository

        return MysqlRepository(parsed, spec)
    from devicevault_cli.repository.sqlite import SqliteRepository

    return SqliteRepository(parsed, spec, create=create)
