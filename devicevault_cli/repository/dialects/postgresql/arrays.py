"""PostgreSQL's binary format for arrays: one parameter carries a column of a whole batch.

Text arrays made by a general dumper cost more than the insert itself; these are joined by C code.
Layout (src/backend/utils/adt/arrayfuncs.c, array_recv): number of dimensions, has-null flag, element type,
length, lower bound, then each element with its length, -1 for NULL. Everything is big-endian.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from struct import Struct
from typing import NamedTuple

from devicevault_cli.records import Micros

_HEADER = Struct(">iiIii")
_LENGTH = Struct(">i")
_INT8 = Struct(">iq")
_NULL = _LENGTH.pack(-1)
_TEXT_OID, _INT8_OID, _TIMESTAMPTZ_OID = 25, 20, 1184
_TEXTS, _INT8S, _TIMESTAMPTZS = 1009, 1016, 1185

EPOCH: Micros = 946_684_800_000_000
"""2000-01-01, where PostgreSQL's timestamps begin."""


class Array(NamedTuple):
    """An array in binary format and the OID of its type."""

    data: bytes
    oid: int


def texts(values: Sequence[str] | Sequence[bytes]) -> Array:
    """text[], of text or of its UTF-8."""
    encoded = [value if isinstance(value, bytes) else value.encode() for value in values]
    lengths = map(_LENGTH.pack, map(len, encoded))
    return _array(chain.from_iterable(zip(lengths, encoded, strict=True)), len(values), _TEXT_OID, _TEXTS)


def integers(values: Sequence[int | None]) -> Array:
    """bigint[], also for columns of integer: the server's assignment cast checks the range."""
    return _array(_int8s(values), len(values), _INT8_OID, _INT8S)


def instants(values: Sequence[Micros | None]) -> Array:
    """timestamptz[]"""
    moved = [None if value is None else value - EPOCH for value in values]
    return _array(_int8s(moved), len(values), _TIMESTAMPTZ_OID, _TIMESTAMPTZS)


def _int8s(values: Iterable[int | None]) -> Iterable[bytes]:
    return [_NULL if value is None else _INT8.pack(8, value) for value in values]


def _array(elements: Iterable[bytes], length: int, element: int, oid: int) -> Array:
    # The flag that NULLs may occur costs nothing; without any element there is no dimension.
    header = _HEADER.pack(1, 1, element, length, 1) if length else _HEADER.pack(0, 0, element, 0, 0)[:12]
    return Array(b"".join(chain((header,), elements)), oid)
