"""What dvctl asks PostgreSQL about its tables, its rights and its unique index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import psycopg

from devicevault_cli.errors import Refused
from devicevault_cli.repository.failures import from_sqlstate
from devicevault_cli.repository.tables import DEVICES, RESULTS, TableSpec


def columns(connection: psycopg.Connection, tables: Iterable[str]) -> dict[str, dict[str, str]]:
    """The tables that the search path finds: {table: {column: name of its type}}."""
    there: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(_COLUMNS, [list(tables)]):
        there.setdefault(table, {})[column] = kind
    return there


def has_unique_index(connection: psycopg.Connection, spec: TableSpec) -> bool:
    """Whether INSERT ... ON CONFLICT (task_identifier) finds a valid index to rest on."""
    return connection.execute(_UNIQUE_INDEX, [spec.name]).fetchone() is not None


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
    for name, user in connection.execute(_SEQUENCE, [spec.name]):
        raise _refused(where, "USAGE", f"SEQUENCE {name}", user)


def require(connection: psycopg.Connection, where: str, wanted: Sequence[tuple[str, str]]) -> None:
    """Raises Refused for the first of these (right, table) that is missing."""
    rights, names = zip(*wanted, strict=True)
    for right, name, user in connection.execute(_MISSING, [list(rights), list(names)]):
        raise _refused(where, right, name, user)


def _refused(where: str, right: str, name: str, user: str) -> Refused:
    hint = f"as its owner: GRANT {right} ON {name} TO {user};"
    return Refused(f"{where}: {user} lacks {right} on {name}", hint=hint)


_COLUMNS = """
SELECT c.relname, a.attname, t.typname
FROM unnest(%s::text[]) AS wanted (name)
JOIN pg_class AS c ON c.oid = to_regclass(quote_ident(wanted.name))
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type AS t ON t.oid = a.atttypid"""

_UNIQUE_INDEX = """
SELECT 1
FROM pg_index AS i
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = 'task_identifier'
WHERE i.indrelid = to_regclass(quote_ident(%s)) AND i.indisunique AND i.indisvalid AND i.indimmediate
    AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum AND i.indexprs IS NULL
    AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) IN (
        '((task_identifier)::text <> ''''::text)', '(task_identifier <> ''''::text)'))"""

_MISSING = """
SELECT wanted.lacks, wanted.name, quote_ident(current_user)
FROM unnest(%s::text[], %s::text[]) AS wanted (lacks, name)
CROSS JOIN LATERAL (SELECT to_regclass(quote_ident(wanted.name)) AS id) AS t
WHERE NOT CASE wanted.lacks WHEN 'DELETE' THEN has_table_privilege(t.id, 'DELETE')
    ELSE has_any_column_privilege(t.id, wanted.lacks) END"""

# An identity column needs no right on its sequence; the default of a serial one does.
_SEQUENCE = """
SELECT s.name, quote_ident(current_user)
FROM pg_attribute AS a, pg_get_serial_sequence(a.attrelid::regclass::text, 'id') AS s (name)
WHERE a.attrelid = to_regclass(quote_ident(%s)) AND a.attname = 'id' AND a.attidentity = ''
    AND NOT has_sequence_privilege(s.name, 'USAGE')"""
