"""DeviceVault's four tables as its Django declares them, and the types that read and write their values.

`db init` creates them in an empty database, for tests and demonstrations; a real database belongs to its migrations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine, UserDefinedType

from devicevault_cli.records import Micros

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
_MICROSECOND = timedelta(microseconds=1)


def to_text(instant: Micros) -> str:
    """`YYYY-MM-DD HH:MM:SS[.ffffff]` in UTC, as Django writes it on SQLite; a fraction of zero is left out."""
    return (_EPOCH + timedelta(0, 0, instant)).isoformat(" ")


def to_texts(instants: Sequence[Micros | None]) -> list[str | None]:
    """`to_text` of each; a second is formatted once, which takes half the time."""
    seconds = _Seconds()
    return [
        None
        if instant is None
        else f"{seconds[instant // 1_000_000]}.{fraction:06d}"
        if (fraction := instant % 1_000_000)
        else seconds[instant // 1_000_000]
        for instant in instants
    ]


class _Seconds(dict[int, str]):
    """The text of each second asked for."""

    def __missing__(self, second: int) -> str:
        text = self[second] = to_text(second * 1_000_000)
        return text


def to_micros(stored: str | datetime) -> Micros:
    """The instant that a database returned: text (SQLite), naive UTC (MySQL) or with an offset (PostgreSQL)."""
    moment = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
    offset = moment.utcoffset() or timedelta()
    return (moment.replace(tzinfo=None) - _EPOCH - offset) // _MICROSECOND


def to_str(value: str | bytes) -> str:
    """Text that a database returned; binary columns and comparisons of MySQL return bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


class _Spelled(UserDefinedType[Any]):
    """A type of one database, spelled as Django spells it, whose values are passed to the driver as they are.

    SQLAlchemy's own would have every command import all three of its dialects.
    """

    cache_ok = True

    def __init__(self, spelling: str) -> None:
        self.spelling = spelling

    def get_col_spec(self, **_: Any) -> str:
        return self.spelling


class Instant(TypeDecorator[Micros]):
    """A time in UTC: Micros in Python, stored as Django stores it."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return _Spelled("datetime")
        return _Spelled("datetime(6)") if dialect.name == "mysql" else DateTime(timezone=True)

    def process_bind_param(self, value: Micros | None, dialect: Dialect) -> str | None:
        text = None if value is None else to_text(value)
        return f"{text}+00" if text is not None and dialect.name == "postgresql" else text

    def process_result_value(self, value: Any, dialect: Dialect) -> Micros | None:
        return None if value is None else to_micros(value)


class Words(TypeDecorator[str]):
    """Text; also from bytes, which binary columns and comparisons byte for byte return on MySQL."""

    impl = Text
    cache_ok = True

    def __init__(self, length: int | None = None) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if self.length is not None:
            return _Spelled(f"varchar({self.length})") if dialect.name == "sqlite" else String(self.length)
        return _Spelled("longtext") if dialect.name == "mysql" else Text()

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else to_str(value)


class Number(BigInteger):
    """An integer column. Some installations have eight bytes where Django declares four, so values are sent as such."""


@compiles(Number)
def _declared_integer(*_: Any, **__: Any) -> str:
    return "INTEGER"


@compiles(ForeignKeyConstraint, "mysql")
def _never_deferred(constraint: Any, compiler: Any, **given: Any) -> str:
    """MySQL refuses DEFERRABLE."""
    undeferred = copy(constraint)
    undeferred.deferrable = undeferred.initially = None
    text: str = compiler.visit_foreign_key_constraint(undeferred, **given)
    return text


METADATA = MetaData()


def _table(name: str, *items: SchemaItem) -> Table:
    key = Column("id", Number, Identity(always=False), primary_key=True)
    return Table(name, METADATA, key, *items, sqlite_autoincrement=True)


def _reference(name: str, target: str, *, nullable: bool = False) -> Column[int]:
    foreign = ForeignKey(target, deferrable=True, initially="DEFERRED")
    return Column(name, Number, foreign, nullable=nullable)


def _message_columns() -> Iterator[Column[Any]]:
    yield Column("task_id", Words(64), nullable=False)
    yield Column("task_identifier", Words(128), nullable=False)
    yield _reference("device_id", "devices_device.id")
    yield Column("status", Words(16), nullable=False)
    yield Column("timestamp", Instant, nullable=False)
    yield Column("log", Words, nullable=False)


_JSON = _Spelled("json").with_variant(_Spelled("jsonb"), "postgresql").with_variant(Text(), "sqlite")

locations = _table(
    "locations_backuplocation",
    Column("name", Words(128), nullable=False),
    Column("location_type", Words(64), nullable=False),
    Column("config", _JSON, nullable=False),
    CheckConstraint('(JSON_VALID("config") OR "config" IS NULL)').ddl_if(dialect="sqlite"),
)
devices = _table(
    "devices_device",
    Column("name", Words(128), nullable=False),
    Column("ip_address", Words(64), nullable=False),
    Column("enabled", Boolean, nullable=False),
    _reference("backup_location_id", "locations_backuplocation.id", nullable=True),
)
results = _table(
    "devices_devicebackupresult",
    *_message_columns(),
    Column("initiated_at", Instant),
    Column("collection_duration_ms", Number),
    Column("overall_duration_ms", Number),
)
stored_backups = _table(
    "backups_storedbackup",
    *_message_columns(),
    Column("storage_backend", Words(32), nullable=False),
    Column("storage_ref", Words(256), nullable=False),
    Column("storage_duration_ms", Number),
)

_DIGESTS = {
    devices.c.backup_location_id: "2c5b0678",
    results.c.task_id: "35fe8fa8",
    results.c.task_identifier: "79509fe4",
    results.c.device_id: "e5e8c8f6",
    stored_backups.c.task_id: "a6f150fc",
    stored_backups.c.task_identifier: "d20f595c",
    stored_backups.c.device_id: "5e79139f",
}
"""What Django appends to the names of its indexes."""

for _column, _digest in _DIGESTS.items():
    _name = f"{_column.table.name}_{_column.name}_{_digest}"
    if _column.foreign_keys:  # InnoDB brings its own
        Index(_name, _column).ddl_if(callable_=lambda *_, dialect, **__: dialect.name != "mysql")
    else:
        Index(_name, _column)
        Index(f"{_name}_like", _column, postgresql_ops={_column.name: "varchar_pattern_ops"}).ddl_if(
            dialect="postgresql"
        )
