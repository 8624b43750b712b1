"""Everything that can go wrong, as a small tree: each class knows its exit code, each error its next step."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What dvctl's process ends with; from 64 on as in sysexits.h, above 128 as shells report signals."""

    OK = 0
    FAILED = 1
    USAGE = 2
    FOUND = 3
    """The command ran and found a problem: verify, doctor. For check: unknown."""
    UNAVAILABLE = 69
    REFUSED = 77
    CONFIG = 78
    INTERRUPTED = 130
    READER_GONE = 141


class DvctlError(Exception):
    """dvctl failed."""

    exit_code: int = ExitCode.FAILED
    server: str = ""
    """Which server an outage is of, where the error says so: `redis` or `broker`; a database's errors say nothing."""

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        super().__init__(message or self.__doc__ or "dvctl failed.")
        self.hint = hint


class Usage(DvctlError):
    """The command line cannot be understood."""

    exit_code = ExitCode.USAGE


class NotConfirmed(Usage):
    """A changing command needs confirmation."""


class Cancelled(NotConfirmed):
    """Cancelled; no changes made."""

    exit_code = ExitCode.FAILED


class NothingMatched(DvctlError):
    """Nothing matched of the ids or names that were typed."""


class NothingSucceeded(DvctlError):
    """Nothing that was selected succeeded."""


class ConsumerAlive(DvctlError):
    """A consumer of the group is alive."""


class StalePlan(DvctlError):
    """The state changed between the plan and its application."""


class Damaged(DvctlError):
    """A snapshot or export is truncated or was edited."""


class BadConfig(DvctlError):
    """The configuration is wrong."""

    exit_code = ExitCode.CONFIG


class IndexRequired(BadConfig):
    """Several servers write the table, and no unique index prevents duplicate rows."""


class Unavailable(DvctlError):
    """Redis or the database cannot do its work now: away, starting, locked, full or read-only. Retrying later helps."""

    exit_code = ExitCode.UNAVAILABLE


class LockConflict(Unavailable):
    """A deadlock, or a lock that another transaction kept too long: the same may succeed at once."""


class MemoryFull(Unavailable):
    """Redis is out of memory: it acknowledges, but takes no new entries."""


class Refused(DvctlError):
    """Redis or the database was reached and refused: a wrong password or a missing right."""

    exit_code = ExitCode.REFUSED


class UnknownCommand(Refused):
    """Redis does not know a command that dvctl needs."""


class MissingGroup(DvctlError):
    """The stream or the consumer group does not exist."""


class WrongType(DvctlError):
    """A key of dvctl's holds another type of value."""


class SchemaMismatch(BadConfig):
    """The database lacks a table or a column that dvctl needs."""


class RecordRejected(DvctlError):
    """The database refuses a record for good; of several records it is not known which.

    `sqlstate`: the code. `column`, `constraint`: what the database names, where it does. `said`: the database's own
    words; they may quote a value, so they are shown only where every value is dvctl's own.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        sqlstate: str = "",
        column: str = "",
        constraint: str = "",
        said: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.sqlstate, self.column, self.constraint, self.said = sqlstate, column, constraint, said

    @property
    def detail(self) -> str:
        """What a dead letter says: the code, and the constraint or column, but no value."""
        code = f"SQLSTATE {self.sqlstate}: {self}" if self.sqlstate else str(self)
        subject = f", constraint {self.constraint}" if self.constraint else f", column {self.column}"
        return code + subject if self.constraint or self.column else code


class TableAtFault(Unavailable):
    """The table refuses rows for a reason that is not in the message: it has to be repaired, then retries succeed."""


class OtherServer(Unavailable):
    """The database server is not the one that was written to before: a standby was promoted, or an old primary is back.

    Nothing is written to it before that is cleared up.
    """


class LocksExhausted(Unavailable):
    """The database's lock table is full: a smaller batch may fit."""
