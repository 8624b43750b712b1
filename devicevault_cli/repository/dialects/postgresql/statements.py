"""The statements of the fast path, from statements.sql: one transaction, one statement for each part of a batch."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TypeAlias
from zlib import crc32

from devicevault_cli.repository.tables import RESULTS, TableSpec

LOCK_MS, STATEMENT_MS = 10_000, 60_000
SCAN_MS = 900_000
"""For statements that read the whole table: counting, grouping."""

Loose: TypeAlias = frozenset[tuple[str, str, str]]
"""Columns that treat different texts as equal, by a nondeterministic collation or their type: (table, column, type).

In these a look-up by the column's index is followed by a comparison byte for byte.
"""
EXACT: Loose = frozenset()
COLLATABLE = ("text", "character varying")

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""A statement after the lock sees what was committed before the lock was had; under REPEATABLE READ it would not."""
BEGIN_READING = "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY"

_IDENTITY = "device_id, task_id, (extract(epoch FROM timestamp) * 1000000)::bigint, status, log"


@cache
def load(file: str) -> dict[str, str]:
    """The statements of an SQL file of this folder, by name: each follows a line `-- name --` and its comment."""
    lines = Path(__file__).with_name(file).read_text(encoding="utf-8").splitlines()
    statements: dict[str, str] = {}
    name = ""
    for line in lines:
        if title := re.fullmatch(r"-- (\w+) --", line):
            name = title[1]
        elif name and line and not line.startswith("--"):
            statements[name] = f"{statements[name]}\n{line}" if name in statements else line
    return statements


def _statement(name: str, **parts: object) -> str:
    return load("statements.sql")[name].format(**parts)


def settings(idle_ms: int, *, lock: int | None, timeline: bool = False) -> str:
    """Sets up the transaction, and then waits for the lock (`lock`: its key).

    `idle_ms`: how long the server waits for the client, the lock in hand. `timeline`: the first column of the answer is
    the name of the file of the write-ahead log, which begins with the timeline.
    """
    text = _statement("settings", lock_ms=LOCK_MS, statement_ms=STATEMENT_MS, idle_ms=idle_ms)
    if timeline:
        text = text.replace("SELECT", "SELECT pg_walfile_name(pg_current_wal_lsn()),", 1)
    return text if lock is None else f"{text}, pg_advisory_xact_lock({lock})"


@cache
def lock_key(spec: TableSpec) -> int:
    """The key of the table's advisory lock: one for the table, since locks for identities would fill the lock table
    that all databases of the cluster share."""
    return (crc32(b"dvctl") << 31) | (crc32(spec.name.encode()) >> 1)


@cache
def insert_new(spec: TableSpec, *, named: bool, on_conflict: bool = False, index: int = 0, loose: Loose = EXACT) -> str:
    """Inserts the records whose identity has no row yet and whose device exists.

    Of records with an identifier: `on_conflict`: a row that the unique index refuses is left out; `index`: nothing is
    inserted unless the unique index with this OID is there.

    Parameters: an array for each column of the record. Rows of the answer: the identities inserted.
    """
    key = exactly(spec.name, "task_identifier", loose)
    is_stored = named and spec.name != RESULTS.name
    returned = "task_identifier" if named else _IDENTITY
    insert = _statement(
        "insert_new",
        table=spec.name,
        columns=", ".join(spec.columns),
        arrays=", ".join(f"unnest(${number}) AS {column}" for number, column in enumerate(spec.columns, 1)),
        exists=_statement("exists_named" if named else "exists_unnamed", **_comparisons(spec.name, loose)),
        on_conflict=f"ON CONFLICT ({key}) WHERE {key} <> '' DO NOTHING" if named and on_conflict else "",
        guarded=_statement("unique_index", index=index) if named and index else "",
        returned=_stored("") if is_stored else returned,
    )
    return _and_set_durations(insert, loose) if is_stored else insert


@cache
def replace_failed(spec: TableSpec, loose: Loose = EXACT) -> str:
    """Replaces failed rows by ids. Parameters and rows as in statements.sql; durations are set as by `insert_new`."""
    replace = _statement(
        "replace_failed",
        table=spec.name,
        columns=", ".join(spec.columns),
        assignments=", ".join(f"{column} = r.{column}" for column in spec.columns),
        arrays=_parameters(len(spec.columns) + 1),
        status=exactly(spec.name, "status", loose),
        returned=_stored("e."),
    )
    return _and_set_durations(replace, loose)


def _parameters(count: int) -> str:
    return ", ".join(f"${number}" for number in range(1, count + 1))


def _stored(row: str) -> str:
    """What `set_durations` needs of a written row, without a collation that its columns bring along: that may not get
    into the comparison with the other table's."""
    texts = (f'{row}{column}::text COLLATE "default" AS {column}' for column in ("task_identifier", "status"))
    return ", ".join((*texts, f"{row}timestamp"))


def _and_set_durations(write: str, loose: Loose) -> str:
    return _statement("set_durations", write=write, **_comparisons(RESULTS.name, loose))


@cache
def find(table: str, *, named: bool, loose: Loose = EXACT) -> str:
    """Looks up rows by identity; parameters and rows as in statements.sql."""
    return _statement("find_named" if named else "find_unnamed", **_comparisons(table, loose))


@cache
def find_unmatched(table: str, loose: Loose = EXACT) -> str:
    """Compares rows with records; parameters and rows as in statements.sql."""
    return _statement("find_unmatched", **_comparisons(table, loose))


def _comparisons(table: str, loose: Loose) -> dict[str, str]:
    """How a column of a row is compared with that of a record: exactly (`same_`), or by its index and exactly."""
    return {
        "table": table,
        "by_task_identifier": _by_index(table, "task_identifier", loose),
        "by_task_id": _by_index(table, "task_id", loose),
        "same_status": _same(table, "status", loose),
        "same_log": _same(table, "log", loose),
    }


def exactly(table: str, column: str, loose: Loose) -> str:
    """An expression that compares the column byte for byte; the column itself where it does so already."""
    kind = loose_type(table, column, loose)
    if kind is None:
        return column
    return f'{column} COLLATE "C"' if kind in COLLATABLE else f'{column}::text COLLATE "C"'


def loose_type(table: str, column: str, loose: Loose) -> str | None:
    """The type of a column that treats different texts as equal; None: it does not."""
    return next((kind for owner, name, kind in loose if (owner, name) == (table, column)), None)


def _same(table: str, column: str, loose: Loose) -> str:
    exact = exactly(table, column, loose)
    return f"e.{column} = r.{column}" if exact == column else f'e.{exact} = r.{column} COLLATE "C"'


def _by_index(table: str, column: str, loose: Loose) -> str:
    same, kind = _same(table, column, loose), loose_type(table, column, loose)
    return same if kind is None else f"e.{column} = r.{column}::{kind} AND {same}"
