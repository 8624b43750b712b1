"""Decodes the fields of a stream entry to a record, or to the reason for rejecting it: pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from operator import gt
from sys import maxsize
from typing import NamedTuple, TypeAlias

from devicevault_cli.json_text import list_problem
from devicevault_cli.records import INT4_MAX, LATEST, DeviceResult, Micros, Record, StorageResult

Fields: TypeAlias = Mapping[bytes, bytes]

FIRST_ID = b"_dvctl.id"
"""Field of a re-published message and of a dead letter: the id the message had first."""
CONFIGURATION = b"device_config"
"""Field with what was collected: the results table does not hold it, the storage workers store it."""
SUCCESS = "success"
"""The status of messages whose configuration is to be stored; its case counts."""


RESULT_NOTES = ("timestamp", "collection_duration_ms", "initiated_at")
STORAGE_NOTES = ("timestamp", "storage_duration_ms")
"""The names that the notes of a record can have, by kind of message."""


class Decoded(NamedTuple):
    """A record, and the names of fields that were replaced by NULL or clamped."""

    record: Record
    notes: tuple[str, ...] = ()


class Rejected(NamedTuple):
    """The message itself is bad. `detail` is for people and holds no secret."""

    reason: str
    detail: str = ""


EMPTY = Rejected("empty-message", "none of the known fields is there")


class Skipped(NamedTuple):
    """Not for this pipeline."""

    detail: str


Decision: TypeAlias = Decoded | Rejected | Skipped
Decoder: TypeAlias = Callable[[int, int, Fields, int], Decision]
"""(ms and sequence number of the entry's id, its fields, the largest device id) -> what becomes of it."""

RESULT_FIELDS = frozenset(
    b"task_id task_identifier device_id status log device_config collection_duration_ms initiated_at is_binary".split()
)
STORAGE_FIELDS = frozenset(
    b"operation task_id task_identifier device_id status log storage_backend storage_ref storage_duration_ms".split()
)


def decode_result(ms: int, seq: int, fields: Fields, device_id_max: int = INT4_MAX) -> Decision:
    """Decode a message of `device:results`."""
    common = _common(fields, device_id_max)
    if isinstance(common, Rejected):
        return EMPTY if RESULT_FIELDS.isdisjoint(fields) else common
    task_id, task_identifier, device_id, status, log = common
    timestamp, notes = _timestamp(ms, seq, fields)
    raw = fields.get(b"collection_duration_ms", b"")
    duration = _milliseconds(raw)
    if raw and duration is None:
        notes += ("collection_duration_ms",)
    raw = fields.get(b"initiated_at", b"")
    initiated_at = parse_time(raw)
    if raw and initiated_at is None:
        notes += ("initiated_at",)
    overall = None
    if initiated_at is not None and 0 <= timestamp - initiated_at < (INT4_MAX + 1) * 1000:
        overall = (timestamp - initiated_at) // 1000
    record = (task_id, task_identifier, device_id, status, timestamp, log, initiated_at, duration, overall)
    return _made(Decoded, (_made(DeviceResult, record), notes))


_made = tuple.__new__
"""Makes a NamedTuple without its own constructor, a Python function that takes twice as long."""


def decode_storage(ms: int, seq: int, fields: Fields, device_id_max: int = INT4_MAX) -> Decision:
    """Decode a message of `storage:results`; another operation than `store` is skipped, none means `store`."""
    if fields.get(b"operation", b"") not in (b"", b"store"):
        return Skipped("the operation is not 'store'")
    common = _common(fields, device_id_max, STORAGE_TEXTS)
    if isinstance(common, Rejected):
        return EMPTY if STORAGE_FIELDS.isdisjoint(fields) else common
    task_id, task_identifier, device_id, status, log = common
    timestamp, notes = _timestamp(ms, seq, fields)
    raw = fields.get(b"storage_duration_ms", b"")
    duration = _milliseconds(raw)
    if raw and duration is None:
        notes += ("storage_duration_ms",)
    backend = fields.get(b"storage_backend", b"").decode()
    ref = fields.get(b"storage_ref", b"").decode()
    record = StorageResult(task_id, task_identifier, device_id, status, timestamp, log, backend, ref, duration)
    return Decoded(record, notes)


def first_id(fields: Fields) -> tuple[int, int] | None:
    """The id a re-published message had first, or None where the field is absent or malformed."""
    match = ID.fullmatch(fields.get(FIRST_ID, b""))
    first = (int(match[1]), int(match[2])) if match else None
    return first if first is not None and max(first) < ID_END else None


def parse_time(raw: bytes) -> Micros | None:
    """ISO 8601 with or without offset (naive means UTC), or None. `24:00`, second 60 and year 10000 are None."""
    if not TIME.fullmatch(raw):
        return None
    try:
        moment = datetime.fromisoformat(raw.decode("ascii").upper())
    except ValueError:
        return None
    micros = (moment - (EPOCH if moment.tzinfo else NAIVE_EPOCH)) // MICROSECOND
    # An offset can carry a time out of the years that a datetime knows.
    return micros if EARLIEST <= micros <= LATEST else None


ID = re.compile(rb"([0-9]{1,20})-([0-9]{1,20})")
ID_END = 2**64
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAIVE_EPOCH = EPOCH.replace(tzinfo=None)
MICROSECOND = timedelta(microseconds=1)
EARLIEST: Micros = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND
# Extended or basic format: fromisoformat sees to it that they are not mixed.
TIME = re.compile(
    rb"\d{4}-?\d\d-?\d\d(?:[Tt ](?:[01]\d|2[0-3]):?\d\d(?::?\d\d(?:[.,]\d+)?)?(?:[Zz]|[+-]\d\d(?::?\d\d)?)?)?"
)


class Texts(NamedTuple):
    """The text fields of a message, `log` last, and how many characters fit into their columns."""

    names: tuple[bytes, ...]
    limits: tuple[int, ...]


RESULT_TEXTS = Texts((b"task_id", b"task_identifier", b"status", b"log"), (64, 128, 16, maxsize))
STORAGE_TEXTS = Texts(
    (b"task_id", b"task_identifier", b"status", b"storage_backend", b"storage_ref", b"log"),
    (64, 128, 16, 32, 256, maxsize),
)

# Outside these years a time in an entry's id is kept, with a warning: somebody wrote the id by hand or a clock is off.
PLAUSIBLE = range(946_684_800_000, 4_102_444_800_000)


def _common(
    fields: Fields, device_id_max: int, wanted: Texts = RESULT_TEXTS
) -> tuple[str, str, int, str, str] | Rejected:
    """The five values both tables share, or the first reason against them, in the documented order."""
    get = fields.get
    try:
        texts = [get(name, b"").decode() for name in wanted.names]
    except UnicodeDecodeError:
        return Rejected("invalid-encoding", f"{_first_undecodable(fields, wanted.names)} is not UTF-8")
    if "\0" in "".join(texts):
        field = next(name for name, text in zip(wanted.names, texts, strict=True) if "\0" in text)
        return Rejected("nul-character", f"{field.decode()} holds a NUL character")
    raw = get(b"device_id", b"")
    if not raw:
        return Rejected("missing-device-id", "device_id is absent or empty")
    digits = raw.lstrip(b"0")
    if not raw.isdigit() or len(digits) > 19 or not 1 <= int(digits or b"0") <= device_id_max:
        return Rejected("invalid-device-id", f"device_id is {raw[:40].decode('ascii', 'backslashreplace')!r}")
    if True in map(gt, map(len, texts), wanted.limits):
        sized = zip(wanted.names, map(len, texts), wanted.limits, strict=True)
        name, length, limit = next(field for field in sized if field[1] > field[2])
        return Rejected("value-too-long", f"{name.decode()} has {length} characters, at most {limit} fit")
    log = texts[-1] or "[]"
    if problem := list_problem(log):
        return Rejected("malformed-log", f"log is {problem}")
    return texts[0], texts[1], int(digits), texts[2] or "failure", log


def _first_undecodable(fields: Fields, names: tuple[bytes, ...]) -> str:
    for name in names:
        try:
            fields.get(name, b"").decode()
        except UnicodeDecodeError:
            return name.decode()
    return "a field"


def _milliseconds(raw: bytes) -> int | None:
    """ASCII digits within int4, or None."""
    if not raw.isdigit() or len(raw.lstrip(b"0")) > 10:
        return None
    value = int(raw[-10:])
    return value if value <= INT4_MAX else None


def _timestamp(ms: int, seq: int, fields: Fields) -> tuple[Micros, tuple[str, ...]]:
    """The time in the id the message had first, clamped to 1970..9999, and a note where it is implausible."""
    if FIRST_ID in fields:
        ms, seq = first_id(fields) or (ms, seq)
    return min(ms * 1000 + seq % 1000, LATEST), () if ms in PLAUSIBLE else ("timestamp",)
