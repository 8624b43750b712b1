"""The log on stderr: one line a record, untrusted text inert, without secrets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from devicevault_cli.log_fields import fields_of
from devicevault_cli.output.escapes import to_json, visible
from devicevault_cli.output.printer import Printer, log_head
from devicevault_cli.output.systemd import is_journal
from devicevault_cli.redact import scrub

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))


class _Handler(logging.Handler):
    """Writes through the printer, so that a line of progress is not torn."""

    def __init__(self, printer: Printer, shape: Callable[[logging.LogRecord, str], str]) -> None:
        super().__init__()
        self._printer = printer
        self._shape = shape
        self._told = 0

    def emit(self, record: logging.LogRecord) -> None:
        """One line a record, and one about those that were dropped, once lines can be written again."""
        self._tell_dropped()
        self._printer.line(self._shape(record, scrub(record.getMessage())))

    def _tell_dropped(self) -> None:
        stderr = self._printer.stderr
        missing = stderr.dropped - self._told
        if missing:
            text = f"{missing} log {'line' if missing == 1 else 'lines'} could not be written: {stderr.reason}"
            record = logging.LogRecord("dvctl.log", logging.WARNING, "", 0, text, None, None)
            if stderr.try_line(self._shape(record, text)):
                self._told = stderr.dropped


def log_to(printer: Printer, *, as_json: bool = False, verbose: bool = False, pipelines: Collection[str] = ()) -> None:
    """A daemon's log: with the time, from info on, with `verbose` from debug on.

    The journal keeps the time and the level of each line itself: it reads the level from a number at the beginning.
    pipelines: those that run in threads of these names; their lines say which of them wrote it.
    """
    journal = is_journal(printer.terminal.stderr)
    form = _json if as_json else _unstamped if journal else _stamped

    def shape(record: logging.LogRecord, message: str) -> str:
        name = (record.threadName or "").partition("/")[0]
        line = form(record, message, name if name in pipelines else "")
        return f"<{_priority(record)}>{line}" if journal else line

    _send(_Handler(printer, shape), logging.DEBUG if verbose else logging.INFO)


def warn_to(printer: Printer, *, verbose: bool = False) -> None:
    """Any other command's log: warnings only, with `verbose` from debug on."""
    _send(_Handler(printer, _plain), logging.DEBUG if verbose else logging.WARNING)


@contextmanager
def muted() -> Iterator[None]:
    """No log: what would stand there is said in another way."""
    logger = logging.getLogger("dvctl")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _send(handler: logging.Handler, level: int) -> None:
    logger = logging.getLogger("dvctl")
    # Replaced, not added: tests run many command lines in one process.
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False
    # What libraries warn of, which may quote a server.
    logging.lastResort = handler


def _plain(record: logging.LogRecord, message: str) -> str:
    return f"{record.levelname.lower()}: {visible(message)}"


def _stamped(record: logging.LogRecord, message: str, pipeline: str) -> str:
    prefix = f"{pipeline}: " if pipeline else ""
    return f"{_time(record)} {record.levelname.lower():7} {prefix}{visible(message)}"


def _unstamped(record: logging.LogRecord, message: str, pipeline: str) -> str:
    return f"{pipeline}: {visible(message)}" if pipeline else visible(message)


def _json(record: logging.LogRecord, message: str, pipeline: str) -> str:
    head = log_head(_time(record), record.levelname.lower(), record.name)
    about = {name: scrub(value) if isinstance(value, str) else value for name, value in fields_of(record).items()}
    return to_json(head | ({"pipeline": pipeline} if pipeline else {}) | about | head | {"message": message})


def _priority(record: logging.LogRecord) -> int:
    """The level as syslog(3) and sd-daemon(3) number it."""
    return next(number for level, number in _PRIORITIES if record.levelno >= level)


def _time(record: logging.LogRecord) -> str:
    stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")
