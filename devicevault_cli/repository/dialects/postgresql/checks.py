"""What dvctl asks PostgreSQL about its tables, its rights and its unique index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import psycopg

from devicevault_cli.errors import Refused
from devicevault_cli.repository.dialects.postgresql.statements import Loose, exactly, load
from devicevault_cli.repository.errors import from_sqlstate
from devicevault_cli.repository.tables import DEVICES, RESULTS, TableSpec

_SQL = load("catalog.sql")


def columns(connection: psycopg.Connection, tables: Iterable[str]) -> dict[str, dict[str, str]]:
    """The tables that the search path finds: {table: {column: name of its type}}."""
    there: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(_SQL["columns"], [list(tables)]):
        there.setdefault(table, {})[column] = kind
    return there


_COMPARED = ("task_identifier", "task_id", "status", "log")


def loose_columns(connection: psycopg.Connection, tables: Iterable[str]) -> Loose:
    """The text columns that take different texts for equal: nondeterministic collations, types such as citext."""
    return frozenset(connection.execute(_SQL["loose_columns"], [list(tables), list(_COMPARED)]).fetchall())


def unique_index(connection: psycopg.Connection, spec: TableSpec, loose: Loose) -> tuple[bool, str]:
    """Whether INSERT ... ON CONFLICT finds a valid unique index on `task_identifier`, one byte for byte; and the name
    of a unique index that takes different identifiers for equal, where there is one: it would swallow rows."""
    is_loose = exactly(spec.name, "task_identifier", loose) != "task_identifier"
    found = connection.execute(_SQL["unique_indexes"], [is_loose, spec.name]).fetchall()
    equating = next((name for name, exact, _ in found if not exact), "")
    return not equating and any(inferred for _, _, inferred in found), equating


def create_unique_index(connection: psycopg.Connection, name: str, spec: TableSpec, key: str) -> None:
    """Beside running writers; a leftover that is invalid is dropped, also the one of this very attempt."""
    try:
        connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        connection.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {spec.name} ({key}) WHERE {key} <> ''")
    except psycopg.errors.UniqueViolation:
        connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        raise


def require_writable(connection: psycopg.Connection, where: str) -> None:
    """Raises Unavailable on a standby and where transactions are read-only."""
    row = connection.execute("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool").fetchone()
    if row == (True,):
        raise from_sqlstate("25006", "", where)


def require_rights(connection: psycopg.Connection, where: str, spec: TableSpec) -> None:
    """Raises Refused that names the first right missing, and the statement that grants it."""
    wanted = [("SELECT", spec.name), ("INSERT", spec.name), ("SELECT", DEVICES)]
    if spec.name != RESULTS.name:
        wanted += [("SELECT", RESULTS.name), ("UPDATE", RESULTS.name)]
    require(connection, where, wanted)
    for name, user in connection.execute(_SQL["unusable_sequences"], [spec.name]):
        raise _refused(where, "USAGE", f"SEQUENCE {name}", user)


def require(connection: psycopg.Connection, where: str, wanted: Sequence[tuple[str, str]]) -> None:
    """Raises Refused for the first of these (right, table) that is missing."""
    rights, names = zip(*wanted, strict=True)
    for right, name, user in connection.execute(_SQL["missing_rights"], [list(rights), list(names)]):
        raise _refused(where, right, name, user)


def _refused(where: str, right: str, name: str, user: str) -> Refused:
    hint = f"as its owner: GRANT {right} ON {name} TO {user};"
    return Refused(f"{where}: {user} lacks {right} on {name}", hint=hint)
