"""The sequence that fills the key: how far it is, and whether it is behind the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import psycopg

from devicevault_cli.errors import TableAtFault
from devicevault_cli.repository.dialects.postgresql.statements import load
from devicevault_cli.repository.faults import Fault
from devicevault_cli.repository.tables import TableSpec

_SQL = load("catalog.sql")

LARGEST = {"int2": 32_767, "int4": 2_147_483_647, "int8": 9_223_372_036_854_775_807}
_NEARLY = 0.9


class KeySequence(NamedTuple):
    """The sequence that fills the key. `following`: the value it gives next, None where the user may not see it."""

    name: str
    maximum: int
    following: int | None
    cycles: bool
    kind: str


def sequences(connection: psycopg.Connection, spec: TableSpec) -> list[KeySequence]:
    """The sequences that fill the key: one, or none."""
    found = []
    rows = connection.execute(_SQL["sequences"], [spec.name]).fetchall()
    for name, start, step, maximum, cycles, last, visible, readable, kind in rows:
        following = last + step if last is not None else start if visible else None
        if last is None and readable:
            ((value, called),) = connection.execute(f"SELECT last_value, is_called FROM {name}".encode())
            following = value + step if called else value
        found.append(KeySequence(name, min(maximum, LARGEST.get(kind, maximum)), following, cycles, kind))
    return found


def sequence_faults(connection: psycopg.Connection, where: str, spec: TableSpec) -> Iterator[Fault]:
    """An exhausted sequence, one that is nearly so, and one behind the largest id."""
    # Before the sequences: rows that others insert meanwhile must not make a sequence look as if it were behind.
    ((largest,),) = connection.execute(f"SELECT max(id) FROM {spec.name}".encode())
    for sequence in sequences(connection, spec):
        if sequence.following is None:
            continue
        ends = f"{where}: sequence {sequence.name} of {spec.name}.id"
        if sequence.following > sequence.maximum and not sequence.cycles:
            yield Fault(TableAtFault(f"{ends} is exhausted at {sequence.maximum}", hint=more_ids(connection, spec)))
            continue
        if largest is not None and largest >= sequence.following:
            row = f"SELECT FROM {spec.name} WHERE id = %s"
            taken = connection.execute(row.encode(), [sequence.following]).fetchone()
            error = f"{ends} is behind: its next value is {sequence.following}, the largest id {largest}"
            yield Fault(TableAtFault(error, hint=set_sequence(spec, sequence.name)), refuses=taken is not None)
        elif sequence.following > sequence.maximum * _NEARLY:
            left = sequence.maximum - sequence.following
            error = f"{ends} has {left:,} values left"
            yield Fault(TableAtFault(error, hint=more_ids(connection, spec)), refuses=False)


def free_id(connection: psycopg.Connection, spec: TableSpec) -> int | None:
    """The next value of the sequence, so that the probe need not use it up; None where that is not possible."""
    ((allowed,),) = connection.execute("SELECT has_column_privilege(%s::text, 'id', 'INSERT')", [spec.name])
    found = sequences(connection, spec)
    return found[0].following if allowed and len(found) == 1 else None


def set_sequence(spec: TableSpec, sequence: str = "") -> str:
    """The statement that moves the sequence behind the largest id."""
    name = f"'{sequence}'" if sequence else f"pg_get_serial_sequence('{spec.name}', 'id')"
    return f"SELECT setval({name}, (SELECT max(id) FROM {spec.name}));"


def more_ids(connection: psycopg.Connection, spec: TableSpec) -> str:
    """What to do about a sequence that ends."""
    for sequence in sequences(connection, spec):
        if sequence.maximum < LARGEST.get(sequence.kind, 0):
            return f"ALTER SEQUENCE {sequence.name} NO MAXVALUE; if that is not enough: {_widen(spec, sequence.name)}"
        return _widen(spec, sequence.name)
    return f"look at the sequence of {spec.name}.id, and at those its triggers use"


def _widen(spec: TableSpec, sequence: str) -> str:
    return f"ALTER TABLE {spec.name} ALTER COLUMN id TYPE bigint; ALTER SEQUENCE {sequence} AS bigint;"
