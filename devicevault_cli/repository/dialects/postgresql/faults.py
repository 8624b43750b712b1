"""What PostgreSQL's catalog says about a refusal: is it the table's fault, or may it be a record's?"""

from __future__ import annotations

from typing import NamedTuple

import psycopg

from devicevault_cli.errors import DvctlError, RecordRejected, TableAtFault, Unavailable
from devicevault_cli.repository.dialects.postgresql.sequences import more_ids, set_sequence
from devicevault_cli.repository.dialects.postgresql.statements import load
from devicevault_cli.repository.faults import NULLABLE, null_refused, swallowed
from devicevault_cli.repository.tables import TableSpec

_SQL = load("catalog.sql")


class Refusal(NamedTuple):
    """What an error of the server says of its cause. `raised`: by RAISE in a trigger, whatever its code."""

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
        """By a trigger, on purpose."""
        return self.source == "exec_stmt_raise"


def meaning(connection: psycopg.Connection, where: str, spec: TableSpec, refusal: Refusal) -> DvctlError:
    """The table's fault where the catalog proves it; else it may be a record's."""
    return certain_fault(connection, where, spec, refusal) or refusal.rejected(where)


def certain_fault(connection: psycopg.Connection, where: str, spec: TableSpec, refusal: Refusal) -> TableAtFault | None:
    """The fault of the table that the catalog proves; None: only a probe can tell."""
    code = f"SQLSTATE {refusal.sqlstate}"
    if refusal.raised:
        return None
    if refusal.sqlstate == "2200H":
        return TableAtFault(f"{where}: {refusal.text} ({code})", hint=more_ids(connection, spec))
    if refusal.sqlstate == "23514" and refusal.table and not refusal.constraint:
        fix = f"create the partition, or CREATE TABLE {spec.name}_default PARTITION OF {spec.name} DEFAULT;"
        return TableAtFault(f"{where}: {refusal.table} has no partition for a row ({code})", hint=fix)
    if refusal.sqlstate == "23502":
        return _null_refused(connection, where, spec, refusal.column)
    if refusal.sqlstate in ("23505", "23P01", "23514", "23503") and refusal.constraint:
        return _constraint_refuses(connection, where, spec, refusal)
    return None


def _null_refused(connection: psycopg.Connection, where: str, spec: TableSpec, column: str) -> TableAtFault | None:
    if column in NULLABLE and column in spec.columns:
        return null_refused(where, spec, [column], "SQLSTATE 23502")
    unfilled = _unfilled(connection, spec)
    if column not in unfilled or triggers(connection, spec):
        return None
    return null_refused(where, spec, unfilled, "SQLSTATE 23502")


def _constraint_refuses(
    connection: psycopg.Connection, where: str, spec: TableSpec, refusal: Refusal
) -> TableAtFault | None:
    """A constraint or index that involves no column of a message, nor one that may be derived from a message."""
    found = connection.execute(
        _SQL["columns_of_constraint"], {"table": spec.name, "name": refusal.constraint}
    ).fetchall()
    involved = [(name, drawn, generated) for name, drawn, generated in found if name]
    derives = not all(drawn for _, drawn, _ in involved) and bool(triggers(connection, spec))
    if not found or any(
        not drawn and (derives or generated or name in spec.columns) for name, drawn, generated in involved
    ):
        return None
    columns = [name for name, *_ in involved]
    subject = f"{refusal.constraint} on {', '.join(columns)}" if columns else refusal.constraint
    fix = f"change or drop {refusal.constraint} of {spec.name}: it concerns no column that dvctl writes"
    if refusal.sqlstate == "23505" and all(drawn for _, drawn, _ in involved):
        fix = f"the sequence is behind the table: {set_sequence(spec)}"
    return TableAtFault(f"{where}: {spec.name} refuses rows: {subject} (SQLSTATE {refusal.sqlstate})", hint=fix)


def triggers(connection: psycopg.Connection, spec: TableSpec) -> list[str]:
    """The triggers that may change a row before it is inserted, or discard it."""
    return [name for (name,) in connection.execute(_SQL["triggers"], [spec.name])]


def no_row(connection: psycopg.Connection, where: str, spec: TableSpec) -> Unavailable:
    """The INSERT reported no row for a record, and none is there."""
    if names := triggers(connection, spec):
        return swallowed(where, spec, f"{', '.join(names)} on {spec.name}")
    return Unavailable(f"{where}: rows went, or devices came, while they were looked up", hint="try again")


def diverts(connection: psycopg.Connection, spec: TableSpec) -> bool:
    """Whether rows may be put into another table than the one named, where the INSERT does not report them."""
    return connection.execute(_SQL["diverts"], [spec.name]).fetchone() is not None and bool(triggers(connection, spec))


def _unfilled(connection: psycopg.Connection, spec: TableSpec) -> list[str]:
    """NOT NULL columns without a default that dvctl does not write."""
    return [name for (name,) in connection.execute(_SQL["unfilled_columns"], [spec.name, list(spec.columns)])]
