"""Microseconds since 1970 to and from what SQLite and MySQL store: naive UTC, as Django writes it."""

from __future__ import annotations

from datetime import datetime, timedelta

from devicevault_cli.records import Micros

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
_MICROSECOND = timedelta(microseconds=1)


def to_text(instant: Micros) -> str:
    """`YYYY-MM-DD HH:MM:SS[.ffffff]`; a fraction of zero is left out."""
    return (_EPOCH + timedelta(0, 0, instant)).isoformat(" ")


def to_micros(stored: str | datetime) -> Micros:
    """The instant a database gave back: text (SQLite), naive UTC (MySQL) or with an offset (PostgreSQL)."""
    moment = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
    offset = moment.utcoffset() or timedelta()
    return (moment.replace(tzinfo=None) - _EPOCH - offset) // _MICROSECOND
