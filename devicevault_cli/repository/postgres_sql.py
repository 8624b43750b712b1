"""The statements of the fast way to save on PostgreSQL, as texts: one transaction, one statement for each wave."""

from __future__ import annotations

from functools import cache
from zlib import crc32

from devicevault_cli.repository.tables import DEVICES, RESULTS, TableSpec

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""A statement after the lock sees what was committed before the lock was had; under REPEATABLE READ it would not."""

BEGIN_READING = "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY"

# Whatever the size of the table and whatever the statistics say, looking an identity up has to be an index scan:
# a batch beside a small or never analyzed table would otherwise read the whole of it.
BY_INDEX = ("seqscan", "bitmapscan", "hashjoin", "mergejoin")


def settings(lock_ms: int, statement_ms: int, idle_ms: int, *, lock: int | None) -> str:
    """Sets up the transaction, for PgBouncer within it, and then waits for the lock (`lock`: its key)."""
    values = {f"enable_{way}": "off" for way in BY_INDEX} | {"jit": "off"}
    # Else the planner copies the arrays, megabytes of logs, several times over.
    values["plan_cache_mode"] = "force_generic_plan"
    values |= {"lock_timeout": str(lock_ms), "statement_timeout": str(statement_ms)}
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
def save_wave(spec: TableSpec, *, named: bool, unique_index: bool) -> str:
    """Inserts the records whose identity has no row yet and whose device exists.

    Parameters: an array for each column of the record. Rows of the answer: the identities inserted. They are looked up
    with the unique index too: a conflict would use up a value of the sequence, which may end at 2,147,483,647.
    """
    there = _named_is_there(spec.name) if named else _unnamed_is_there(spec.name)
    columns = ", ".join(spec.columns)
    insert = f"""INSERT INTO {spec.name} ({columns})
SELECT {columns} FROM unnest({", ".join(f"${n}" for n in range(1, len(spec.columns) + 1))}) AS r ({columns})
WHERE NOT {there} AND (SELECT d.id FROM {DEVICES} AS d WHERE d.id = r.device_id) IS NOT NULL
{_ON_CONFLICT if named and unique_index else ""}"""
    if named and spec.name != RESULTS.name:
        return f"""WITH inserted AS (
{insert} RETURNING task_identifier, status, timestamp
), {_TIMED} SELECT task_identifier FROM inserted"""
    return f"{insert} RETURNING {'task_identifier' if named else _IDENTITY}"


_IDENTITY = "device_id, task_id, (extract(epoch FROM timestamp) * 1000000)::bigint, status, log"

_ON_CONFLICT = "ON CONFLICT (task_identifier) WHERE task_identifier <> '' DO NOTHING"


# OFFSET 0 keeps the planner from making a join of it, whose order it would choose by statistics.
def _named_is_there(table: str) -> str:
    return f"EXISTS (SELECT FROM {table} AS e WHERE e.task_identifier = r.task_identifier OFFSET 0)"


def _unnamed_is_there(table: str) -> str:
    """Rows without an identifier may be millions, with one device many: so by task_id, where there is one.

    `+ 0` and `length()` keep the other indexes out of it.
    """
    same = """e.timestamp = r.timestamp AND e.status = r.status
            AND e.log = r.log AND length(e.task_identifier) = 0"""
    return f"""CASE WHEN r.task_id <> '' THEN
            EXISTS (SELECT FROM {table} AS e WHERE e.task_id = r.task_id AND e.device_id + 0 = r.device_id
            AND {same} OFFSET 0)
        ELSE
            EXISTS (SELECT FROM {table} AS e WHERE e.device_id = r.device_id AND length(e.task_id) = 0
            AND {same} OFFSET 0)
        END"""


_SPAN = "floor(extract(epoch FROM ended.timestamp - t.initiated_at) * 1000)"

# min(id + 0), not min(id) nor ORDER BY id LIMIT 1: for those the planner may walk the primary key from its start.
_FIRST_ROW = f"(SELECT min(e.id + 0) FROM {RESULTS.name} AS e WHERE e.task_identifier = r.task_identifier)"

# The time from the start of a collection to its storage, in the row of that collection.
_TIMED = f"""timed AS (
    UPDATE {RESULTS.name} AS t SET overall_duration_ms = {_SPAN}
    FROM (
        SELECT r.timestamp, {_FIRST_ROW} AS id FROM inserted AS r WHERE r.status = 'success'
    ) AS ended
    WHERE t.id = ended.id AND {_SPAN} BETWEEN 0 AND 2147483647
)"""


def find_named(table: str) -> str:
    """Parameter: an array of identifiers. Rows: ordinal from 1, id, device_id, status."""
    return f"""
SELECT r.n, e.id, e.device_id, e.status
FROM unnest($1) WITH ORDINALITY AS r (task_identifier, n) JOIN {table} AS e USING (task_identifier)
ORDER BY e.id"""


def find_unnamed(table: str) -> str:
    """Parameters: arrays of device ids, task ids, timestamps, statuses, logs. Rows as above."""
    columns = "device_id, task_id, timestamp, status, log"
    picked = """SELECT e.id, e.device_id, e.status FROM {table} AS e
        WHERE {index} AND e.timestamp = r.timestamp AND e.status = r.status AND e.log = r.log
        AND length(e.task_identifier) = 0"""
    by_task = "r.task_id <> '' AND e.task_id = r.task_id AND e.device_id + 0 = r.device_id"
    by_device = "r.task_id = '' AND e.device_id = r.device_id AND length(e.task_id) = 0"
    return f"""
SELECT r.n, e.id, e.device_id, e.status
FROM unnest($1, $2, $3, $4, $5) WITH ORDINALITY AS r ({columns}, n) CROSS JOIN LATERAL (
    {picked.format(table=table, index=by_task)}
    UNION ALL
    {picked.format(table=table, index=by_device)}
) AS e
ORDER BY e.id"""
