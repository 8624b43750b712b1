"""What PostgreSQL's catalog says about a refusal, the sequence of the key, row-level security; and the probe row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg

from devicevault_cli.errors import DvctlError, RecordRejected, TableAtFault, Unavailable
from devicevault_cli.repository.faults import NULLABLE, Fault, copy_newest, null_refused, swallowed
from devicevault_cli.repository.tables import DEVICES, TableSpec

PROBE_LOCK_MS, PROBE_MS = 2_000, 10_000
LARGEST = {"int2": 32_767, "int4": 2_147_483_647, "int8": 9_223_372_036_854_775_807}
_NEARLY = 0.9


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
        return TableAtFault(f"{where}: {refusal.text} ({code})", hint=_more_ids(connection, spec))
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
    found = connection.execute(_COLUMNS_OF, {"table": spec.name, "name": refusal.constraint}).fetchall()
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
        fix = f"the sequence is behind the table: {_set_sequence(spec)}"
    return TableAtFault(f"{where}: {spec.name} refuses rows: {subject} (SQLSTATE {refusal.sqlstate})", hint=fix)


def _set_sequence(spec: TableSpec, sequence: str = "") -> str:
    name = f"'{sequence}'" if sequence else f"pg_get_serial_sequence('{spec.name}', 'id')"
    return f"SELECT setval({name}, (SELECT max(id) FROM {spec.name}));"


def _more_ids(connection: psycopg.Connection, spec: TableSpec) -> str:
    for sequence in sequences(connection, spec):
        if sequence.maximum < LARGEST.get(sequence.kind, 0):
            return f"ALTER SEQUENCE {sequence.name} NO MAXVALUE; if that is not enough: {_widen(spec, sequence.name)}"
        return _widen(spec, sequence.name)
    return f"look at the sequence of {spec.name}.id, and at those its triggers use"


def _widen(spec: TableSpec, sequence: str) -> str:
    return f"ALTER TABLE {spec.name} ALTER COLUMN id TYPE bigint; ALTER SEQUENCE {sequence} AS bigint;"


def triggers(connection: psycopg.Connection, spec: TableSpec) -> list[str]:
    """The triggers that may change a row before it is inserted, or discard it."""
    return [name for (name,) in connection.execute(_TRIGGERS, [spec.name])]


def no_row(connection: psycopg.Connection, where: str, spec: TableSpec) -> Unavailable:
    """The INSERT reported no row for a record, and none is there."""
    if names := triggers(connection, spec):
        return swallowed(where, spec, f"{', '.join(names)} on {spec.name}")
    return Unavailable(f"{where}: rows went, or devices came, while they were looked up", hint="try again")


def diverts(connection: psycopg.Connection, spec: TableSpec) -> bool:
    """Whether rows may be put into another table than the one named, where the INSERT does not report them."""
    return connection.execute(_DIVERTS, [spec.name]).fetchone() is not None and bool(triggers(connection, spec))


def _unfilled(connection: psycopg.Connection, spec: TableSpec) -> list[str]:
    """NOT NULL columns without a default that dvctl does not write."""
    return [name for (name,) in connection.execute(_UNFILLED, [spec.name, list(spec.columns)])]


# --- the sequence of the key -----------------------------------------------------------------------------------------


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
    rows = connection.execute(_SEQUENCES, [spec.name]).fetchall()
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
            yield Fault(TableAtFault(f"{ends} is exhausted at {sequence.maximum}", hint=_more_ids(connection, spec)))
            continue
        if largest is not None and largest >= sequence.following:
            row = f"SELECT FROM {spec.name} WHERE id = %s"
            taken = connection.execute(row.encode(), [sequence.following]).fetchone()
            error = f"{ends} is behind: its next value is {sequence.following}, the largest id {largest}"
            yield Fault(TableAtFault(error, hint=_set_sequence(spec, sequence.name)), refuses=taken is not None)
        elif sequence.following > sequence.maximum * _NEARLY:
            left = sequence.maximum - sequence.following
            error = f"{ends} has {left:,} values left"
            yield Fault(TableAtFault(error, hint=_more_ids(connection, spec)), refuses=False)


# --- the probe row ---------------------------------------------------------------------------------------------------


def free_id(connection: psycopg.Connection, spec: TableSpec) -> int | None:
    """The next value of the sequence, so that the probe need not use it up; None where that is not possible."""
    ((allowed,),) = connection.execute("SELECT has_column_privilege(%s::text, 'id', 'INSERT')", [spec.name])
    found = sequences(connection, spec)
    return found[0].following if allowed and len(found) == 1 else None


def try_row(connection: psycopg.Connection, spec: TableSpec, values: Sequence[Any], row_id: int | None) -> bool:
    """Insert one row and roll it back. -> whether it was there. Raises psycopg.Error."""
    names = ", ".join(spec.columns)
    marks = ", ".join(["%s"] * len(spec.columns))
    insert = f"INSERT INTO {spec.name} ({names}) VALUES ({marks})"
    if row_id is not None:
        insert = f"INSERT INTO {spec.name} (id, {names}) OVERRIDING SYSTEM VALUE VALUES ({row_id:d}, {marks})"
    there = f"SELECT FROM {spec.name} WHERE task_identifier = %s AND timestamp = %s"
    with _rolled_back(connection):
        connection.execute(insert.encode(), values)
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        key = [values[spec.columns.index(name)] for name in ("task_identifier", "timestamp")]
        return connection.execute(there.encode(), key).fetchone() is not None


def try_copy(connection: psycopg.Connection, spec: TableSpec) -> bool:
    """Insert the newest row once more, as of now and without its log, and roll it back. -> whether there was one"""
    with _rolled_back(connection):
        copied = connection.execute(copy_newest(spec, "now()").encode()).rowcount
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        return copied == 1


@contextmanager
def _rolled_back(connection: psycopg.Connection) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        connection.execute(
            f"SET LOCAL lock_timeout = {PROBE_LOCK_MS}; SET LOCAL statement_timeout = {PROBE_MS}".encode()
        )
        yield


# --- row-level security ----------------------------------------------------------------------------------------------


def row_security(connection: psycopg.Connection, spec: TableSpec) -> list[str]:
    """What policies forbid the user, a sentence for each table and command."""
    says = []
    for table, user, command, permits in connection.execute(_POLICIES, [[spec.name, DEVICES], spec.name]):
        if permits == "none":
            says.append(f"no policy of {table} allows {command} to {user}")
        elif permits == "some":
            says.append(f"policies of {table} allow {command} to {user} for some rows only")
    return says


def require_visible_devices(connection: psycopg.Connection, where: str, spec: TableSpec) -> None:
    """Raises TableAtFault where policies hide every device: each message would seem to be of an unknown one."""
    for table, user, command, permits in connection.execute(_POLICIES, [[DEVICES], spec.name]):
        if permits == "none":
            error = f"{where}: row-level security hides every row of {table} from {user} ({command})"
            raise TableAtFault(
                error, hint=f"as the owner: CREATE POLICY ... ON {table} FOR SELECT TO {user} USING (true);"
            )


_TRIGGERS = """
SELECT tgname FROM pg_trigger
WHERE tgrelid = to_regclass(quote_ident(%s)) AND NOT tgisinternal AND tgenabled <> 'D'
    AND tgtype & 5 = 5 AND tgtype & 66 <> 0
ORDER BY tgname"""

_DIVERTS = """
SELECT 1 FROM pg_class AS c
WHERE c.oid = to_regclass(quote_ident(%s)) AND (c.relkind = 'v'
    OR c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhparent = c.oid))"""

_UNFILLED = """
SELECT attname FROM pg_attribute
WHERE attrelid = to_regclass(quote_ident(%s)) AND attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef
    AND attidentity = '' AND attname <> ALL (%s::text[])
ORDER BY attnum"""

# A constraint's columns, or an index's, those of its expressions too; of a partition or a child as well. `drawn`: the
# column is filled by a sequence. A constraint without any column is a row of NULLs.
_COLUMNS_OF = """
WITH RECURSIVE ours (id) AS (
    SELECT to_regclass(quote_ident(%(table)s))::oid
    UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN ours ON i.inhparent = ours.id
), named AS (
    SELECT con.conrelid AS rel, unnest(coalesce(con.conkey, '{}') || 0::smallint) AS num
    FROM pg_constraint AS con JOIN ours ON con.conrelid = ours.id WHERE con.conname = %(name)s
    UNION SELECT x.indrelid, unnest(x.indkey::smallint[])
    FROM pg_class AS c JOIN pg_index AS x ON x.indexrelid = c.oid JOIN ours ON x.indrelid = ours.id
    WHERE c.relname = %(name)s
    UNION SELECT x.indrelid, d.refobjsubid::smallint
    FROM pg_class AS c JOIN pg_index AS x ON x.indexrelid = c.oid JOIN ours ON x.indrelid = ours.id
    JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = x.indrelid AND d.refobjsubid > 0
    WHERE c.relname = %(name)s
)
SELECT a.attname, coalesce(a.attidentity <> '' OR pg_get_expr(f.adbin, f.adrelid) LIKE 'nextval(%%', false),
    coalesce(a.attgenerated <> '', false)
FROM named
LEFT JOIN pg_attribute AS a ON a.attrelid = named.rel AND a.attnum = named.num AND a.attnum > 0
LEFT JOIN pg_attrdef AS f ON f.adrelid = a.attrelid AND f.adnum = a.attnum"""

_SEQUENCES = """
WITH key AS (
    SELECT a.attrelid, a.attnum, t.typname FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = to_regclass(quote_ident(%s)) AND a.attname = 'id'
), filling AS (
    SELECT d.objid AS id, key.typname FROM key JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = key.attrelid AND d.refobjsubid = key.attnum
        AND d.deptype = 'i'
    UNION SELECT d.refobjid, key.typname FROM key
    JOIN pg_attrdef AS f ON f.adrelid = key.attrelid AND f.adnum = key.attnum
    JOIN pg_depend AS d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
        AND d.refclassid = 'pg_class'::regclass
)
SELECT s.seqrelid::regclass::text, s.seqstart, s.seqincrement, s.seqmax, s.seqcycle,
    CASE WHEN has_sequence_privilege(s.seqrelid, 'USAGE, SELECT') THEN pg_sequence_last_value(s.seqrelid) END,
    has_sequence_privilege(s.seqrelid, 'USAGE, SELECT'), has_sequence_privilege(s.seqrelid, 'SELECT'), filling.typname
FROM filling JOIN pg_sequence AS s ON s.seqrelid = filling.id
WHERE s.seqincrement > 0"""

# Of each table with row-level security in force, for each command that dvctl uses: which rows are allowed.
_POLICIES = """
WITH policy AS (
    SELECT n.oid AS namespace, p.tablename, p.cmd, p.permissive = 'PERMISSIVE' AS permits,
        p.qual, coalesce(p.with_check, p.qual) AS checked
    FROM pg_policies AS p JOIN pg_namespace AS n ON n.nspname = p.schemaname
    WHERE 'public' = ANY (p.roles) OR EXISTS (
        SELECT FROM unnest(p.roles) AS r (name) JOIN pg_roles ON rolname = r.name
        WHERE pg_has_role(current_user, pg_roles.oid, 'member'))
)
SELECT c.relname, quote_ident(current_user), command, (
    SELECT CASE WHEN bool_or(permits) IS NOT TRUE THEN 'none'
        WHEN bool_or(permits AND condition = 'true') AND NOT bool_or(NOT permits AND condition <> 'true') THEN 'all'
        ELSE 'some' END
    FROM policy, LATERAL (SELECT CASE command WHEN 'SELECT' THEN qual ELSE checked END AS condition) AS l
    WHERE namespace = c.relnamespace AND tablename = c.relname AND cmd IN ('ALL', command)
)
FROM unnest(%s::text[]) AS wanted (name)
JOIN pg_class AS c ON c.oid = to_regclass(quote_ident(wanted.name))
CROSS JOIN (VALUES ('SELECT'), ('INSERT')) AS v (command)
WHERE row_security_active(c.oid) AND (command = 'SELECT' OR c.relname = %s)
ORDER BY c.relname, command DESC"""
