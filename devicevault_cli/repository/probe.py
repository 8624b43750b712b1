"""Is the table at fault, or the message? A probe row that is rolled back tells.

An SQLSTATE alone does not tell: a CHECK may be violated by one bad message, or by every message since somebody added
the constraint. So a row of known values is inserted and rolled back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import func, insert, literal, select

from devicevault_cli.errors import LockConflict, RecordRejected, TableAtFault, Unavailable
from devicevault_cli.records import Record
from devicevault_cli.repository import schema
from devicevault_cli.repository.dialects.base import Dialect
from devicevault_cli.repository.faults import Fault, probe_record, swallowed
from devicevault_cli.times import now_ms

ATTEMPTS = 3
"""How often a probe row is tried beside another writer that has what it needs locked."""
_FOREIGN_KEY = frozenset({"23503", "1452", "19"})
_UNIQUE = frozenset({"23505", "1062", "19"})


def find_faults(dialect: Dialect) -> list[Fault]:
    """What is wrong with the table, the worst first; probes it. Raises Unavailable, Refused."""
    found = dialect.known_faults()
    refuses = any(fault.refuses for fault in found)
    if not refuses and dialect.can_probe() and (refused := _probe(dialect, draw_id=False)):
        found.append(Fault(refused))
    return sorted(found, key=lambda fault: not fault.refuses)


def require_rows_taken(dialect: Dialect, *, despite_outages: bool = False) -> None:
    """Raises TableAtFault where the table would refuse every row.

    `despite_outages`: a lock or a full disk that keeps the probe from an answer is left to the first batch.
    """
    try:
        found = find_faults(dialect)
    except Unavailable as error:
        if not despite_outages or isinstance(error, TableAtFault):
            raise
        return
    if found and found[0].refuses:
        raise found[0].error


def fault_behind(dialect: Dialect, error: RecordRejected, record: Record) -> TableAtFault | None:
    """See `Repository.fault_behind`."""
    if dialect.can_probe():
        return _probe(dialect, record.device_id)
    return None if dialect.concerns_value(error) else _refusal(dialect, error)


def _probe(dialect: Dialect, avoid: int = 0, *, draw_id: bool = True) -> TableAtFault | None:
    """Why the table refuses a probe row, of another device than `avoid` where there is one; None: it takes it."""
    device = _some_device(dialect, avoid)
    try:
        record = probe_record(dialect.spec, device or avoid or 1)
        there = _beside_writers(lambda: _try_row(dialect, record, draw_id=draw_id))
    except TableAtFault as fault:
        # With an id of its own the probe may have met another writer; with a drawn one it is certain.
        return fault if draw_id else _probe(dialect, avoid)
    except RecordRejected as error:
        no_device = device is None and error.sqlstate in _FOREIGN_KEY and not error.column
        if no_device and not error.constraint.startswith(("UNIQUE", "CHECK")):
            return None
        return None if _takes_copy(dialect, error) else _refusal(dialect, error)
    return None if there else swallowed(dialect.where, dialect.spec)


def _some_device(dialect: Dialect, avoid: int) -> int | None:
    """The id of a device, another one than `avoid` where there is one; None: there are no devices."""
    with dialect.reading() as connection:
        ids = connection.scalars(select(schema.devices.c.id).order_by(schema.devices.c.id).limit(2)).all()
    return next((device for device in ids if device != avoid), ids[0] if ids else None)


def _refusal(dialect: Dialect, error: RecordRejected) -> TableAtFault:
    """What to say of an error that the probe met. Its values are dvctl's own, so the database may be quoted."""
    table = dialect.spec.name
    subject = error.constraint or error.column or "the triggers and constraints"
    return dialect.probe_fault(error) or TableAtFault(
        f"{dialect.where}: {table} refuses every row, even a test row: {error.said or error} (error {error.sqlstate})",
        hint=f"look at {subject} of {table}; dvctl continues once the table takes rows again",
    )


def _takes_copy(dialect: Dialect, refused: RecordRejected) -> bool:
    """Whether the table takes a copy of its newest row: the probe's values may violate a rule that every real message
    keeps. A copy that is refused only because it is one counts as taken."""
    try:
        return _beside_writers(lambda: _try_copy(dialect))
    except TableAtFault:
        return False
    except RecordRejected as error:
        other = (error.sqlstate, error.constraint) != (refused.sqlstate, refused.constraint)
        return other and error.sqlstate in _UNIQUE and not error.column and not error.constraint.startswith("CHECK")


def _beside_writers(attempt: Callable[[], bool]) -> bool:
    """The result of an attempt that met no other writer. Raises LockConflict where the last one did too."""
    for _ in range(ATTEMPTS - 1):
        with suppress(LockConflict):
            return attempt()
    return attempt()


def _try_row(dialect: Dialect, record: Record, *, draw_id: bool) -> bool:
    """Insert a record and roll it back, with its deferred constraints checked. -> whether the row was there"""
    column = dialect.table.c.task_identifier
    with dialect.trial() as connection:
        dialect.insert_probe(connection, record, draw_id=draw_id)
        dialect.check_deferred(connection)
        found = connection.scalar(select(func.count()).where(column == record.task_identifier))
    return bool(found)


def _try_copy(dialect: Dialect) -> bool:
    """Insert the newest row once more, as of now and without its log, and roll it back. -> whether there was one"""
    table, columns = dialect.table, dialect.spec.columns
    replaced = {"timestamp": literal(now_ms() * 1000, schema.Instant), "log": literal("[]", schema.Words())}
    values: list[Any] = [replaced.get(name, table.c[name]) for name in columns]
    newest = select(*values).order_by(table.c.id.desc()).limit(1)
    copy = insert(table).from_select(columns, newest).execution_options(preserve_rowcount=True)
    with dialect.trial() as connection:
        copied = connection.execute(copy).rowcount
        dialect.check_deferred(connection)
    return copied > 0
