"""What PostgreSQL's catalog says about a refusal: is it the table's fault, or may it be a record's?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import psycopg

from devicevault_cli.errors import DvctlError, RecordRejected, TableAtFault, Unavailable
from devicevault_cli.repository.dialects.postgresql.catalog import Catalog
from devicevault_cli.repository.faults import NULLABLE, Fault, null_refused, swallowed
from devicevault_cli.repository.tables import TableSpec

LARGEST = {"int2": 32_767, "int4": 2_147_483_647, "int8": 9_223_372_036_854_775_807}
_NEARLY = 0.9
"""How much of a sequence may be used up before doctor says so."""


class Refusal(NamedTuple):
    """What an error of the server says of its cause."""

    sqlstate: str
    text: str
    constraint: str
    column: str
    table: str
    source: str

    @classmethod
    def of(cls, error: psycopg.Error) -> Refusal:
        """What psycopg gives."""
        said = error.diag
        named = (said.message_primary, said.constraint_name, said.column_name, said.table_name, said.source_function)
        return cls(error.sqlstate or "", *(name or "" for name in named))

    def rejected(self, where: str) -> RecordRejected:
        """The error for a refusal that may be a record's."""
        text = f"{where} rejects a record (SQLSTATE {self.sqlstate})"
        named = {"column": self.column, "constraint": self.constraint}
        return RecordRejected(text, sqlstate=self.sqlstate, said=self.text, **named)

    @property
    def raised(self) -> bool:
        """Whether RAISE in a trigger is the cause, whatever its code."""
        return self.source == "exec_stmt_raise"


def meaning(catalog: Catalog, refusal: Refusal) -> DvctlError:
    """The table's fault where the catalog proves it; else it may be a record's, and only a probe can tell."""
    return _certain_fault(catalog, refusal) or refusal.rejected(catalog.where)


def _certain_fault(catalog: Catalog, refusal: Refusal) -> TableAtFault | None:
    where, table, code = catalog.where, catalog.spec.name, f"SQLSTATE {refusal.sqlstate}"
    if refusal.raised:
        return None
    if refusal.sqlstate == "2200H":
        return TableAtFault(f"{where}: {refusal.text} ({code})", hint=_more_ids(catalog))
    if refusal.sqlstate == "23514" and refusal.table and not refusal.constraint:
        fix = f"create the partition, or CREATE TABLE {table}_default PARTITION OF {table} DEFAULT;"
        return TableAtFault(f"{where}: {refusal.table} has no partition for a row ({code})", hint=fix)
    if refusal.sqlstate == "23502":
        return _null_refused(catalog, refusal.column)
    if refusal.sqlstate in ("23505", "23P01", "23514", "23503") and refusal.constraint:
        return _constraint_refuses(catalog, refusal)
    return None


def _null_refused(catalog: Catalog, column: str) -> TableAtFault | None:
    spec = catalog.spec
    if column in NULLABLE and column in spec.columns:
        return null_refused(catalog.where, spec, [column], "SQLSTATE 23502")
    unfilled = [name for (name,) in catalog.ask("unfilled_columns", [spec.name, list(spec.columns)])]
    if column not in unfilled or catalog.triggers():
        return None
    return null_refused(catalog.where, spec, unfilled, "SQLSTATE 23502")


def _constraint_refuses(catalog: Catalog, refusal: Refusal) -> TableAtFault | None:
    """A constraint or index that involves no column of a message, nor one that may be derived from a message."""
    name, spec = refusal.constraint, catalog.spec
    found = catalog.ask("columns_of_constraint", {"table": spec.name, "name": name})
    involved = [row for row in found if row[0]]
    all_drawn = all(drawn for _, drawn, _ in involved)
    derives = not all_drawn and bool(catalog.triggers())
    if not found or any(
        not drawn and (derives or generated or column in spec.columns) for column, drawn, generated in involved
    ):
        return None
    subject = f"{name} on {', '.join(column for column, *_ in involved)}" if involved else name
    fix = f"change or drop {name} of {spec.name}: it concerns no column that dvctl writes"
    if refusal.sqlstate == "23505" and all_drawn:
        fix = f"the sequence is behind the table: {_set_sequence(spec)}"
    error = f"{catalog.where}: {spec.name} refuses rows: {subject} (SQLSTATE {refusal.sqlstate})"
    return TableAtFault(error, hint=fix)


def no_row(catalog: Catalog) -> Unavailable:
    """The INSERT reported no row for a record, and none is there."""
    if names := catalog.triggers():
        return swallowed(catalog.where, catalog.spec, f"{', '.join(names)} on {catalog.spec.name}")
    error = f"{catalog.where}: rows were deleted, devices added or the unique index dropped during the look-up"
    return Unavailable(error, hint="retry")


# --- the sequence that fills the key


class KeySequence(NamedTuple):
    """The sequence that fills the key. `following`: the value it gives next, None where the user may not see it."""

    name: str
    maximum: int
    following: int | None
    cycles: bool
    kind: str


def _sequences(catalog: Catalog) -> list[KeySequence]:
    """The sequences that fill the key: one, or none."""
    found = []
    for name, start, step, maximum, cycles, last, visible, readable, kind in catalog.ask(
        "sequences", [catalog.spec.name]
    ):
        following = last + step if last is not None else start if visible else None
        if last is None and readable:
            ((value, called),) = catalog.connection.execute(f"SELECT last_value, is_called FROM {name}".encode())
            following = value + step if called else value
        found.append(KeySequence(name, min(maximum, LARGEST.get(kind, maximum)), following, cycles, kind))
    return found


def sequence_faults(catalog: Catalog) -> Iterator[Fault]:
    """An exhausted sequence, one that is nearly so, and one behind the largest id."""
    connection, table = catalog.connection, catalog.spec.name
    # Before the sequences: rows that others insert meanwhile must not make a sequence look as if it were behind.
    ((largest,),) = connection.execute(f"SELECT max(id) FROM {table}".encode())
    for sequence in _sequences(catalog):
        if sequence.following is None:
            continue
        subject = f"{catalog.where}: sequence {sequence.name} of {table}.id"
        left = sequence.maximum - sequence.following
        if left < 0 and not sequence.cycles:
            yield Fault(TableAtFault(f"{subject} is exhausted at {sequence.maximum}", hint=_more_ids(catalog)))
        elif largest is not None and largest >= sequence.following:
            taken = connection.execute(f"SELECT FROM {table} WHERE id = %s".encode(), [sequence.following]).fetchone()
            error = f"{subject} is behind: its next value is {sequence.following}, the largest id {largest}"
            yield Fault(TableAtFault(error, hint=_set_sequence(catalog.spec, sequence.name)), refuses=taken is not None)
        elif sequence.following > sequence.maximum * _NEARLY:
            yield Fault(TableAtFault(f"{subject} has {left:,} values left", hint=_more_ids(catalog)), refuses=False)


def free_id(catalog: Catalog) -> int | None:
    """The next value of the sequence, so that the probe need not use it up; None where that is not possible."""
    right = "SELECT has_column_privilege(%s::text, 'id', 'INSERT')"
    ((allowed,),) = catalog.connection.execute(right, [catalog.spec.name])
    found = _sequences(catalog)
    return found[0].following if allowed and len(found) == 1 else None


def _set_sequence(spec: TableSpec, sequence: str = "") -> str:
    """The statement that moves the sequence behind the largest id."""
    name = f"'{sequence}'" if sequence else f"pg_get_serial_sequence('{spec.name}', 'id')"
    return f"SELECT setval({name}, (SELECT max(id) FROM {spec.name}));"


def _more_ids(catalog: Catalog) -> str:
    """What to do about a sequence that ends."""
    table = catalog.spec.name
    for name, maximum, _, _, kind in _sequences(catalog):
        widen = f"ALTER TABLE {table} ALTER COLUMN id TYPE bigint; ALTER SEQUENCE {name} AS bigint;"
        limited = maximum < LARGEST.get(kind, 0)
        return f"ALTER SEQUENCE {name} NO MAXVALUE; if that is not enough: {widen}" if limited else widen
    return f"look at the sequence of {table}.id, and at those its triggers use"
