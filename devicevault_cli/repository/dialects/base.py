"""What every database has to answer, each in its own way."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from sqlalchemy import Column, ColumnElement, Connection, Insert, Select, Update, bindparam, insert, inspect, select
from sqlalchemy.exc import NoSuchTableError, SAWarning

from devicevault_cli.errors import RecordRejected, SchemaMismatch, TableAtFault
from devicevault_cli.paging import paged
from devicevault_cli.records import INT4_MAX, INT8_MAX, Record
from devicevault_cli.repository import repertoire, schema
from devicevault_cli.repository.engine import Session
from devicevault_cli.repository.faults import Fault
from devicevault_cli.repository.model import CompletedSave, PendingSave, Saved, Server, Standbys
from devicevault_cli.repository.tables import DEVICES, RESULTS, TableSpec
from devicevault_cli.repository.url import DatabaseUrl

_KNOWN_DEVICES = select(schema.devices.c.id).where(schema.devices.c.id.in_(bindparam("ids", expanding=True)))


@dataclass(slots=True)
class Facts:
    """What `check()` learned about the table."""

    device_id_max: int = INT4_MAX
    """Maximum of the actual type of the `device_id` column."""
    unique_index: bool = False
    """A valid unique index on `task_identifier` exists."""
    equating_index: str = ""
    """A unique index that treats different identifiers as equal (by case, accents)."""
    no_index: str = ""
    """Why no unique index is possible; empty where it is."""
    writers: str = ""
    """What lets several servers write the table, in words: then only the unique index prevents duplicate rows."""


class Dialect(Session):
    """One table of one database, reached through one connection."""

    name: ClassVar[str]
    begin_reading: ClassVar[str] = "BEGIN"
    begin_writing: ClassVar[str] = "BEGIN"
    insert_with_id: ClassVar[type[Insert]] = Insert
    unencodable: ClassVar[str] = ""
    """The error code of text that the column's character set lacks."""
    leaves_outages_to_first_batch: ClassVar[bool] = False
    """Whether `check()` passes although a lock or a full disk kept the probe from an answer."""
    index_hint: ClassVar[str] = "none is needed: without it a lock around each batch prevents duplicate rows"
    """What to do where no unique index is possible."""

    def __init__(self, url: DatabaseUrl, spec: TableSpec, driver: str, **options: Any) -> None:
        super().__init__(driver, **options)
        self.url = url
        self.spec = spec
        self.where = url.shown
        self.table = schema.METADATA.tables[spec.name]
        self.facts = Facts()
        self.repertoires: repertoire.Repertoires = {}
        self.required: Server | None = None
        """The server that alone may be written to; None: any."""

    def open(self) -> None:
        """Connect, and learn which character sets the columns have; a pending transaction stays pending."""
        with self.translated():
            Session.connection(self)

    def server(self) -> Server | None:
        """Which server answers now; None where it does not identify itself."""
        return None

    def standbys(self) -> Standbys | None:
        """What the server says of synchronous standbys; None where none are asked for."""
        return None

    def may_fail_over(self) -> bool:
        """Whether another server may take the place of this one, and lack its last commits."""
        return False

    # --- transactions

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that changes nothing."""
        return self.transaction(self.begin_reading)

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction beside other writers."""
        return self.transaction(self.begin_writing)

    def trial(self) -> AbstractContextManager[Connection]:
        """A transaction that is rolled back at its end."""
        return self.transaction(self.begin_writing, undo=True)

    def statement_text(self, statement: Insert | Update | Select[Any], columns: Sequence[str] | None = None) -> str:
        """A statement compiled for the driver's cursor; one that writes has a parameter for each of the columns."""
        return str(statement.compile(self._engine, column_keys=columns))

    # --- the table

    @abstractmethod
    def inspect(self) -> None:
        """Compare the columns with those that are needed, and learn the `facts`. Raises SchemaMismatch."""

    def require_writable(self) -> None:
        """Raises Unavailable on a replica, Refused for a missing right."""

    def require_right(self, right: str) -> None:
        """Raises Refused where the user lacks a right (`UPDATE`, `DELETE`) on the table."""

    def row_security(self) -> list[str]:
        """What row-level security forbids, in sentences."""
        return []

    @abstractmethod
    def exact(self, column: Column[Any]) -> ColumnElement[Any]:
        """An expression for a text column that compares it byte for byte."""

    @abstractmethod
    def create_unique_index(self, name: str) -> None:
        """Create the unique index on `task_identifier`. Raises RecordRejected where duplicates exist."""

    def index_effect(self, name: str) -> str:
        """What `create_unique_index` does, in a sentence; known after `inspect()`."""
        return f"creates the unique index {name}"

    def drop_index_statement(self, name: str) -> str:
        """The statement that undoes `create_unique_index`; known after `inspect()`."""
        return f"DROP INDEX {name}"

    def known_devices(self, ids: Iterable[int]) -> set[int]:
        with self.reading() as connection:
            return existing_devices(connection, ids)

    def needed_columns(self) -> dict[str, tuple[str, ...]]:
        """The columns that saving touches, by table."""
        needed = {self.spec.name: ("id", *self.spec.columns), DEVICES: ("id",)}
        if self.spec.name != RESULTS.name:
            needed[RESULTS.name] = (*("id", "task_identifier", "timestamp", "initiated_at", "overall_duration_ms"),)
        return needed

    def compare_columns(self) -> int:
        """Compare the columns with those needed. -> maximum of the type of `device_id`. Raises SchemaMismatch."""
        there: dict[str, dict[str, str]] = {}
        with self.translated(), warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # a type that SQLAlchemy does not know is of no interest here
            inspector = inspect(self.connection())
            for name in self.needed_columns():
                with suppress(NoSuchTableError):
                    columns = inspector.get_columns(name)
                    there[name] = {column["name"]: type(column["type"]).__name__.lower() for column in columns}
        self.require_columns(there)
        return INT8_MAX if there[self.spec.name]["device_id"] == "bigint" else INT4_MAX

    def require_columns(self, there: dict[str, dict[str, str]]) -> None:
        """Raises SchemaMismatch that names the first table or the columns missing."""
        for table, columns in self.needed_columns().items():
            if not there.get(table):
                hint = "check that this is DeviceVault's database, and migrated (`dvctl db init` makes test tables)"
                raise SchemaMismatch(f"{self.where} has no table {table}", hint=hint)
            if missing := ", ".join(column for column in columns if column not in there[table]):
                hint = "run DeviceVault's migrations; dvctl never alters its tables"
                raise SchemaMismatch(f"{self.where}: table {table} has no column {missing}", hint=hint)

    # --- is the table at fault?

    def known_faults(self) -> list[Fault]:
        """What the database's catalog shows to be wrong with the table."""
        return []

    def can_probe(self) -> bool:
        """Whether a probe row can be rolled back."""
        return True

    def concerns_value(self, error: RecordRejected) -> bool:
        """Whether an error is about the length or kind of a value."""
        return False

    def insert_probe(self, connection: Connection, record: Record, *, draw_id: bool) -> None:
        """Insert a record. `draw_id` False: under an id that the database does not draw, where that is possible."""
        row_id = None if draw_id else self.free_id()
        if row_id is None:
            connection.execute(insert(self.table), [record._asdict()])
        else:
            connection.execute(self.insert_with_id(self.table), [{"id": row_id} | record._asdict()])

    def free_id(self) -> int | None:
        """An id for the probe that uses none up; None: let the database draw one."""
        return None

    def check_deferred(self, connection: Connection) -> None:
        """Raises RecordRejected for a constraint that the row just inserted would violate at COMMIT."""

    def probe_fault(self, error: RecordRejected) -> TableAtFault | None:
        """What an error that the probe row met says about the table, beyond its text."""
        return None


class LockingDialect(Dialect):
    """A database on which a lock is held from the look-up to COMMIT, in steps of dvctl's."""

    @abstractmethod
    def locked(self) -> AbstractContextManager[Connection]:
        """A transaction that no other dvctl shares; committed at its end, rolled back on an error."""

    def save(self, work: Callable[[Connection], list[Saved]], count: int) -> PendingSave:
        """Save `count` records: `work` does it in a `locked` transaction, and says what became of each."""
        with self.locked() as connection:
            answers = work(connection)
        return CompletedSave(answers)

    def came_second(self, error: RecordRejected) -> bool:
        """Whether another writer, which does not share the lock, has just saved a record with the same identity."""
        return False

    def require_sendable(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Raises RecordRejected for a row that is too large for the driver to send."""


def existing_devices(connection: Connection, ids: Iterable[int]) -> set[int]:
    """Which of the device ids exist."""
    known: set[int] = set()
    for page in paged(sorted(set(ids))):
        known.update(connection.scalars(_KNOWN_DEVICES, {"ids": page}))
    return known
