"""Ids, reasons and counts of a log record as values of their own, which the log as JSON shows beside the message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import LogRecord
from threading import current_thread
from typing import Any

_of_threads: dict[str, dict[str, str]] = {}


def fields(**values: object) -> dict[str, Mapping[str, object]]:
    """The argument `extra` of a log call."""
    return {"fields": values}


@contextmanager
def logged_as(**values: str) -> Iterator[None]:
    """Every record of this thread, and of those that are named `THREAD/...` after it, has these fields too."""
    name = _main_part(current_thread().name)
    _of_threads[name] = values
    try:
        yield
    finally:
        del _of_threads[name]


def fields_of(record: LogRecord) -> dict[str, Any]:
    """The fields of a record: those of its thread, then its own."""
    return {**_of_threads.get(_main_part(record.threadName or ""), {}), **getattr(record, "fields", {})}


def _main_part(thread: str) -> str:
    return thread.partition("/")[0]
