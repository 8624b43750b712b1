"""Decodes a page of messages by column, where every one of them is usual: each step for all of them at once, in C.

`messages.py` is the reference. What is decoded here becomes the same record there, without a note; a page in which
anything at all is unusual is not decoded here, though its parts may be (`tests/unit/test_columns.py` compares them).
CPU time of a message of 2 KB in microseconds, one by one and by column (Python 3.11, pages of 128): log 0.9 and 0.4,
texts and device 1.8 and 0.4, `initiated_at` 1.2 and 0.6, everything 6.1 and 1.7.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any, NamedTuple, TypeAlias, TypeVar

from devicevault_cli.messages import (
    EARLIEST,
    EPOCH,
    FIRST_ID,
    ID,
    ID_END,
    MICROSECOND,
    NAIVE_EPOCH,
    PLAUSIBLE,
    RESULT_TEXTS,
    STORAGE_TEXTS,
    TIME,
    Texts,
)
from devicevault_cli.record_columns import Column, RecordColumns, RecordKeys
from devicevault_cli.records import INT4_MAX, LATEST, DeviceResult, Micros, StorageResult
from devicevault_cli.streams.model import EntryId
from devicevault_cli.streams.page import FEW, Page

T = TypeVar("T")

ColumnDecoder: TypeAlias = Callable[[Page, int], RecordColumns | None]
"""(a page, the largest device id) -> the record of each entry, in order; None: an entry has to be looked at alone."""
KeyDecoder: TypeAlias = Callable[[Page, int], RecordKeys | None]
"""The same for keys: every message has a record, of which times and durations are not decoded."""

SOME, SEVERAL = 16, 128
"""A page with an unusual entry is decoded in parts of so many: a page of a thousand first in the larger ones."""


class _Unusual(ValueError):
    """Something that a record is not made of, or not by these rules."""


def decoded_parts(
    page: Page, decoder: Callable[[Page, int], T | None], device_id_max: int
) -> Iterator[tuple[Page, T | None]]:
    """The page in parts, in order, each with what the decoder makes of it; None: its messages have to be decoded one by
    one.
    """
    found = decoder(page, device_id_max) if len(page) >= FEW else None
    if found is not None or len(page) <= SOME:
        yield page, found
        return
    step = SEVERAL if len(page) > SEVERAL else SOME
    for start in range(0, len(page), step):
        yield from decoded_parts(page[start : start + step], decoder, device_id_max)


def decode_results(page: Page, device_id_max: int = INT4_MAX) -> RecordColumns | None:
    """Decode messages of `device:results`."""
    try:
        task_id, task_identifier, device_id, status, timestamp, log = _common(page, device_id_max, RESULT_TEXTS)
        duration = _milliseconds(page.column(b"collection_duration_ms"))
        initiated_at = _instants(page.column(b"initiated_at"))
        _require_json_lists(log)
    except ValueError:  # what int(), bytes.decode(), fromisoformat() and the JSON parser raise too
        return None
    overall = _overall(timestamp, initiated_at)
    columns = (task_id, task_identifier, device_id, status, timestamp, log, initiated_at, duration, overall)
    return RecordColumns(DeviceResult, columns)


def decode_stored(page: Page, device_id_max: int = INT4_MAX) -> RecordColumns | None:
    """Decode messages of `storage:results`."""
    if not {b"", b"store"}.issuperset(page.column(b"operation")):
        return None
    try:
        common = _common(page, device_id_max, STORAGE_TEXTS)
        duration = _milliseconds(page.column(b"storage_duration_ms"))
        _require_json_lists(common[-1])
    except ValueError:
        return None
    return RecordColumns(
        StorageResult, (*common, page.column(b"storage_backend"), page.column(b"storage_ref"), duration)
    )


def result_keys(page: Page, device_id_max: int = INT4_MAX) -> RecordKeys | None:
    """Decode the keys of messages of `device:results`."""
    return _keys(page, device_id_max, RESULT_TEXTS)


def stored_keys(page: Page, device_id_max: int = INT4_MAX) -> RecordKeys | None:
    """Decode the keys of messages of `storage:results`."""
    if not {b"", b"store"}.issuperset(page.column(b"operation")):
        return None
    return _keys(page, device_id_max, STORAGE_TEXTS)


def _keys(page: Page, device_id_max: int, wanted: Texts) -> RecordKeys | None:
    if page.has(FIRST_ID):
        return None
    try:
        shared = _shared(page, device_id_max, wanted)
        _require_json_lists(shared.log)
    except ValueError:
        return None
    return RecordKeys(shared.task_identifier, shared.device_id, shared.status)


class _Shared(NamedTuple):
    """The columns both tables share, but for the time."""

    task_id: Column
    task_identifier: Column
    device_id: Column
    status: Column
    log: Column


def _shared(page: Page, device_id_max: int, wanted: Texts) -> _Shared:
    """Callers check `log` at the end: that costs most."""
    log = _replaced(page.column(b"log"), b"[]")
    texts = {name: page.column(name) for name in wanted.names if name != b"log"}
    devices = _devices(page, device_id_max)
    _require_texts(list(texts.values()), wanted.limits)
    status = _replaced(texts[b"status"], b"failure")
    return _Shared(texts[b"task_id"], texts[b"task_identifier"], devices, status, log)


def _common(page: Page, device_id_max: int, wanted: Texts) -> tuple[Column, Column, Column, Column, Column, Column]:
    """The six columns both tables share; `log` is still to be checked."""
    ids = first_ids(page)
    task_id, task_identifier, device_id, status, log = _shared(page, device_id_max, wanted)
    return task_id, task_identifier, device_id, status, _timestamps(ids), log


def _replaced(column: Sequence[bytes], default: bytes) -> Sequence[bytes]:
    return [value or default for value in column] if b"" in column else column


def _require_texts(columns: Sequence[Sequence[bytes]], limits: Sequence[int]) -> None:
    """UTF-8 without NUL that fits: one look at all texts together. As many bytes are at most as many characters."""
    for column, limit in zip(columns, limits, strict=False):
        if max(map(len, column)) > limit:
            raise _Unusual
    together = b"\n".join(chain.from_iterable(columns))  # a line end is no part of any other character
    if b"\0" in together:
        raise _Unusual
    if not together.isascii():
        together.decode()


def _require_json_lists(log: Sequence[bytes]) -> None:
    """orjson decides alone: whatever it takes is UTF-8 and JSON for the reference too.

    0.4 us a log instead of 0.9 by json. What it refuses and json takes (half a surrogate pair as an escape, numbers of
    any size) is unusual.
    """
    if set(map(type, map(_json_parser(), log))) != {list}:
        raise _Unusual


@cache
def _json_parser() -> Callable[[bytes], Any]:
    from orjson import loads

    return loads


def _devices(page: Page, device_id_max: int) -> list[int]:
    devices = page.column(b"device_id")
    if b"" in devices or not b"".join(devices).isdigit():
        raise _Unusual
    numbers = list(map(int, devices))
    if min(numbers) < 1 or max(numbers) > device_id_max:
        raise _Unusual
    return numbers


def first_ids(page: Page) -> Sequence[EntryId]:
    """The ids that the messages had first. Raises ValueError where only some are re-published, or one has no such id.

    One match and one split for all of them: 0.7 us an entry instead of 1.5.
    """
    if not page.has(FIRST_ID):
        return page.ids
    texts = page.column(FIRST_ID)
    together = b"\n".join(texts)
    if not _ids().fullmatch(together):
        raise _Unusual
    numbers = list(map(int, together.replace(b"\n", b"-").split(b"-")))
    if len(numbers) != 2 * len(texts) or max(numbers) >= ID_END:  # a text with a line end in it is two ids
        raise _Unusual
    return list(map(EntryId._make, zip(numbers[::2], numbers[1::2], strict=True)))


@cache
def _ids() -> re.Pattern[bytes]:
    return re.compile(rb"(?:%(id)s\n)*%(id)s" % {b"id": ID.pattern})


def _timestamps(ids: Sequence[EntryId]) -> list[Micros]:
    if min(ids)[0] not in PLAUSIBLE or max(ids)[0] not in PLAUSIBLE:
        raise _Unusual
    return [ms * 1000 + seq % 1000 for ms, seq in ids]


def _milliseconds(column: Sequence[bytes]) -> list[int | None]:
    digits = _present(column)
    if not digits:
        return [None] * len(column)
    if not b"".join(digits).isdigit():
        raise _Unusual
    numbers = list(map(int, digits))
    if max(numbers) > INT4_MAX:
        raise _Unusual
    return _spread(numbers, column)


def _instants(column: Sequence[bytes]) -> list[Micros | None]:
    """One match, one `upper` and one difference for all texts: the same pattern and functions as for one."""
    texts = _present(column)
    if not texts:
        return [None] * len(column)
    together = b"\n".join(texts)
    if not _times().fullmatch(together):
        raise _Unusual
    lines = together.decode("ascii").upper().split("\n")
    if len(lines) != len(texts):  # a text with a line end in it is two times together, and none alone
        raise _Unusual
    moments = list(map(datetime.fromisoformat, lines))
    epoch = EPOCH if moments[0].tzinfo else NAIVE_EPOCH
    try:
        micros = [(moment - epoch) // MICROSECOND for moment in moments]
    except TypeError:  # some have an offset, some have none
        raise _Unusual from None
    if min(micros) < EARLIEST or max(micros) > LATEST:
        raise _Unusual
    return _spread(micros, column)


@cache
def _times() -> re.Pattern[bytes]:
    return re.compile(rb"(?:%(time)s\n)*%(time)s" % {b"time": TIME.pattern})


def _overall(timestamps: Sequence[Micros], begun: Sequence[Micros | None]) -> list[int | None]:
    most = (INT4_MAX + 1) * 1000
    return [
        (timestamp - begin) // 1000 if begin is not None and 0 <= timestamp - begin < most else None
        for timestamp, begin in zip(timestamps, begun, strict=True)
    ]


def _present(column: Sequence[bytes]) -> Sequence[bytes]:
    """The values that are not empty."""
    return list(filter(None, column)) if b"" in column else column


def _spread(values: Sequence[int], column: Sequence[bytes]) -> list[int | None]:
    """Each value at the place its text has in the column; None where that is empty."""
    if len(values) == len(column):
        return list(values)
    left = iter(values)
    return [next(left) if text else None for text in column]
