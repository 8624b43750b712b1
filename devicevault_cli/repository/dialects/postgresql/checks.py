"""What dvctl asks PostgreSQL about its tables, its rights and its unique index."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import psycopg

from devicevault_cli.errors import Refused
from devicevault_cli.repository.dialects.postgresql.statements import Loose, exactly
from devicevault_cli.repository.errors import from_sqlstate
from devicevault_cli.repository.tables import DEVICES, RESULTS, TableSpec


def columns(connection: psycopg.Connection, tables: Iterable[str]) -> dict[str, dict[str, str]]:
    """The tables that the search path finds: {table: {column: name of its type}}."""
    there: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(_COLUMNS, [list(tables)]):
        there.setdefault(table, {})[column] = kind
    return there


_COMPARED = ("task_identifier", "task_id", "status", "log")


def loose_columns(connection: psycopg.Connection, tables: Iterable[str]) -> Loose:
    """The text columns that take different texts for equal: nondeterministic collations, types such as citext."""
    return frozenset(connection.execute(_LOOSE, [list(tables), list(_COMPARED)]).fetchall())


def unique_index(connection: psycopg.Connection, spec: TableSpec, loose: Loose) -> tuple[bool, str]:
    """Whether INSERT ... ON CONFLICT finds a valid unique index on `task_identifier`, one byte for byte; and the name
    of a unique index that takes different identifiers for equal, where there is one: it would swallow rows."""
    is_loose = exactly(spec.name, "task_identifier", loose) != "task_identifier"
    found = connection.execute(_UNIQUE_INDEXES, [is_loose, spec.name]).fetchall()
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

# Through to_jsonb, since PostgreSQL 11 has no such column.
_LOOSE = """
SELECT c.relname, a.attname, format_type(b.oid, NULL)
FROM unnest(%s::text[]) AS wanted (name)
JOIN pg_class AS c ON c.oid = to_regclass(quote_ident(wanted.name))
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = ANY(%s) AND NOT a.attisdropped
JOIN pg_type AS t ON t.oid = a.atttypid
JOIN pg_type AS b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
WHERE b.typcategory = 'S' AND b.typname NOT IN ('bpchar', 'name')
    AND (b.typname NOT IN ('text', 'varchar') OR to_jsonb(l) ->> 'collisdeterministic' = 'false')"""

_UNIQUE_INDEXES = """
SELECT found.name, found.exact, found.exact AND found.immediate AND CASE
    WHEN %s THEN found.collation = 'C' AND (found.predicate IS NULL OR found.predicate IN
        ('(((task_identifier)::text COLLATE "C") <> ''''::text)', '((task_identifier COLLATE "C") <> ''''::text)'))
    ELSE found.predicate IS NULL OR found.predicate IN
        ('((task_identifier)::text <> ''''::text)', '(task_identifier <> ''''::text)') END
FROM (
    SELECT c.relname AS name, i.indimmediate AS immediate, l.collname AS collation,
        b.typname IN ('text', 'varchar', 'bpchar')
            AND coalesce(to_jsonb(l) ->> 'collisdeterministic', 'true') = 'true' AS exact,
        pg_get_expr(i.indpred, i.indrelid) AS predicate
    FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = 'task_identifier'
    JOIN pg_type AS t ON t.oid = a.atttypid
    JOIN pg_type AS b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
    LEFT JOIN pg_collation AS l ON l.oid = i.indcollation[0]
    WHERE i.indrelid = to_regclass(quote_ident(%s)) AND i.indisunique AND i.indisvalid
        AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum AND i.indexprs IS NULL
) AS found"""

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
