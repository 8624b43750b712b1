"""What an error code of a database means: retry, stop, or reject the record. By code, never by the driver's class."""

from __future__ import annotations

import re
from collections.abc import Sequence

from devicevault_cli.errors import (
    BadConfig,
    DvctlError,
    LockConflict,
    LocksExhausted,
    OtherServer,
    RecordRejected,
    Refused,
    SchemaMismatch,
    Unavailable,
)

_REACH = (
    "check that it is running, and host and port in --database-url or DEVICEVAULT_DATABASE_URL;"
    " see `dvctl help database-down`"
)
_PROMOTE = "check that the primary is running, or promote a standby; see `dvctl help database-down`"
_LATER = "nothing is lost; retry once the database is available"
_SCHEMA = "check that this is DeviceVault's database and migrated; `dvctl doctor` compares the columns"


def from_sqlstate(code: str, text: str, where: str) -> DvctlError:
    """A PostgreSQL error. `text`: the primary message, dropped for bad data, of which it may quote a value."""
    said = _line(text)
    if code[:2] in ("22", "23"):
        return RecordRejected(f"{where} rejects a record (SQLSTATE {code})", sqlstate=code)
    if code in ("28P01", "28000"):
        return Refused(
            f"{where} refuses the login: {said}",
            hint="check user, password and pg_hba.conf; see `dvctl help credentials-rotated`",
        )
    if code == "42501":
        return Refused(f"{where}: {said}", hint="ask the owner of the table for the right")
    if code == "3D000":
        return BadConfig(
            f"{where}: {said}", hint="check the database's name in --database-url or DEVICEVAULT_DATABASE_URL"
        )
    if code[:2] == "42":
        return SchemaMismatch(f"{where}: {said}", hint=_SCHEMA)
    if code == "53200":
        return LocksExhausted(f"{where} is out of memory or locks: {said}", hint="raise max_locks_per_transaction")
    if code == "25006":
        return Unavailable(
            f"{where} is read-only", hint="point --database-url or DEVICEVAULT_DATABASE_URL at the primary"
        )
    return Unavailable(f"{where}: {said} (SQLSTATE {code or 'none'})", hint=_LATER)


def no_answer(where: str, seconds: float) -> DvctlError:
    """Nothing answers: the connection is accepted without a reply, or every packet is dropped."""
    hint = (
        "check host and port in --database-url or DEVICEVAULT_DATABASE_URL, that the server is not overloaded,"
        " and the firewalls between"
    )
    return Unavailable(f"{where} did not answer within {seconds:g} s", hint=hint)


_REFUSALS = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|not permitted to log in|role .* does not exist"
    r"|permission denied for database|no such user|auth failed|requires a valid client certificate",
    re.IGNORECASE,
)
_PREAMBLE = re.compile(r"connection failed: |consuming input failed: |connection to server (at|on) .*? failed: ")
_NO_DATABASE = re.compile(r"database .* does not exist|no such database", re.IGNORECASE)
_MISCONFIGURED = re.compile(
    r"invalid (?:\S+ |integer )value|invalid port number|could not (?:load|read) .*(?:certificate|private key)"
    r"|certificate file .* does not exist|private key file .*"
    r"|conversion between \S+ and \S+ is not supported",
    re.IGNORECASE,
)


def from_libpq_connect(text: str, where: str) -> DvctlError:
    """A failure to connect: libpq gives no SQLSTATE then, so its text is all there is."""
    said = _libpq_line(text)
    if _NO_DATABASE.search(text):
        return from_sqlstate("3D000", said, where)
    if _REFUSALS.search(text):
        return from_sqlstate("28000", said, where)
    if _MISCONFIGURED.search(text):
        return BadConfig(f"{where}: {said}", hint="check the options in --database-url or DEVICEVAULT_DATABASE_URL")
    return Unavailable(f"{where} cannot be reached: {said}", hint=_REACH)


def from_libpq_attempts(attempts: Sequence[tuple[str, str, str]], where: str) -> DvctlError:
    """A failure to connect to any of several hosts. `attempts`: host, port and libpq's text of each.

    What one host refuses, another may allow once it is back: only what all refuse is more than an outage.
    """
    errors = [from_libpq_connect(text, where) for _, _, text in attempts]
    said = "; ".join(f"{host}{port and ':'}{port}: {_libpq_line(text)}" for host, port, text in attempts)
    if all(type(error) is type(errors[0]) for error in errors) and not isinstance(errors[0], Unavailable):
        return type(errors[0])(f"{where}: {said}", hint=errors[0].hint)
    read_only = any("read-only" in text for _, _, text in attempts)
    return Unavailable(f"{where}: no host can be used: {said}", hint=_PROMOTE if read_only else _REACH)


def other_server(timeline: int, required: int, where: str) -> OtherServer:
    """A server on another timeline than the one that is written to."""
    return OtherServer(f"{where} is on timeline {timeline}, not {required}")


def connection_lost(text: str, where: str) -> DvctlError:
    """A connection that broke while in use."""
    return Unavailable(f"{where}: {_libpq_line(text) or 'the connection was lost'}", hint=_LATER)


def _libpq_line(text: str) -> str:
    return _line(_PREAMBLE.sub("", text).partition("\n")[0])


_MYSQL_REJECTED = {
    167, 1048, 1062, 1136, 1153, 1264, 1265, 1292, 1364, 1366, 1367, 1406, 1411, 1451, 1452, 1467, 1526, 1644, 3140,
    3819, 4025,
}  # fmt: skip
_MYSQL_REFUSED = {1044, 1045, 1142, 1143, 1227, 1698}
_MYSQL_WHY = {
    1040: "it has too many connections",
    1205: "a lock could not be had in time",
    1213: "a deadlock",
    **dict.fromkeys((1290, 1792, 1836), "it is read-only"),
    **dict.fromkeys((1021, 1114), "its disk is full"),
    **dict.fromkeys((2006, 2013), "the connection was lost"),
}
# The value that an error quotes comes first, so the last match is the server's.
_MYSQL_COLUMN = re.compile(r"(?:[Cc]olumn|Field) (?:[`'][^`']*[`']\.)*[`']([^`']+)[`']")
_MYSQL_CONSTRAINT = re.compile(r"(?:CONSTRAINT|[Cc]heck constraint|for key) [`']([^`']+)[`']")


_MYSQL_LACKS = re.compile(r"^([A-Z, ]+) command denied to user (\S+) for table (\S+)$")


def from_mysql(number: int, text: str, where: str) -> DvctlError:
    """A MySQL or MariaDB error by its number (PyMySQL raises 1153 and 1292 as OperationalError)."""
    if number in _MYSQL_REJECTED:
        return RecordRejected(
            f"{where} rejects a record (error {number})",
            sqlstate=str(number),
            column=_last(_MYSQL_COLUMN, text),
            constraint=_last(_MYSQL_CONSTRAINT, text),
            said=_line(text),
        )
    if number in _MYSQL_REFUSED:
        hint = "check user and password; needed: SELECT, INSERT on the table, SELECT on the devices"
        if lacks := _MYSQL_LACKS.search(text):
            hint = "as its owner: GRANT {} ON {} TO {};".format(*lacks.group(1, 3, 2))
        return Refused(f"{where} refuses: {_line(text)}", hint=hint)
    if number in (2002, 2003, 2005):
        return Unavailable(f"{where} cannot be reached (error {number})", hint=_REACH)
    if number == 1049:
        return BadConfig(
            f"{where}: no such database", hint="check the database's name in --database-url or DEVICEVAULT_DATABASE_URL"
        )
    if number in (1054, 1146):
        return SchemaMismatch(f"{where}: {_line(text)}", hint=_SCHEMA)
    kind = LockConflict if number in (1205, 1213) else Unavailable
    return kind(f"{where}: {_MYSQL_WHY.get(number) or _line(text)} (error {number})", hint=_LATER)


_SQLITE_COLUMN = re.compile(r"NOT NULL constraint failed: (.+)")
_SQLITE_CONSTRAINT = re.compile(r"((?:UNIQUE|CHECK) constraint failed: .+)")
_SQLITE_REJECTED = {18: "SQLITE_TOOBIG", 19: "SQLITE_CONSTRAINT", 20: "SQLITE_MISMATCH"}
_NO_SUCH = re.compile(r"no such (table|column)|has no column named", re.IGNORECASE)


def from_sqlite(code: int, text: str, where: str) -> DvctlError:
    """An SQLite error by its result code; the low byte is the primary code."""
    primary = code & 0xFF
    if primary in _SQLITE_REJECTED:
        return RecordRejected(
            f"{where} rejects a record ({_SQLITE_REJECTED[primary]})",
            sqlstate=str(primary),
            column=_last(_SQLITE_COLUMN, text),
            constraint=_last(_SQLITE_CONSTRAINT, text).replace(" constraint failed:", ""),
            said=_line(text),
        )
    if primary in (3, 23):
        return Refused(f"{where}: {_line(text)}", hint="check the permissions of the file")
    if primary == 26:
        return BadConfig(f"{where}: {_line(text)}", hint="check the path in --database-url or DEVICEVAULT_DATABASE_URL")
    if primary == 1 and _NO_SUCH.search(text):
        return SchemaMismatch(f"{where}: {_line(text)}", hint=_SCHEMA)
    if primary == 14:
        hint = "dvctl does not create it: check the path, or make a test database with `dvctl db init`"
        return Unavailable(f"{where} cannot be opened", hint=hint)
    return Unavailable(f"{where}: {_line(text)} (SQLite code {code})", hint=_LATER)


def _last(pattern: re.Pattern[str], text: str) -> str:
    """What the last match names, or nothing."""
    found: list[str] = pattern.findall(text)
    return _line(found[-1])[:100] if found else ""


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
