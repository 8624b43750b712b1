"""What MySQL's error numbers and its dictionary say of a table that refuses rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection

from devicevault_cli.errors import RecordRejected, TableAtFault
from devicevault_cli.repository.faults import NULLABLE, Fault, null_refused
from devicevault_cli.repository.tables import TableSpec

ABOUT_A_VALUE = frozenset({"1153", "1264", "1265", "1292", "1366", "1367", "1406", "1411", "3140"})
_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}


class Table(NamedTuple):
    """What the dictionary says. `largest`: the maximum of the key's type; `following`: the next id, if known."""

    engine: str
    transactional: bool
    signed: bool
    largest: int
    following: int


def describe(connection: Connection, spec: TableSpec) -> Table:
    """Look at the engine and the key of a table."""
    engine, transactions, following, kind = connection.exec_driver_sql(_TABLE, (spec.name,)).one()
    kind = str(kind).lower()
    signed = "unsigned" not in kind
    largest = 2 ** (_BITS.get(kind.partition("(")[0].partition(" ")[0], 64) - signed) - 1
    return Table(str(engine or ""), transactions in ("YES", None), signed, largest, int(following or 0))


def known_faults(table: Table, where: str, spec: TableSpec) -> Iterator[Fault]:
    """What the dictionary shows: ids that are used up, an engine without transactions."""
    if table.following >= table.largest:  # where the last id is taken too, it stays what it is
        yield Fault(_ids_used_up(where, spec, f"the next would be {table.following}"))
    if not table.transactional:
        error = f"{where}: {spec.name} uses {table.engine}, which has no transactions: a batch may be saved in part"
        fix = f"ALTER TABLE {spec.name} ENGINE=InnoDB;"
        yield Fault(TableAtFault(error, hint=fix), refuses=table.engine == "BLACKHOLE")


def certain_fault(where: str, spec: TableSpec, error: RecordRejected) -> TableAtFault | None:
    """The fault of the table that an error number proves by itself; None: only a probe can tell."""
    number, column = error.sqlstate, error.column
    if number == "1364" or (number == "1048" and column in NULLABLE):
        return null_refused(where, spec, [column], f"error {number}")
    if number == "1526":
        fix = f"ALTER TABLE {spec.name} ADD PARTITION (PARTITION ... VALUES LESS THAN (...));"
        return TableAtFault(f"{where}: {spec.name} has no partition for a row (error 1526)", hint=fix)
    if number in ("167", "1467") or (number == "1264" and column == "id"):
        return _ids_used_up(where, spec, f"error {number}")
    return None


def key_fault(where: str, spec: TableSpec, error: RecordRejected) -> TableAtFault | None:
    """What an error of the probe says about the key."""
    is_key = error.sqlstate == "1062" and error.constraint.rpartition(".")[2] == "PRIMARY"
    return _ids_used_up(where, spec, "error 1062 for key PRIMARY") if is_key else None


def _ids_used_up(where: str, spec: TableSpec, why: str) -> TableAtFault:
    fix = f"ALTER TABLE {spec.name} MODIFY id bigint NOT NULL AUTO_INCREMENT;"
    return TableAtFault(f"{where}: the AUTO_INCREMENT ids of {spec.name} are used up ({why})", hint=fix)


_TABLE = """
SELECT t.engine, e.transactions, t.auto_increment, c.column_type FROM information_schema.tables AS t
JOIN information_schema.columns AS c ON c.table_schema = t.table_schema AND c.table_name = t.table_name
LEFT JOIN information_schema.engines AS e ON e.engine = t.engine
WHERE t.table_schema = DATABASE() AND t.table_name = %s AND c.column_name = 'id'"""
