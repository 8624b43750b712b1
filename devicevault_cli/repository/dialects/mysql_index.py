"""The unique index of MySQL and MariaDB, and where it is required: GET_LOCK is known to one server only.

Neither has partial indexes, and their collations equate case, accents and trailing spaces. So the index is on the bytes
of the identifier, NULL where it is empty: on MariaDB an invisible generated column, which `SELECT *` and an INSERT
without a list of columns do not see; on MySQL an expression.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from devicevault_cli.repository.tables import TableSpec

COLUMN = "dvctl_identifier"
_BYTES = "NULLIF(CAST(task_identifier AS BINARY), '')"
_LEAST_MARIADB, _LEAST_MYSQL = (10, 3), (8, 0, 13)
"""The first versions with invisible columns, and with indexes on expressions."""


class Server(NamedTuple):
    """`writers`: what lets several servers of its cluster write, in words; '' where only one does."""

    is_mariadb: bool
    version: tuple[int, ...]
    writers: str


def server_of(connection: Connection) -> Server:
    """Read the version and how the server is replicated."""
    rows = connection.exec_driver_sql(_VARIABLES).all()
    variables = {str(name).lower(): str(value) for name, value in rows}
    shown, _, _ = variables["version"].removeprefix("5.5.5-").partition("-")
    version = tuple(int(part) for part in shown.split(".") if part.isdigit())
    return Server("mariadb" in variables["version"].lower(), version, _writers(variables))


def _writers(variables: dict[str, str]) -> str:
    """Not by how many servers are there now: another one may join at any time."""
    provider = variables.get("wsrep_provider", "none")
    if variables.get("wsrep_on", "OFF") == "ON" and provider not in ("", "none"):
        return "Galera (wsrep_on)"
    single = variables.get("group_replication_single_primary_mode", "ON")
    if variables.get("group_replication_group_name") and single == "OFF":
        return "group replication with several primaries"
    return ""


def obstacle(server: Server) -> str:
    """Why the server can have no such index; '' where it can."""
    product, least = ("MariaDB", _LEAST_MARIADB) if server.is_mariadb else ("MySQL", _LEAST_MYSQL)
    if server.version >= least:
        return ""
    found, needed = (".".join(map(str, version)) for version in (server.version, least))
    return f"the unique index needs {product} {needed} or later; this is {found}"


def exists(connection: Connection, spec: TableSpec) -> bool:
    """Whether the table has the index, on what it has to be."""
    found = connection.exec_driver_sql(_INDEX, _names(spec)).all()
    return [(int(non_unique), column) for non_unique, column in found] in ([(0, COLUMN)], [(0, None)])


def creation(connection: Connection, server: Server, spec: TableSpec) -> str:
    """The statement that creates the index, in place of one that has its name."""
    index = f"ADD UNIQUE INDEX {spec.index_name}"
    drop = f"DROP INDEX {spec.index_name}, " if connection.exec_driver_sql(_INDEX, _names(spec)).first() else ""
    if not server.is_mariadb:
        return f"ALTER TABLE {spec.name} {drop}{index} (({_BYTES}))"
    size = int(connection.exec_driver_sql(_SIZE, (spec.name,)).scalar_one())
    column = f"{COLUMN} varbinary({size}) AS ({_BYTES}) PERSISTENT INVISIBLE"
    return f"ALTER TABLE {spec.name} {drop}ADD COLUMN IF NOT EXISTS {column}, {index} ({COLUMN})"


def removal(server: Server, spec: TableSpec) -> str:
    """The statement that undoes `creation`."""
    column = f", DROP COLUMN {COLUMN}" if server.is_mariadb else ""
    return f"ALTER TABLE {spec.name} DROP INDEX {spec.index_name}{column}"


def _names(spec: TableSpec) -> tuple[str, str]:
    return spec.name, spec.index_name


_VARIABLES = """
SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'wsrep_on', 'wsrep_provider', 'group_replication_group_name',
    'group_replication_single_primary_mode')"""

# An expression has no name of a column.
_INDEX = """
SELECT non_unique, column_name FROM information_schema.statistics
WHERE table_schema = DATABASE() AND table_name = %s AND index_name = %s"""

_SIZE = """
SELECT character_octet_length FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name = %s AND column_name = 'task_identifier'"""
