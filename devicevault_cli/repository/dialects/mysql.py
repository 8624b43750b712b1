"""MySQL and MariaDB: a named lock around each transaction, comparisons byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, ColumnElement, Connection, literal_column

from devicevault_cli.errors import BadConfig, DvctlError, RecordRejected, TableAtFault, Unavailable
from devicevault_cli.repository.dialects import mysql_faults, mysql_index
from devicevault_cli.repository.dialects.base import Facts, LockingDialect
from devicevault_cli.repository.errors import from_mysql, no_answer
from devicevault_cli.repository.faults import Fault
from devicevault_cli.repository.repertoire import Repertoire, Repertoires
from devicevault_cli.repository.tables import RESULTS, TableSpec
from devicevault_cli.repository.url import DatabaseUrl

if TYPE_CHECKING:
    import pymysql

LOCK_S = 10
CONNECT_S = 10
"""How long a server may take for each step until the session stands; `connect_timeout` in the URL changes it."""
ANSWER_S = 75
"""How long a silent server is waited for."""
FROZEN_S = 60
"""How long a client may hold the lock and send nothing. A statement has about 1 MB."""

_SESSION = (
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION innodb_lock_wait_timeout = 10",
    # Without it a value that is too long or has no place in the column's character set is cut short in silence.
    "SET SESSION sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_ALL_TABLES')",
)

# Character sets that hold every character are left out. Binary columns have none.
_CHARACTER_SETS = """
SELECT table_name, column_name, character_set_name FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name IN (%s, %s)
    AND character_set_name NOT IN ('utf8mb4', 'utf16', 'utf16le', 'utf32', 'gb18030')"""

_FROZEN_HOLDER = """
SELECT id FROM information_schema.processlist
WHERE id = IS_USED_LOCK(%s) AND command = 'Sleep' AND time >= %s"""


class MysqlDialect(LockingDialect):
    """One table of a MySQL or MariaDB database."""

    name = "mysql"
    begin_reading = "START TRANSACTION READ ONLY"
    begin_writing = "START TRANSACTION"
    unencodable = "1366"

    def __init__(self, url: DatabaseUrl, spec: TableSpec) -> None:
        try:
            import pymysql
        except ImportError:
            raise BadConfig("mysql:// needs PyMySQL", hint="pip install 'dvctl[mysql]'") from None
        super().__init__(url, spec, "mysql+pymysql", paramstyle="format")
        self._pymysql = pymysql
        # The name is the whole server's, at most 64 characters.
        digest = hashlib.sha256(f"{url.name}.{spec.name}".encode()).hexdigest()
        self.lock_name = f"dvctl:{digest[:40]}"
        self._packet = 0
        self._signed = True
        self._server = mysql_index.Server(True, (), "")

    # --- the connection

    def _socket(self, driver: Any) -> int | None:
        number: int = driver._sock.fileno()
        return number

    def _connect(self) -> pymysql.Connection[Any]:
        """Log in. Until then the server has CONNECT_S for each step; a statement may take ANSWER_S."""
        url, options = self.url, self.url.options
        seconds = self._connect_seconds()
        try:
            connection = self._pymysql.connect(
                host=url.host or "localhost",
                port=url.port or 3306,
                user=url.user or None,
                # PyMySQL would encode a text as Latin-1; MySQL and MariaDB expect UTF-8, as in the user's name.
                password=url.password.encode("utf-8", "surrogateescape"),
                database=url.name,
                unix_socket=options.get("unix_socket"),
                ssl={"ca": options["ssl_ca"]} if "ssl_ca" in options else None,
                charset="utf8mb4",
                autocommit=True,
                connect_timeout=seconds,
                read_timeout=seconds,
                write_timeout=seconds,
            )
        except RuntimeError as error:  # an authentication plugin that needs another package
            hint = "run `pip install 'PyMySQL[ed25519,rsa]'`"
            raise BadConfig(f"{self.where}: cannot log in: {error}", hint=hint) from None
        except self._pymysql.MySQLError as error:
            if isinstance(error.__context__, TimeoutError):
                raise no_answer(self.where, seconds) from None
            raise
        for timeout in ("_read_timeout", "_write_timeout"):  # PyMySQL looks at these before each packet
            setattr(connection, timeout, ANSWER_S)
        return connection

    def _connect_seconds(self) -> int:
        given = self.url.options.get("connect_timeout", str(CONNECT_S))
        if not (given.isascii() and given.isdigit() and 0 < int(given) <= 3600):
            message = f"{self.where}: connect_timeout must be a number of seconds from 1 to 3600"
            raise BadConfig(message, hint="correct it in --database-url or DEVICEVAULT_DATABASE_URL")
        return int(given)

    def _prepare(self, connection: Connection) -> None:
        for statement in _SESSION:
            connection.exec_driver_sql(statement)
        self._packet = int(self._value(connection, "SELECT @@max_allowed_packet"))
        self.repertoires = self._learn_character_sets(connection)

    def _learn_character_sets(self, connection: Connection) -> Repertoires:
        """One Repertoire for each character set, by the columns that have it."""
        rows = connection.exec_driver_sql(_CHARACTER_SETS, (self.spec.name, RESULTS.name)).all()
        of_set = {name: Repertoire(partial(self._unchanged, name)) for *_, name in rows}
        return {(table, column): of_set[name] for table, column, name in rows}

    def _unchanged(self, character_set: str, characters: list[str]) -> list[str]:
        """What comes back as it was from a character set; a character that it lacks comes back as `?`."""
        converted = f"SELECT CONVERT(CONVERT(%s USING {character_set}) USING utf8mb4)"
        with self.translated():
            back = self._value(self.connection(), converted, "\n".join(characters))
        pairs = zip(characters, back.split("\n"), strict=True)
        return [character for character, returned in pairs if character == returned]

    def _meaning(self, error: BaseException) -> DvctlError | None:
        if isinstance(error, OSError | EOFError):
            return from_mysql(2013, str(error), self.where)
        if not isinstance(error, self._pymysql.MySQLError):
            return None
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        said = str(error.args[1]) if len(error.args) > 1 else str(error)
        meaning = from_mysql(number, said, self.where)
        if isinstance(meaning, RecordRejected):
            return mysql_faults.certain_fault(self.where, self.spec, meaning) or meaning
        return meaning

    # --- transactions

    @contextmanager
    def locked(self) -> Iterator[Connection]:
        """The lock is released after COMMIT; an error closes the connection, which releases it too."""
        with self.translated():
            connection = self.connection()
            if self._value(connection, "SELECT GET_LOCK(%s, %s)", self.lock_name, LOCK_S) != 1:
                ended = self._end_frozen_holder(connection)
                raise Unavailable(f"{self.where}: another dvctl held the lock for {LOCK_S} s{ended}", hint="retry")
            with self.transaction(self.begin_writing):
                yield connection
            connection.exec_driver_sql("SELECT RELEASE_LOCK(%s)", (self.lock_name,))

    def _end_frozen_holder(self, connection: Connection) -> str:
        """End the session of a client that was frozen with the lock in hand: the server would wait for it for hours."""
        holder = self._value(connection, _FROZEN_HOLDER, self.lock_name, FROZEN_S)
        if holder is None:
            return ""
        connection.exec_driver_sql(f"KILL {int(holder)}")
        return f"; ended session {holder} of a client that had stopped while it held the lock"

    def require_sendable(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """PyMySQL joins the rows into statements of about 1 MB; a longer row has to fit into a packet by itself."""
        for row in rows:
            # A server that gets too large a packet may just hang up, which looks like an outage.
            if sum(len(value) for value in row if isinstance(value, str)) * 8 > self._packet and (
                len(self.driver.cursor().mogrify(sql, row).encode()) + 64 > self._packet
            ):
                message = f"{self.where} takes at most {self._packet} bytes a packet; the record has more"
                raise RecordRejected(message, sqlstate="1153", hint="raise max_allowed_packet")

    # --- the table

    def inspect(self) -> None:
        largest = self.compare_columns()
        with self.reading() as connection:
            self._server = server = mysql_index.server_of(connection)
            unique = mysql_index.exists(connection, self.spec)
        self.facts = Facts(largest, unique, no_index=mysql_index.obstacle(server), writers=server.writers)

    def create_unique_index(self, name: str) -> None:
        """The statement may take as long as the server needs to write the whole table anew."""
        with self.translated():
            connection = self.connection()
            statement = mysql_index.creation(connection, self._server, self.spec)
            driver, connection = self.driver, self.connection()
            driver._read_timeout = None
            connection.exec_driver_sql(statement)
            driver._read_timeout = ANSWER_S

    def index_effect(self, name: str) -> str:
        if not self._server.is_mariadb:
            return f"{super().index_effect(name)} on an expression"
        everybody = "every writer of the cluster waits" if self.facts.writers else "writers wait"
        what = f"{super().index_effect(name)} on the new column {mysql_index.COLUMN}, generated and invisible"
        return f"{what}; MariaDB writes the whole table anew, and {everybody} meanwhile"

    def drop_index_statement(self, name: str) -> str:
        return mysql_index.removal(self._server, self.spec)

    def came_second(self, error: RecordRejected) -> bool:
        return error.sqlstate == "1062" and error.constraint.rpartition(".")[2] == self.spec.index_name

    def require_writable(self) -> None:
        with self.reading() as connection:
            if self._value(connection, "SELECT @@global.read_only") not in (0, "OFF"):
                raise Unavailable(
                    f"{self.where} is read-only", hint="point --database-url or DEVICEVAULT_DATABASE_URL at the primary"
                )

    def exact(self, column: Column[Any]) -> ColumnElement[Any]:
        """Collations equate case, accents and trailing spaces."""
        return literal_column(f"CAST(CONVERT({column.name} USING utf8mb4) AS BINARY)", column.type)

    # --- is the table at fault?

    def known_faults(self) -> list[Fault]:
        """Ids that are used up, an engine without transactions."""
        table = self._described()
        self._signed = table.signed
        return list(mysql_faults.known_faults(table, self.where, self.spec))

    def can_probe(self) -> bool:
        return self._described().transactional

    def concerns_value(self, error: RecordRejected) -> bool:
        return error.sqlstate in mysql_faults.ABOUT_A_VALUE

    def free_id(self) -> int | None:
        """A negative id leaves AUTO_INCREMENT where it is."""
        return -1 if self._signed else None

    def probe_fault(self, error: RecordRejected) -> TableAtFault | None:
        """Ids that are used up show as a duplicate key."""
        return mysql_faults.key_fault(self.where, self.spec, error)

    def _described(self) -> mysql_faults.Table:
        with self.reading() as connection:
            return mysql_faults.describe(connection, self.spec)

    def _value(self, connection: Connection, sql: str, *parameters: Any) -> Any:
        return connection.exec_driver_sql(sql, parameters or None).scalar()
