"""What PostgreSQL's catalog says of a table: columns, unique index, rights, row-level security, triggers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import psycopg

from devicevault_cli.errors import Refused, TableAtFault
from devicevault_cli.repository.dialects.postgresql.connection import LimitedConnection
from devicevault_cli.repository.dialects.postgresql.statements import Loose, exactly, load, lock_key
from devicevault_cli.repository.errors import from_sqlstate
from devicevault_cli.repository.model import Server, Standbys
from devicevault_cli.repository.tables import DEVICES, RESULTS, TableSpec

FROZEN_MS = 10_000
"""How long a session may hold the lock and leave a message exchange unfinished."""
_COMPARED = ("task_identifier", "task_id", "status", "log")


class UniqueIndex(NamedTuple):
    """An index by its OID and name."""

    oid: int
    name: str


class Described(NamedTuple):
    """`server`: None of a standby, and where it cannot be told. `waits_for_standby`: a commit does."""

    server: Server | None
    in_recovery: bool = False
    waits_for_standby: bool = False


class Catalog:
    """Questions about one table, asked on one connection. Every method raises psycopg.Error."""

    def __init__(self, connection: LimitedConnection, where: str, spec: TableSpec) -> None:
        self.connection, self.where, self.spec = connection, where, spec

    def ask(self, name: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement of catalog.sql. -> its rows"""
        return self.connection.execute(load("catalog.sql")[name], parameters).fetchall()

    def columns(self, tables: Iterable[str]) -> tuple[dict[str, dict[str, str]], Loose]:
        """{table: {column: name of its type}} of those tables that exist, and the columns of messages that treat
        different texts as equal."""
        there: dict[str, dict[str, str]] = {}
        loose = set()
        for table, column, kind, equating in self.ask("columns", [list(tables)]):
            there.setdefault(table, {})[column] = kind
            if equating and column in _COMPARED:
                loose.add((table, column, equating))
        return there, frozenset(loose)

    def unique_index(self, loose: Loose) -> tuple[UniqueIndex | None, str]:
        """A valid unique index on `task_identifier` that compares byte for byte and that INSERT ... ON CONFLICT finds;
        and the name of a unique index that treats different identifiers as equal, if any: it would swallow rows."""
        is_loose = exactly(self.spec.name, "task_identifier", loose) != "task_identifier"
        found = self.ask("unique_indexes", [is_loose, self.spec.name])
        equating = next((name for _, name, exact, _ in found if not exact), "")
        exact_ones = (UniqueIndex(oid, name) for oid, name, _, inferred in found if inferred and not equating)
        return next(exact_ones, None), equating

    def create_unique_index(self, name: str, loose: Loose) -> None:
        """Create it beside running writers; an invalid index left by this or an earlier attempt is dropped."""
        key = exactly(self.spec.name, "task_identifier", loose)
        drop = f"DROP INDEX CONCURRENTLY IF EXISTS {name}".encode()
        create = f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {self.spec.name} ({key}) WHERE {key} <> ''"
        with self.connection.allowing(math.inf):
            try:
                self.connection.execute(drop)
                self.connection.execute(create.encode())
            except psycopg.errors.UniqueViolation:
                self.connection.execute(drop)
                raise

    def is_partitioned(self) -> bool:
        """Whether the rows are in partitions: PostgreSQL then has no unique index without the partition key."""
        return bool(self.ask("partitioned", [self.spec.name]))

    def triggers(self) -> list[str]:
        """The triggers that may change a row before it is inserted, or discard it."""
        return [name for (name,) in self.ask("triggers", [self.spec.name])]

    def diverts(self) -> bool:
        """Whether rows may be put into another table than the one named, where the INSERT does not report them."""
        return bool(self.ask("diverts", [self.spec.name])) and bool(self.triggers())

    # --- the server

    def server(self) -> Described:
        """What the server says of itself. Another product may speak PostgreSQL's protocol and know none of it."""
        try:
            [(in_recovery, file, position, waits)] = self.ask("server", [])
        except psycopg.Error as error:
            if self.connection.closed or error.sqlstate is None:
                raise
            return Described(None)
        if in_recovery:
            return Described(None, in_recovery=True)
        return Described(Server(self._system(), int(file[:8], 16), position), waits_for_standby=waits)

    def _system(self) -> str:
        try:
            return str(self.ask("system", [])[0][0])
        except psycopg.errors.InsufficientPrivilege:  # the right was revoked from PUBLIC
            return ""

    def standbys(self) -> Standbys | None:
        """What the server says of synchronous standbys; None where none are asked for."""
        [(names, connected, seen, synchronous, waiting)] = self.ask("standbys", [])
        if not names.strip():
            return None
        several = re.match(r"\s*(?:FIRST\s+|ANY\s+)?(\d+)\s*\(", names, re.IGNORECASE)
        needed = int(several[1]) if several else 1
        return Standbys(names, needed, connected, synchronous if seen == connected else None, waiting)

    def has_standby(self) -> bool:
        """Whether a standby follows the server, or a slot is kept for one."""
        [(found,)] = self.ask("has_standby", [])
        return bool(found)

    # --- rights

    def require_writable(self) -> None:
        """Raises Unavailable on a standby, Refused for a missing right, TableAtFault where no device is visible."""
        read_only = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"
        if self.connection.execute(read_only).fetchone() == (True,):
            raise from_sqlstate("25006", "", self.where)
        wanted = [("SELECT", self.spec.name), ("INSERT", self.spec.name), ("SELECT", DEVICES)]
        if self.spec.name != RESULTS.name:
            wanted += [("SELECT", RESULTS.name), ("UPDATE", RESULTS.name)]
        self.require(*wanted)
        for name, user in self.ask("unusable_sequences", [self.spec.name]):
            raise self._lacks("USAGE", f"SEQUENCE {name}", user)
        self.require_visible_devices()

    def require(self, *wanted: tuple[str, str]) -> None:
        """Raises Refused for the first of these (right, table) that is missing, with the statement that grants it."""
        rights, names = zip(*wanted, strict=True)
        for right, name, user in self.ask("missing_rights", [list(rights), list(names)]):
            raise self._lacks(right, name, user)

    def _lacks(self, right: str, name: str, user: str) -> Refused:
        hint = f"as its owner: GRANT {right} ON {name} TO {user};"
        return Refused(f"{self.where}: {user} lacks {right} on {name}", hint=hint)

    def row_security(self) -> list[str]:
        """What policies forbid the user, a sentence for each table and command."""
        says = {
            "none": "no policy of {table} allows {command} to {user}",
            "some": "policies of {table} allow {command} to {user} for some rows only",
        }
        found = self.ask("policies", [[self.spec.name, DEVICES], self.spec.name])
        return [
            says[permits].format(table=table, command=command, user=user)
            for table, user, command, permits in found
            if permits in says
        ]

    def require_visible_devices(self) -> None:
        """Raises TableAtFault where policies hide every device: each message would seem to be of an unknown one."""
        for table, user, command, permits in self.ask("policies", [[DEVICES], self.spec.name]):
            if permits == "none":
                error = f"{self.where}: row-level security hides every row of {table} from {user} ({command})"
                hint = f"as the owner: CREATE POLICY ... ON {table} FOR SELECT TO {user} USING (true);"
                raise TableAtFault(error, hint=hint)

    # --- the table's lock

    def end_frozen_holder(self) -> int | None:
        """End the session whose client stopped between the parameters of its INSERT and the order to execute it.

        PostgreSQL applies none of its timeouts there: it is not idle in transaction, and `statement_timeout` waits for
        the message to be complete. libpq sends the two separately, so a client that is frozen in between (SIGSTOP, a
        paused machine) would hold the lock until it is thawed. A session of another role cannot be seen, and is left
        alone. -> the process id of the session that was ended
        """
        with suppress(psycopg.Error):
            ended = self.ask("end_frozen_holder", {"key": lock_key(self.spec), "frozen_ms": FROZEN_MS})
            return int(ended[0][0]) if ended else None
        return None
