"""MySQL and MariaDB: a named lock around each transaction, comparisons byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from devicevault_cli.errors import BadConfig, DvctlError, RecordRejected, TableAtFault, Unavailable
from devicevault_cli.records import Record
from devicevault_cli.repository.dialects import mysql_faults
from devicevault_cli.repository.errors import from_mysql, no_answer
from devicevault_cli.repository.faults import Fault
from devicevault_cli.repository.locked_insert import PlainRepository, needed_columns
from devicevault_cli.repository.model import CompletedSave
from devicevault_cli.repository.repertoire import Repertoire, Repertoires
from devicevault_cli.repository.repository import Value
from devicevault_cli.repository.sql import marks
from devicevault_cli.repository.tables import RESULTS, TableSpec
from devicevault_cli.repository.unencodable import save_around
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


_UNICODE = ("utf8mb4", "utf16", "utf16le", "utf32", "gb18030")
"""Character sets that hold every character. Binary columns have none."""
_CHARACTER_SETS = f"""
SELECT table_name, column_name, character_set_name FROM information_schema.columns
WHERE table_schema = DATABASE() AND table_name IN (%s, %s) AND character_set_name NOT IN ({marks(_UNICODE)})"""


class MysqlRepository(PlainRepository):
    """One table of a MySQL or MariaDB database."""

    dialect = "mysql"

    def __init__(self, url: DatabaseUrl, spec: TableSpec) -> None:
        try:
            import pymysql
        except ImportError:
            raise BadConfig("mysql:// needs PyMySQL", hint="pip install 'dvctl[mysql]'") from None
        super().__init__(url, spec)
        self._driver = pymysql
        # The name is the whole server's, at most 64 characters.
        digest = hashlib.sha256(f"{url.name}.{spec.name}".encode()).hexdigest()
        self._lock = f"dvctl:{digest[:40]}"
        self._packet = 0
        self._transactional = self._signed = True
        self._connection: pymysql.Connection[Any] | None = None

    def _connected(self) -> pymysql.Connection[Any]:
        if self._connection is None:
            connection = self._connect()
            self._connection = connection
            with connection.cursor() as cursor:
                for statement in _SESSION:
                    cursor.execute(statement)
                cursor.execute("SELECT @@max_allowed_packet")
                self._packet = int(cursor.fetchall()[0][0])
            self._repertoires = self._learn_character_sets()
        return self._connection

    def _learn_character_sets(self) -> Repertoires:
        """One Repertoire for each character set, by the columns that have it."""
        of_set: dict[str, Repertoire] = {}
        found: dict[tuple[str, str], Repertoire] = {}
        for table, column, name in self._rows(_CHARACTER_SETS, (self.spec.name, RESULTS.name, *_UNICODE)):
            if name not in of_set:
                of_set[name] = Repertoire(partial(self._unchanged, name))
            found[table, column] = of_set[name]
        return found

    def _unchanged(self, character_set: str, characters: list[str]) -> list[str]:
        """What comes back as it was from a character set; a character that it lacks comes back as `?`."""
        with self._translated():
            converted = f"SELECT CONVERT(CONVERT(%s USING {character_set}) USING utf8mb4)"
            [[back]] = self._rows(converted, ["\n".join(characters)])
        pairs = zip(characters, back.split("\n"), strict=True)
        return [character for character, returned in pairs if character == returned]

    def submit(self, records: Sequence[Record]) -> CompletedSave:
        """Save the records and return when it is done."""
        encodable = self.encodable(records)
        return super().submit(records) if all(encodable) else save_around(self, records, encodable, "1366")

    def _ready(self) -> None:
        with self._translated():
            self._connected()

    def _connect(self) -> pymysql.Connection[Any]:
        """Log in. Until then the server has CONNECT_S for each step; a statement may take ANSWER_S."""
        url, options = self.url, self.url.options
        seconds = self._connect_seconds()
        try:
            connection = self._driver.connect(
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
        except self._driver.MySQLError as error:
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
            raise BadConfig(message, hint="correct it in --database-url")
        return int(given)

    def check(self, *, writing: bool = True) -> None:
        """The server answers, has the tables and columns, and (`writing`) is not read-only."""
        needed = needed_columns(self)
        described = self._select(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            f" WHERE table_schema = DATABASE() AND table_name IN ({marks(list(needed))})",
            list(needed),
        )
        there: dict[str, dict[str, str]] = {}
        for table, column, kind in described:
            there.setdefault(table, {})[column] = kind
        self._learn_columns(there)
        if writing and self._select("SELECT @@global.read_only")[0][0] not in (0, "OFF"):
            raise Unavailable(f"{self.where} is read-only", hint="is it a replica? point --database-url at the primary")
        if writing:
            self.require_rows_taken()

    def faults(self) -> list[Fault]:
        """What is wrong with the table, the worst first."""
        table = mysql_faults.describe(self._select, self.spec)
        found = list(mysql_faults.known_faults(table, self.where, self.spec))
        self._transactional, self._signed = table.transactional, table.signed
        if not any(fault.refuses for fault in found) and (refused := self._probe(draw_id=False)):
            found.insert(0, Fault(refused))
        return found

    def fault_behind(self, error: RecordRejected, record: Record) -> TableAtFault | None:
        """Without transactions there is no probe: then only errors about a value's length or kind are the record's."""
        self._transactional = mysql_faults.describe(self._select, self.spec).transactional
        if self._transactional or mysql_faults.is_about_a_value(error):
            return super().fault_behind(error, record)
        return self._probe_refused(error)

    def _probe(self, avoid: int = 0, *, draw_id: bool = True) -> TableAtFault | None:
        return super()._probe(avoid, draw_id=draw_id) if self._transactional else None

    def _probe_refused(self, error: RecordRejected) -> TableAtFault:
        return mysql_faults.key_fault(self.where, self.spec, error) or super()._probe_refused(error)

    def _free_id(self) -> int | None:
        """A negative id leaves AUTO_INCREMENT where it is."""
        return -1 if self._signed else None

    def close(self) -> None:
        """Close the connection; the server rolls back and releases the lock."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(self._driver.MySQLError):
                connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translates errors; after one the connection is closed: 1205 alone would leave half a transaction open."""
        try:
            yield
        except self._driver.MySQLError as error:
            self.close()
            number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
            said = str(error.args[1]) if len(error.args) > 1 else str(error)
            meaning = from_mysql(number, said, self.where)
            if isinstance(meaning, RecordRejected):
                meaning = mysql_faults.certain_fault(self.where, self.spec, meaning) or meaning
            raise meaning from None
        except (OSError, EOFError) as error:
            self.close()
            raise from_mysql(2013, str(error), self.where) from None
        except BaseException:
            self.close()
            raise

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._translated():
            if self._rows("SELECT GET_LOCK(%s, %s)", (self._lock, LOCK_S))[0][0] != 1:
                raise Unavailable(
                    f"{self.where}: another dvctl held the lock for {LOCK_S} s{self._end_frozen_holder()}",
                    hint="try again",
                )
            self._rows("START TRANSACTION", ())
            yield
            self._rows("COMMIT", ())
            self._rows("SELECT RELEASE_LOCK(%s)", (self._lock,))

    def _end_frozen_holder(self) -> str:
        """End the session of a client that was frozen with the lock in hand: the server would wait for it for hours."""
        holder = self._rows(
            "SELECT id FROM information_schema.processlist"
            " WHERE id = IS_USED_LOCK(%s) AND command = 'Sleep' AND time >= %s",
            (self._lock, FROZEN_S),
        )
        if not holder:
            return ""
        self._rows(f"KILL {int(holder[0][0])}", ())
        return f"; ended session {holder[0][0]} of a client that had stopped while it held the lock"

    @contextmanager
    def _rolled_back(self) -> Iterator[None]:
        with self._translated():
            self._rows("START TRANSACTION", ())
            yield
            self._rows("ROLLBACK", ())

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._translated():
            self._rows("START TRANSACTION READ ONLY", ())
            yield
            self._rows("COMMIT", ())

    def _rows(self, sql: str, values: Sequence[Value]) -> list[tuple[Any, ...]]:
        with self._connected().cursor() as cursor:
            cursor.execute(sql, tuple(values) or None)
            return list(cursor.fetchall())

    def _write_many(self, sql: str, rows: Sequence[Sequence[Value]]) -> int:
        """PyMySQL joins the rows into statements of about 1 MB; a longer row has to fit into a packet by itself."""
        with self._connected().cursor() as cursor:
            for row in rows:
                # A server that gets too large a packet may just hang up, which looks like an outage.
                if sum(len(value) for value in row if isinstance(value, str)) * 8 > self._packet and (
                    len(cursor.mogrify(sql, tuple(row)).encode()) + 64 > self._packet
                ):
                    message = f"{self.where} takes at most {self._packet} bytes a packet; the record has more"
                    raise RecordRejected(message, sqlstate="1153", hint="raise max_allowed_packet")
            return cursor.executemany(sql, rows) or 0

    def _execute(self, statements: Sequence[str]) -> None:
        with self._translated():
            for statement in statements:
                self._rows(statement, ())

    def _existing_tables(self) -> set[str]:
        sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
        return {row[0] for row in self._select(sql)}

    def _create_index(self, name: str) -> None:
        raise AssertionError(name)

    def create_index(self) -> Any:
        """Refused: there are no partial indexes, and the usual collations equate identifiers that differ."""
        raise DvctlError(
            f"{self.where}: no unique index is possible on MySQL or MariaDB: it would have to leave out empty"
            " identifiers (no partial indexes), and collations equate case, accents and trailing spaces",
            hint="none is needed: dvctl takes a lock (GET_LOCK) around each batch",
        )

    def _exact(self, column: str) -> str:
        return f"CAST(CONVERT({column} USING utf8mb4) AS BINARY)"
