"""The statements of the fast way to save on PostgreSQL, as texts: one transaction, one statement for each part."""

from __future__ import annotations

from functools import cache
from typing import TypeAlias
from zlib import crc32

from devicevault_cli.repository.tables import DEVICES, RESULTS, TableSpec

Loose: TypeAlias = frozenset[tuple[str, str, str]]
"""Columns that take different texts for equal, by a nondeterministic collation or their type: (table, column, type).

In these a look-up by the column's index is followed by a comparison byte for byte.
"""
EXACT: Loose = frozenset()
COLLATABLE = ("text", "character varying")

LOCK_MS, STATEMENT_MS = 10_000, 60_000
SCAN_MS = 900_000
"""For statements that read the whole table: counting, grouping."""

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""A statement after the lock sees what was committed before the lock was had; under REPEATABLE READ it would not."""

BEGIN_READING = "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY"

# Whatever the size of the table and whatever the statistics say, looking an identity up has to be an index scan:
# a batch beside a small or never analyzed table would otherwise read the whole of it.
BY_INDEX = ("seqscan", "bitmapscan", "hashjoin", "mergejoin")


def settings(idle_ms: int, *, lock: int | None) -> str:
    """Sets up the transaction, for PgBouncer within it, and then waits for the lock (`lock`: its key).

    `idle_ms`: how long the server waits for the client, the lock in hand.
    """
    values = {f"enable_{way}": "off" for way in BY_INDEX} | {"jit": "off"}
    # Else the planner copies the arrays, megabytes of logs, several times over.
    values["plan_cache_mode"] = "force_generic_plan"
    values |= {"lock_timeout": str(LOCK_MS), "statement_timeout": str(STATEMENT_MS)}
    values["idle_in_transaction_session_timeout"] = str(idle_ms)
    parts = [f"set_config('{name}', '{value}', true)" for name, value in values.items()]
    if lock is not None:
        parts.append(f"pg_advisory_xact_lock({lock})")
    return f"SELECT {', '.join(parts)}"


@cache
def lock_key(spec: TableSpec) -> int:
    """The key of the table's advisory lock: one for the table, since locks for identities would fill the lock table
    that all databases of the cluster share."""
    return (crc32(b"dvctl") << 31) | (crc32(spec.name.encode()) >> 1)


@cache
def insert_new(spec: TableSpec, *, named: bool, unique_index: bool, loose: Loose = EXACT) -> str:
    """Inserts the records whose identity has no row yet and whose device exists.

    Parameters: an array for each column of the record. Rows of the answer: the identities inserted. They are looked up
    with the unique index too: a conflict would use up a value of the sequence, which may end at 2,147,483,647.
    """
    there = _named_is_there(spec.name, loose) if named else _unnamed_is_there(spec.name, loose)
    columns = ", ".join(spec.columns)
    insert = f"""INSERT INTO {spec.name} ({columns})
SELECT {columns} FROM unnest({", ".join(f"${n}" for n in range(1, len(spec.columns) + 1))}) AS r ({columns})
WHERE NOT {there} AND (SELECT d.id FROM {DEVICES} AS d WHERE d.id = r.device_id) IS NOT NULL
{_on_conflict(exactly(spec.name, "task_identifier", loose)) if named and unique_index else ""}"""
    if named and spec.name != RESULTS.name:
        return f"""WITH inserted AS (
{insert} RETURNING {_plainly("task_identifier")}, {_plainly("status")}, timestamp
), {_timed(loose)} SELECT task_identifier FROM inserted"""
    return f"{insert} RETURNING {'task_identifier' if named else _IDENTITY}"


_IDENTITY = "device_id, task_id, (extract(epoch FROM timestamp) * 1000000)::bigint, status, log"


def exactly(table: str, column: str, loose: Loose) -> str:
    """An expression that compares the column byte for byte; the column itself where it does so already."""
    kind = loose_type(table, column, loose)
    if kind is None:
        return column
    return f'{column} COLLATE "C"' if kind in COLLATABLE else f'{column}::text COLLATE "C"'


def loose_type(table: str, column: str, loose: Loose) -> str | None:
    """The type of a column that takes different texts for equal; None: it does not."""
    return next((kind for owner, name, kind in loose if (owner, name) == (table, column)), None)


def _same(table: str, column: str, loose: Loose) -> str:
    """Whether the column of the row `e` has exactly the value of the record `r`."""
    exact = exactly(table, column, loose)
    return f"e.{column} = r.{column}" if exact == column else f'e.{exact} = r.{column} COLLATE "C"'


def _found(table: str, column: str, loose: Loose) -> str:
    """The same, by the index of the column."""
    same, kind = _same(table, column, loose), loose_type(table, column, loose)
    return same if kind is None else f"e.{column} = r.{column}::{kind} AND {same}"


def _plainly(column: str) -> str:
    """A returned column that brings no collation of its own into the comparison with another table's."""
    return f'{column}::text COLLATE "default" AS {column}'


def _on_conflict(key: str) -> str:
    return f"ON CONFLICT ({key}) WHERE {key} <> '' DO NOTHING"


# OFFSET 0 keeps the planner from making a join of it, whose order it would choose by statistics.
def _named_is_there(table: str, loose: Loose) -> str:
    return f"EXISTS (SELECT FROM {table} AS e WHERE {_found(table, 'task_identifier', loose)} OFFSET 0)"


def _unnamed_is_there(table: str, loose: Loose) -> str:
    """Rows without an identifier may be millions, with one device many: so by task_id, where there is one.

    `+ 0` and `length()` keep the other indexes out of it.
    """
    same = f"""e.timestamp = r.timestamp AND {_same(table, "status", loose)}
            AND {_same(table, "log", loose)} AND length(e.task_identifier) = 0"""
    return f"""CASE WHEN r.task_id <> '' THEN
            EXISTS (SELECT FROM {table} AS e WHERE {_found(table, "task_id", loose)} AND e.device_id + 0 = r.device_id
            AND {same} OFFSET 0)
        ELSE
            EXISTS (SELECT FROM {table} AS e WHERE e.device_id = r.device_id AND length(e.task_id) = 0
            AND {same} OFFSET 0)
        END"""


_SPAN = "floor(extract(epoch FROM ended.timestamp - t.initiated_at) * 1000)"


def _timed(loose: Loose) -> str:
    """The time from the start of a collection to its storage, in the row of that collection."""
    same = _found(RESULTS.name, "task_identifier", loose)
    # min(id + 0), not min(id) nor ORDER BY id LIMIT 1: for those the planner may walk the primary key from its start.
    first_row = f"(SELECT min(e.id + 0) FROM {RESULTS.name} AS e WHERE {same})"
    return f"""timed AS (
    UPDATE {RESULTS.name} AS t SET overall_duration_ms = {_SPAN}
    FROM (
        SELECT r.timestamp, {first_row} AS id FROM inserted AS r WHERE r.status = 'success'
    ) AS ended
    WHERE t.id = ended.id AND {_SPAN} BETWEEN 0 AND 2147483647
)"""


@cache
def find_named(table: str, loose: Loose = EXACT) -> str:
    """Parameter: an array of identifiers. Rows: ordinal from 1, id, device_id, status."""
    return f"""
SELECT r.n, e.id, e.device_id, e.status
FROM unnest($1) WITH ORDINALITY AS r (task_identifier, n) JOIN {table} AS e ON {_found(table, "task_identifier", loose)}
ORDER BY e.id"""


@cache
def find_unnamed(table: str, loose: Loose = EXACT) -> str:
    """Parameters: arrays of device ids, task ids, timestamps, statuses, logs. Rows as above."""
    columns = "device_id, task_id, timestamp, status, log"
    same = f"{_same(table, 'status', loose)} AND {_same(table, 'log', loose)}"
    picked = f"""SELECT e.id, e.device_id, e.status FROM {table} AS e
        WHERE {{index}} AND e.timestamp = r.timestamp AND {same}
        AND length(e.task_identifier) = 0"""
    by_task = f"r.task_id <> '' AND {_found(table, 'task_id', loose)} AND e.device_id + 0 = r.device_id"
    by_device = "r.task_id = '' AND e.device_id = r.device_id AND length(e.task_id) = 0"
    return f"""
SELECT r.n, e.id, e.device_id, e.status
FROM unnest($1, $2, $3, $4, $5) WITH ORDINALITY AS r ({columns}, n) CROSS JOIN LATERAL (
    {picked.format(index=by_task)}
    UNION ALL
    {picked.format(index=by_device)}
) AS e
ORDER BY e.id"""
